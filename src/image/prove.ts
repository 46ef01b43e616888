import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { mountSquashfs, mountStack, unmount } from '../rootfs/stack.ts';
import { digestTree } from '../rootfs/tree.ts';

/**
 * Proves that packed layers, stacked as they will boot, show the tree that was meant.
 * @param layers the SquashFS files, bottom first
 * @param meant the digest of the tree
 * @param scratch a directory for mount points
 * @throws ReliveError `corrupt`
 */
export async function proveStack(
  layers: readonly string[],
  meant: string,
  scratch: string,
  context: Context,
): Promise<void> {
  await mkdir(scratch, { recursive: true });
  const lower: string[] = [];
  const mounted: string[] = [];
  try {
    for (const [index, file] of layers.entries()) {
      const target = join(scratch, String(index));
      await mountSquashfs(file, target, context);
      mounted.push(target);
      lower.push(target);
    }
    const merged = join(scratch, 'merged');
    await mountStack({ lower }, merged, context);
    mounted.push(merged);
    const found = await digestTree(merged, context);
    if (found !== meant) {
      throw new ReliveError('corrupt', 'the packed layers do not show the tree that was built', {
        hint: 'the image was not published; this is a fault of the tools or of the memory: try again, then report it',
      });
    }
  } finally {
    for (const target of mounted.toReversed()) await unmount(target, context);
  }
}
