import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { digestFile, ifThere } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import type { Manifest } from '../image/manifest.ts';
import { findImage, readManifest, type StoredImage, storePaths } from '../image/store.ts';
import { mountStack, openSquashfs, unmount } from '../rootfs/stack.ts';
import { newerImages, type RunningImage } from './running.ts';
import type { OpenStack } from './transition.ts';

/** An image of which the manifest has been checked. */
export interface Target {
  readonly store: string;
  readonly image: StoredImage;
  readonly manifest: Manifest;
}

/** What the reports call the checking of layers. */
const verifyStage = 'verify';

/**
 * The image to go to, with its manifest, of which the signature is good.
 * @param wanted its name, or a profile for the newest one of that; the newest one that follows what runs unless given
 * @param current the manifest of what runs, or was applied last
 * @throws ReliveError `not-found`; `not-authentic`; `corrupt`; `usage` for an image of another architecture
 */
export async function findTarget(
  store: string,
  wanted: string | undefined,
  current: Manifest,
  keys: string,
  context: Context,
): Promise<Target> {
  const [newest] =
    wanted === undefined ? await newerImages(store, current) : [await findImage(store, wanted)];
  if (newest === undefined) {
    throw new ReliveError(
      'not-found',
      `${store} has no image of ${current.profile.name} that is newer than ${current.image}`,
      {
        hint: 'name an image to go back to an older one',
      },
    );
  }
  const file = join(newest.directory, 'manifest.json');
  await verifyDetached(file, `${file}.sig`, keys, context);
  const manifest = await readManifest(newest);
  if (manifest.image !== newest.name) {
    throw new ReliveError('corrupt', `${file} is the manifest of ${manifest.image}`, {
      hint: `somebody has moved an image to where ${newest.name} belongs`,
    });
  }
  if (manifest.architecture !== current.architecture || manifest.kernel === null) {
    const what = manifest.kernel === null ? 'a container' : `for ${manifest.architecture}`;
    throw new ReliveError('usage', `${newest.name} is ${what}, which this machine does not run`);
  }
  return { store, image: newest, manifest };
}

/** The layers of an image that the running system does not stand on. */
export function missingLayers(
  manifest: Pick<Manifest, 'layers'>,
  running: Pick<RunningImage, 'layers'>,
): Manifest['layers'] {
  return manifest.layers.filter(({ digest }) => !running.layers.some(({ layer }) => layer.digest === digest));
}

/**
 * Checks each layer that the running system does not stand on already, to the last byte: its own were checked by the initramfs.
 * @throws ReliveError `corrupt`
 */
export async function verifyLayers(
  { store, image, manifest }: Target,
  running: Pick<RunningImage, 'layers'>,
  context: Context,
): Promise<void> {
  const layers = missingLayers(manifest, running);
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const layer of layers) {
    const file = storePaths.layer(store, layer);
    const status = await ifThere(stat(file));
    const digest =
      status?.size === layer.size ? (await digestFile(file, 'sha256', context.signal)).digest : '';
    if (digest !== layer.digest) {
      throw new ReliveError(
        'corrupt',
        `${file}: ${status === undefined ? 'the file is not there' : `not what the manifest of ${image.name} says`}`,
        { hint: 'nothing was changed; bring the image into the store once more' },
      );
    }
    done += layer.size;
    context.emit({ event: 'progress', stage: verifyStage, done, total, unit: 'bytes', item: file });
  }
}

/**
 * Shows the tree of a stack for as long as `use` takes. Layers that the running system stands on are not mounted again. Inside
 * a private mount namespace only.
 * @param scratch a directory for mount points
 */
export async function withOpenStack<T>(
  store: string | undefined,
  manifest: Pick<Manifest, 'image' | 'layers'>,
  running: Pick<RunningImage, 'layers'>,
  scratch: string,
  context: Context,
  use: (stack: OpenStack) => Promise<T>,
): Promise<T> {
  const mounted: string[] = [];
  try {
    const layers: { digest: string; directory: string }[] = [];
    for (const [index, layer] of manifest.layers.entries()) {
      const { digest } = layer;
      const own = running.layers.find((each) => each.layer.digest === digest);
      if (own !== undefined) layers.push({ digest, directory: own.directory });
      else if (store === undefined) {
        throw new ReliveError('not-found', `the layers of ${manifest.image} are in no store at hand`, {
          hint: '--store names the directory of one',
        });
      } else {
        const directory = join(scratch, String(index));
        if (await openSquashfs(storePaths.layer(store, layer), layer.compression, directory, context)) {
          mounted.push(directory);
        }
        layers.push({ digest, directory });
      }
    }
    const tree = join(scratch, 'merged');
    await mountStack({ lower: layers.map(({ directory }) => directory) }, tree, context);
    mounted.push(tree);
    return await use({ layers, tree });
  } finally {
    for (const target of mounted.toReversed()) await unmount(target, context);
  }
}
