import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { makeDirectories } from '../host/files.ts';
import { mountStack, openSquashfs, unmount } from '../rootfs/stack.ts';
import type { Manifest, ManifestLayer } from './manifest.ts';
import { storePaths } from './store.ts';

/** A SquashFS file and its compression. */
export interface PackedFile {
  readonly file: string;
  readonly algorithm: string;
}

/** The layers of an image as they lie in a store, bottom first. */
export function storedLayers(
  store: string,
  { layers }: Pick<Manifest, 'layers'>,
): (PackedFile & Pick<ManifestLayer, 'digest'>)[] {
  return layers.map((layer) => ({
    file: storePaths.layer(store, layer),
    algorithm: layer.compression,
    digest: layer.digest,
  }));
}

/**
 * Mounts packed layers, stacked as they boot, for as long as `use` takes; those that the kernel cannot read are unpacked. Inside the private namespaces only.
 * @param layers the SquashFS files, bottom first, each with its compression
 * @param scratch a directory for mount points, which is removed
 * @param use gets the directory that shows the tree, read-only
 */
export async function withStack<T>(
  layers: readonly PackedFile[],
  scratch: string,
  context: Context,
  use: (root: string) => Promise<T>,
): Promise<T> {
  await makeDirectories(scratch);
  const lower: string[] = [];
  const mounted: string[] = [];
  try {
    for (const [index, { file, algorithm }] of layers.entries()) {
      const target = join(scratch, String(index));
      if (await openSquashfs(file, algorithm, target, context)) mounted.push(target);
      lower.push(target);
    }
    const merged = join(scratch, 'merged');
    await mountStack({ lower }, merged, context);
    mounted.push(merged);
    return await use(merged);
  } finally {
    for (const target of mounted.toReversed()) await unmount(target, context);
    // What was unpacked; what was mounted is an empty directory now.
    await rm(scratch, { recursive: true, force: true });
  }
}
