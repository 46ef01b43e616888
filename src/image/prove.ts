import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { digestTree } from '../rootfs/tree.ts';
import { type PackedFile, withStack } from './mount.ts';

/**
 * Proves that packed layers, stacked as they will boot, show the tree that was meant.
 * @param layers the SquashFS files, bottom first, each with its compression
 * @param meant the digest of the tree
 * @param scratch a directory for mount points
 * @throws ReliveError `corrupt`
 */
export async function proveStack(
  layers: readonly PackedFile[],
  meant: string,
  scratch: string,
  context: Context,
): Promise<void> {
  const found = await withStack(layers, scratch, context, async (root) => await digestTree(root, context));
  if (found.digest !== meant) {
    throw new ReliveError('corrupt', 'the packed layers do not show the tree that was built', {
      hint: 'the image was not published; this is a fault of the tools or of the memory: try again, then report it',
    });
  }
}
