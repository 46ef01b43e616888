import { copyFile, mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { digestFile, ifThere } from '../host/files.ts';
import { storePaths } from '../image/store.ts';
import {
  type LivePlaces,
  liveKeys,
  livePlaces,
  newerImages,
  type RunningImage,
  storeAtHand,
} from './running.ts';
import { findTarget, type Target, wrongFile } from './target.ts';

/**
 * The image to go to: the one that is named, else the newest that follows the running one, else that one again.
 * @param wanted its name, or a profile for the newest one of that
 * @throws ReliveError `not-found`, `not-authentic`, `corrupt`, `usage` for an image that this machine cannot run
 */
export async function findVerified(
  given: string | undefined,
  wanted: string | undefined,
  running: RunningImage,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<Target> {
  const store = await storeAtHand(given, places);
  if (store === undefined) {
    throw new ReliveError('not-found', 'no store is at hand to take an image from', {
      hint: 'mount the medium or a volume that has one, and name its directory: --store DIR',
    });
  }
  const current = running.manifest;
  const name = wanted ?? (await newerImages(store, current))[0]?.name ?? current.image;
  return await findTarget(store, name, current, await liveKeys(places), context);
}

/**
 * Looks whether the layers of an image are there with their hash trees, and have their sizes: what they hold is checked by whoever
 * reads them.
 * @throws ReliveError `corrupt`
 */
export async function requireLayers({ store, image, manifest }: Target): Promise<void> {
  for (const layer of manifest.layers) {
    const files = [
      { path: storePaths.layer(store, layer), size: layer.size },
      { path: storePaths.verity(store, layer), size: layer.verity.size },
    ];
    for (const { path, size } of files) {
      const status = await ifThere(stat(path));
      if (status?.size === size) continue;
      throw wrongFile(path, image, status !== undefined);
    }
  }
}

/**
 * Copies kernel and initrd of an image into a directory in RAM and checks the copies, so that what is started is what was
 * checked.
 * @throws ReliveError `corrupt`
 */
export async function copyBootFiles(
  { image, manifest }: Target,
  directory: string,
): Promise<{ readonly kernel: string; readonly initrd: string }> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const copy = async (name: string, digest: string): Promise<string> => {
    const [source, target] = [join(image.directory, name), join(directory, name)];
    await copyFile(source, target);
    if ((await digestFile(target, 'sha256')).digest === digest) return target;
    throw wrongFile(source, image, true);
  };
  return {
    kernel: await copy('vmlinuz', manifest.kernel.digest),
    initrd: await copy('initrd.img', manifest.initrd.digest),
  };
}
