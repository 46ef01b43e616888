import { spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { makeDirectories } from './files.ts';
import { requireTool } from './tools.ts';

export interface Lock {
  readonly release: () => Promise<void>;
}

/** What `flock --nonblock` ends with when another process has the lock (flock(1), --conflict-exit-code). */
const inUse = 75;
/** How much of a command line the lock file keeps. */
const longestHolder = 200;

/**
 * flock(1) on a descriptor we hold: the lock belongs to the open file, so it outlives flock and dies with us. In a
 * group of its own, so that the terminal's Ctrl-C, which is ours to answer, does not end it.
 * @param waitSeconds how long to wait for whoever has it; 0: not at all
 * @returns whether we have it now
 * @throws ReliveError `host-unable` when the file system has no locks
 */
export async function flock(
  descriptor: number,
  path: string,
  mode: 'exclusive' | 'shared',
  waitSeconds: number,
): Promise<boolean> {
  const wait = waitSeconds === 0 ? ['--nonblock'] : ['--wait', String(waitSeconds)];
  const status = await new Promise<number | null>((resolve, reject) => {
    const args = [`--${mode}`, ...wait, '--conflict-exit-code', String(inUse), '3'];
    const child = spawn(requireTool('flock'), args, {
      stdio: ['ignore', 'ignore', 'ignore', descriptor],
      detached: true,
      env: {},
    });
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (status === 0 || status === inUse) return status === 0;
  throw new ReliveError(
    'host-unable',
    `cannot lock ${path}: flock ended with status ${status ?? 'unknown'}`,
    {
      hint: 'is it on a file system that has no locks?',
    },
  );
}

/** What others are told of us: the process number says nothing, in a PID namespace it is always 1. */
function ourselves(): string {
  const command = ['relive', ...process.argv.slice(2)].join(' ').replaceAll(/\s+/g, ' ');
  const started = new Date(performance.timeOrigin).toISOString().slice(0, 19).replace('T', ' ');
  return `"${command.slice(0, longestHolder)}", started ${started} UTC`;
}

/** The files that this process holds alone. */
const ours = new Set<string>();

export interface LockOptions {
  /** Whether to wait for whoever has it, saying so; true unless given. */
  readonly wait?: boolean;
  /** Together with others who ask so, and nobody else. */
  readonly shared?: boolean;
}

/**
 * Takes the one writer's lock on a file (flock(2)), which is made when it is missing and never removed. While
 * another process, or another part of this one, holds it, says so once and waits.
 * @param path the lock file
 * @param what what is locked, in words: "the store /srv/site/store"
 * @throws ReliveError `locked` when `wait` is false and somebody holds it; `host-unable` when the file
 *   system has no locks; the abort reason of the context
 */
export async function takeLock(
  path: string,
  what: string,
  context: Context,
  options: LockOptions = {},
): Promise<Lock> {
  await makeDirectories(dirname(path));
  const handle = await open(path, 'a+', 0o600);
  const alone = options.shared !== true;
  try {
    const mode = alone ? 'exclusive' : 'shared';
    for (let attempt = 0; ours.has(path) || !(await flock(handle.fd, path, mode, 0)); attempt += 1) {
      const holder = (await readFile(path, 'utf8')).trim();
      const message = `${what} is in use${holder === '' ? '' : ` by ${holder}`}`;
      if (options.wait === false) {
        throw new ReliveError('locked', message, { hint: 'wait until that has ended, then start again' });
      }
      context.signal.throwIfAborted();
      if (attempt === 0) {
        context.emit(
          ours.has(path)
            ? { event: 'note', message: `waiting for ${what}` }
            : { event: 'warning', message: `${message}; waiting for it` },
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 250));
      context.signal.throwIfAborted();
    }
    if (alone) {
      ours.add(path);
      await handle.truncate(0);
      await handle.write(`${ourselves()}\n`, 0);
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  return {
    release: async () => {
      if (alone) {
        await handle.truncate(0);
        ours.delete(path);
      }
      await handle.close();
    },
  };
}

/** The lock on a file for ourselves alone, or undefined while anybody else has it. @throws as `takeLock` */
export async function tryLock(path: string, context: Context): Promise<Lock | undefined> {
  try {
    return await takeLock(path, path, context, { wait: false });
  } catch (error) {
    if (isReliveError(error, 'locked')) return undefined;
    throw error;
  }
}
