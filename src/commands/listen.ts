import { ReliveError } from '../core/error.ts';
import type { ServeOptions } from '../host/file-server.ts';
import { type Call, optionValue } from './command.ts';

/** Where a server listens: `--listen ADDRESS:PORT`. @throws ReliveError `usage` */
export function listenOption(call: Call, usual: string): ServeOptions {
  const text = optionValue(call, 'listen') ?? usual;
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3] ?? Number.NaN);
  if (match !== null && port <= 65535) return { host: match[1] ?? match[2] ?? '', port };
  throw new ReliveError('usage', `${JSON.stringify(text)} is no address to listen on`, {
    hint: `--listen ${usual}, --listen [::1]:${usual.replace(/^.*:/, '')}; --listen 0.0.0.0:${usual.replace(/^.*:/, '')} serves everybody`,
  });
}

/** Waits until the user, or systemd, ends the command. */
export async function untilEnded({ context }: Call): Promise<void> {
  if (context.signal.aborted) return;
  await new Promise<void>((resolve) =>
    context.signal.addEventListener('abort', () => resolve(), { once: true }),
  );
}
