import { ReliveError } from '../core/error.ts';
import { serveMirror } from '../mirror/serve.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue } from './command.ts';

function addressOf(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? Number.NaN);
  if (match !== null && port <= 65535) return { host: match[1] ?? match[2] ?? '', port };
  throw new ReliveError('usage', `${JSON.stringify(text)} is no address to listen on`, {
    hint: '--listen 127.0.0.1:3142, --listen [::1]:3142; --listen 0.0.0.0:3142 serves everybody',
  });
}

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const address = addressOf(optionValue(call, 'listen') ?? '127.0.0.1:3142');
  const site = await loadSite(call.siteDirectory);
  const serving = await serveMirror(site.mirror, address, context);
  context.emit({ event: 'note', message: `the mirrors are at ${serving.url}/REPOSITORY; Ctrl-C ends it` });
  for (const name of Object.keys(site.repositories)) {
    context.emit({ event: 'note', message: `  ${serving.url}/${name}` });
  }
  await new Promise<void>((resolve) =>
    context.signal.addEventListener('abort', () => resolve(), { once: true }),
  );
  await serving.close();
  // Ending it is how it is meant to end.
  return { ok: true, data: { url: serving.url }, text: '' };
}
