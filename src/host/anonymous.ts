import { spawn } from 'node:child_process';
import { mkdtemp, open, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { explainDiskFull, temporaryBeside } from './files.ts';

/** A file without a name in any directory: it is gone when it is closed or when relive ends, however that happens. */
export interface AnonymousFile {
  /** A path by which we and the programs that we start open it (proc(5), /proc/PID/fd). */
  readonly path: string;
  readonly close: () => Promise<void>;
}

/** Opens a file for reading and writing and takes its name away. */
export async function takeNameAway(path: string): Promise<AnonymousFile> {
  const handle = await open(path, 'r+');
  await unlink(path);
  return {
    path: `/proc/${process.pid}/fd/${handle.fd}`,
    close: async () => await handle.close(),
  };
}

/**
 * Makes a file that leaves nothing behind, not even after SIGKILL: its name is removed as soon as it is written.
 * @param content a few bytes that it begins with
 * @throws ReliveError `disk-full`
 */
export async function anonymousFile(content: Uint8Array): Promise<AnonymousFile> {
  const name = temporaryBeside(join(tmpdir(), 'anonymous'));
  try {
    await writeFile(name, content, { flag: 'wx', mode: 0o600 });
    return await takeNameAway(name);
  } catch (error) {
    await rm(name, { force: true });
    throw explainDiskFull(error, tmpdir());
  }
}

/**
 * Runs `work` with a directory for files that must have names while other programs read them, and removes it. A
 * helper process, which waits for the end of our pipe, removes it even when relive is killed by SIGKILL.
 * @param parent where it is made; its name begins with `.tmp-`, as all that may be swept away
 */
export async function withScratchDirectory<T>(
  parent: string,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(parent, '.tmp-scratch-'));
  const helper = spawn('/bin/sh', ['-c', 'read -r line; exec rm -rf -- "$0"', directory], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  // Without the helper the directory is still removed below.
  helper.once('error', () => undefined);
  helper.unref();
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
    helper.stdin.end();
  }
}
