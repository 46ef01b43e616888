import { ReliveError } from '../core/error.ts';
import { removeImages } from '../image/remove.ts';
import { findImage } from '../image/store.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { counted } from './mirror.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const wanted = [...new Set(manyArguments(call, 0))];
  const images = await Promise.all(wanted.map(async (name) => await findImage(site.store, name)));
  for (const [index, { name, profile }] of images.entries()) {
    if (name === wanted[index]) continue;
    throw new ReliveError('usage', `${profile} is a profile: an image that is to go is named in full`, {
      hint: `the newest one is ${name}`,
    });
  }
  const removed = await removeImages(site.store, images, call.context);
  return {
    ok: true,
    data: { ...removed },
    text: `${removed.images.join(', ')} removed, with ${counted(removed.layers, 'layer')}: ${formatBytes(removed.bytes)}`,
  };
}
