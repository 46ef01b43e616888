import { spawn } from 'node:child_process';
import { mkdir, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { requireTool } from './tools.ts';

export interface Lock {
  readonly release: () => Promise<void>;
}

/** `flock -n` on a descriptor we hold: the lock belongs to the open file, so it outlives flock and dies with us. */
async function tryLock(descriptor: number): Promise<boolean> {
  return await new Promise((resolve, reject) => {
    const child = spawn(requireTool('flock'), ['--exclusive', '--nonblock', '3'], {
      stdio: ['ignore', 'ignore', 'ignore', descriptor],
    });
    child.once('error', reject);
    child.once('exit', (status) => resolve(status === 0));
  });
}

/**
 * Takes the one writer's lock on a file (flock(2)), which is made when it is missing and never removed. While
 * another process holds it, says so once and waits.
 * @param path the lock file
 * @param what what is locked, in words: "the store /srv/site/store"
 * @throws ReliveError `locked` when `wait` is false and another process holds it; the abort reason of the context
 */
export async function takeLock(
  path: string,
  what: string,
  context: Context,
  options: { readonly wait?: boolean } = {},
): Promise<Lock> {
  await mkdir(dirname(path), { recursive: true });
  const handle = await open(path, 'a+', 0o600);
  try {
    for (let attempt = 0; !(await tryLock(handle.fd)); attempt += 1) {
      const holder = (await readFile(path, 'utf8')).trim();
      const message = `${what} is in use${holder === '' ? '' : ` by ${holder}`}`;
      if (options.wait === false) {
        throw new ReliveError('locked', message, { hint: 'wait until that has ended, then start again' });
      }
      if (attempt === 0) context.emit({ event: 'warning', message: `${message}; waiting for it` });
      await new Promise((resolve) => setTimeout(resolve, 250));
      context.signal.throwIfAborted();
    }
    await handle.truncate(0);
    await handle.write(`relive (process ${process.pid})\n`, 0);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return { release: async () => await handle.close() };
}
