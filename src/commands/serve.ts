import { isReliveError, ReliveError } from '../core/error.ts';
import { type Offer, serveFiles } from '../host/file-server.ts';
import { offerStore } from '../image/serve.ts';
import { offerMirror } from '../mirror/serve.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';
import { listenOption, untilEnded } from './listen.ts';

/** What there is of a site: a factory may have no mirror, a mirror's host no images. */
async function unlessAbsent(offer: Promise<Offer>): Promise<Offer | undefined> {
  try {
    return await offer;
  } catch (error) {
    if (isReliveError(error, 'not-found')) return undefined;
    throw error;
  }
}

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const address = listenOption(call, '127.0.0.1:3143');
  const site = await loadSite(call.siteDirectory);
  const parts = new Map([
    ['store', await unlessAbsent(offerStore(site.store))],
    ['mirror', await unlessAbsent(offerMirror(site.mirror))],
  ]);
  if ([...parts.values()].every((part) => part === undefined)) {
    throw new ReliveError('not-found', `the site ${site.directory} has neither a store nor a mirror yet`, {
      hint: 'relive build PROFILE makes an image, relive mirror sync brings a mirror',
    });
  }
  const offer: Offer = async ([first = '', ...names]) => await parts.get(first)?.(names);
  const serving = await serveFiles(offer, { ...address, access: true }, context);
  for (const [name, part] of parts) {
    if (part === undefined) continue;
    const what = name === 'store' ? 'the store is' : 'the mirrors are';
    context.emit({ event: 'note', message: `${what} at ${serving.url}/${name}` });
  }
  await untilEnded(call);
  await serving.close();
  // Ending it is how it is meant to end.
  return { ok: true, data: { url: serving.url }, text: '' };
}
