import { serveFiles } from '../host/file-server.ts';
import { offerMirror } from '../mirror/serve.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';
import { listenOption, untilEnded } from './listen.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const address = listenOption(call, '127.0.0.1:3142');
  const site = await loadSite(call.siteDirectory);
  const serving = await serveFiles(await offerMirror(site.mirror), { ...address, access: false }, context);
  context.emit({ event: 'note', message: `the mirrors are at ${serving.url}/REPOSITORY; Ctrl-C ends it` });
  for (const name of Object.keys(site.repositories)) {
    context.emit({ event: 'note', message: `  ${serving.url}/${name}` });
  }
  await untilEnded(call);
  await serving.close();
  // Ending it is how it is meant to end.
  return { ok: true, data: { url: serving.url }, text: '' };
}
