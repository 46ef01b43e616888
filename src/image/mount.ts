import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { mountSquashfs, mountStack, unmount } from '../rootfs/stack.ts';

/**
 * Mounts packed layers, stacked as they boot, for as long as `use` takes. Inside the private namespaces only.
 * @param layers the SquashFS files, bottom first
 * @param scratch a directory for mount points
 * @param use gets the directory that shows the tree, read-only
 */
export async function withStack<T>(
  layers: readonly string[],
  scratch: string,
  context: Context,
  use: (root: string) => Promise<T>,
): Promise<T> {
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
    return await use(merged);
  } finally {
    for (const target of mounted.toReversed()) await unmount(target, context);
  }
}
