import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Context, inStage } from '../core/event.ts';
import type { SecretKey } from '../host/gpg.ts';
import { initrdName, kernelName } from '../rootfs/stages/live.ts';
import { bootChecksums, bootConfiguration, bootSumsFile } from './boot-entry.ts';
import { boots, formatManifest, type Manifest } from './manifest.ts';
import type { PackedSystem } from './packing.ts';
import { sealImage } from './seal.ts';
import { publishImage, type StoredImage, storePaths } from './store.ts';

/** An image whose layers are packed and proven. */
export interface Sealing {
  readonly manifest: Manifest;
  /** The directory with its kernel and initrd; a container has none. */
  readonly boot: string | undefined;
  readonly packed: Pick<PackedSystem, 'stack' | 'added'>;
  /** The key that it is sealed with, and the GnuPG home that it lies in. */
  readonly key: SecretKey & { readonly home: string };
  /** A directory of the store for making it in. */
  readonly staging: string;
}

/**
 * Makes the directory of an image, and seals it. The caller holds the lock of the store.
 * @returns the directory, for `publishImage`
 */
export async function sealSystem(
  store: string,
  { manifest, boot, packed, key, staging }: Sealing,
  context: Context,
): Promise<string> {
  const directory = join(staging, manifest.image);
  await inStage(context, 'seal', async () => {
    await mkdir(directory);
    const text = formatManifest(manifest);
    await writeFile(join(directory, 'manifest.json'), text);
    if (boots(manifest) && boot !== undefined) {
      await writeFile(join(directory, 'boot.cfg'), bootConfiguration(manifest, text));
      await writeFile(join(directory, bootSumsFile(manifest.boot)), bootChecksums(manifest, text));
      for (const name of [kernelName, initrdName]) await copyFile(join(boot, name), join(directory, name));
    }
    const places = new Map(packed.added.map(({ layer, file }) => [layer.digest, file]));
    const sealed = packed.stack.map((layer) => ({
      layer,
      file: places.get(layer.digest) ?? storePaths.layer(store, layer),
    }));
    await sealImage(directory, sealed, manifest, key, manifest.sourceDateEpoch, context);
  });
  return directory;
}

/** Seals an image and publishes it. The caller holds the lock of the store. */
export async function sealAndPublish(
  store: string,
  sealing: Sealing,
  context: Context,
): Promise<StoredImage> {
  const { manifest, packed } = sealing;
  const directory = await sealSystem(store, sealing, context);
  const name = { profile: manifest.profile.name, version: manifest.version };
  return await publishImage(store, name, directory, packed.stack, packed.added);
}
