import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { endGroup, run, start } from './process.ts';

/** The window of zstd must span the old file: 2 GiB is the most that it has. */
const largestFile = 2 ** 31 - 1;
const window = ['--long=31', '--memory=2048MB'];

/** Whether zstd can make a patch of two files of these sizes. */
export function patchable(...sizes: readonly number[]): boolean {
  return sizes.every((size) => size > 0 && size <= largestFile);
}

/**
 * Writes what makes `file` of `old`: zstd's frame with `old` as its dictionary (zstd(1), --patch-from). Takes the memory of both.
 * @returns the size of the patch
 */
export async function makePatch(
  old: string,
  file: string,
  output: string,
  context: Context,
): Promise<number> {
  // What differs is compressed already; a higher level finds nothing more in it.
  await run('zstd', ['-q', '-f', '-3', ...window, `--patch-from=${old}`, file, '-o', output], context);
  return (await stat(output)).size;
}

/**
 * What a patch makes of `old`, piece by piece. Nothing says that it is the right thing, nor how much will come: that is for
 * whoever reads it, who may stop at any piece.
 * @throws ReliveError `corrupt` for what is no patch to this file, `tool-missing`
 */
export async function* applyPatch(
  old: string,
  patch: string,
  context: Context,
): AsyncGenerator<Buffer, void> {
  const child = start('zstd', ['-q', '-d', '-c', ...window, `--patch-from=${old}`, patch], context);
  const ended = once(child, 'close');
  // Reported by awaiting it below; until then nobody listens.
  ended.catch(() => undefined);
  let complaint = '';
  child.stderr?.on('data', (text: Buffer) => {
    complaint = `${complaint}${text.toString()}`.slice(-1000);
  });
  try {
    const stream: AsyncIterable<Buffer> | null = child.stdout;
    if (stream !== null) yield* stream;
    await ended;
    context.signal.throwIfAborted();
    if (child.exitCode !== 0) {
      throw new ReliveError('corrupt', `${patch} cannot be applied to ${old}: ${complaint.trim()}`);
    }
  } finally {
    if (child.exitCode === null) {
      endGroup(child);
      await ended.catch(() => undefined);
    }
  }
}
