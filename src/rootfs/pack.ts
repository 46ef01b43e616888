import { stat } from 'node:fs/promises';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import type { Profile } from '../site/profile.ts';

/** Progress is read off the growing file this often. */
const pollMilliseconds = 500;

/** How a profile wants its layers compressed. */
export type Compression = Profile['image']['compression'];

export interface PackOptions {
  /** The directory to pack. */
  readonly root: string;
  /** The SquashFS file to make; must not exist. */
  readonly output: string;
  readonly compression: Compression;
  /** mksquashfs's extended wildcards of what is left out, anchored at the root. */
  readonly exclude: readonly string[];
  readonly sourceDateEpoch: number;
  /** The stage whose progress this is. */
  readonly stage: string;
}

/** mksquashfs's words for a compression (mksquashfs(1)). */
export function compressionArguments({ algorithm, level, blockSize }: Compression): string[] {
  const words = ['-comp', algorithm];
  if (level !== undefined) words.push('-Xcompression-level', String(level));
  if (blockSize !== undefined) words.push('-b', String(blockSize));
  return words;
}

/**
 * Packs a tree into a SquashFS file: the same tree gives the same bytes. Times after SOURCE_DATE_EPOCH are set back to
 * it, entries are sorted, and whatever the merged view of overlayfs shows of extended attributes is kept (packing
 * without them would bring deleted files back, in layers that are differences).
 */
export async function packTree(options: PackOptions, context: Context): Promise<void> {
  const { root, output, compression, exclude, sourceDateEpoch, stage } = options;
  const poll = setInterval(() => {
    stat(output).then(
      ({ size }) => context.emit({ event: 'progress', stage, done: size, unit: 'bytes' }),
      () => undefined,
    );
  }, pollMilliseconds);
  try {
    await run(
      'mksquashfs',
      [
        ...[root, output, '-noappend', '-no-progress', '-no-exports', '-xattrs'],
        ...compressionArguments(compression),
        ...(exclude.length === 0 ? [] : ['-wildcards', '-e', ...exclude]),
      ],
      { ...context, env: { SOURCE_DATE_EPOCH: String(sourceDateEpoch) } },
    );
  } finally {
    clearInterval(poll);
  }
}
