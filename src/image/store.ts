import { chmod, link, lstat, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import {
  digestFile,
  directoryNames,
  exists,
  isAbsent,
  isRight,
  makeDirectories,
  syncDirectory,
  syncFile,
  writeFileAtomic,
} from '../host/files.ts';
import { type Lock, takeLock } from '../host/lock.ts';
import {
  layerFile,
  type Manifest,
  type ManifestLayer,
  parseManifest,
  type SharedFile,
  type SharedPart,
  sharedPartsOf,
  stackText,
  verityFile,
} from './manifest.ts';
import { type ImageName, imageName, parseImageName, profilePattern, versionPattern } from './name.ts';

/** An image that is in a store. */
export interface StoredImage extends ImageName {
  readonly name: string;
  readonly directory: string;
}

/** Paths in a store; the layout is docs/design.md, "Store". */
export const storePaths = {
  layers: (store: string): string => join(store, 'live'),
  layer: (store: string, layer: Pick<ManifestLayer, 'digest'>): string =>
    join(store, 'live', layerFile(layer)),
  verity: (store: string, layer: Pick<ManifestLayer, 'digest'>): string =>
    join(store, 'live', verityFile(layer)),
  stack: (store: string, image: string): string => join(store, 'live', `${image}.module`),
  images: (store: string): string => join(store, 'images'),
  image: (store: string, { profile, version }: ImageName): string => join(store, 'images', profile, version),
  isos: (store: string): string => join(store, 'isos'),
  /** A file that says that an image must stay. */
  pin: (store: string, image: string): string => join(store, 'pins', image),
  pins: (store: string): string => join(store, 'pins'),
  temporary: (store: string): string => join(store, '.tmp'),
  /** Images that are not published (candidate.ts), each in a store of its own. */
  candidates: (store: string): string => join(store, 'candidates'),
};

/** All images of a store, by profile, newest first. */
export async function listImages(store: string): Promise<StoredImage[]> {
  const images: StoredImage[] = [];
  for (const profile of await directoryNames(storePaths.images(store))) {
    if (!profilePattern.test(profile)) continue;
    for (const version of (await directoryNames(join(storePaths.images(store), profile))).toReversed()) {
      if (!versionPattern.test(version)) continue;
      const name = { profile, version };
      images.push({ ...name, name: imageName(name), directory: storePaths.image(store, name) });
    }
  }
  return images;
}

/** The newest image of a profile, or undefined. */
export async function newestImage(store: string, profile: string): Promise<StoredImage | undefined> {
  return (await listImages(store)).find((image) => image.profile === profile);
}

/**
 * The image that a user names: PROFILE-VERSION, or a profile for its newest one.
 * @throws ReliveError `not-found`, with the names there are
 */
export async function findImage(store: string, wanted: string): Promise<StoredImage> {
  const images = await listImages(store);
  const exact = parseImageName(wanted) === undefined ? undefined : images.find(({ name }) => name === wanted);
  const found = exact ?? images.find(({ profile }) => profile === wanted);
  if (found !== undefined) return found;
  throw new ReliveError('not-found', `there is no image "${wanted}" in ${store}`, {
    hint:
      images.length === 0
        ? 'the store is empty: relive build PROFILE makes an image'
        : `there are: ${images.map(({ name }) => name).join(', ')}`,
  });
}

/**
 * The manifest of an image in the store, as it stands there: whether it is authentic is for `verifyImage` to say.
 * @throws ReliveError `corrupt`
 */
export async function readManifest(image: Pick<StoredImage, 'name' | 'directory'>): Promise<Manifest> {
  const file = join(image.directory, 'manifest.json');
  try {
    return parseManifest(await readFile(file, 'utf8'), file);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError('corrupt', `${file} is missing`, {
      hint: `relive image verify ${image.name} shows the damage`,
    });
  }
}

/** The one writer's lock on a store. */
export async function lockStore(store: string, context: Context): Promise<Lock> {
  return await takeLock(join(store, '.lock'), `the store ${store}`, context);
}

/**
 * An empty directory in the store, on its file system, for making an image in. What an earlier run left there is
 * removed, and layers that belong to no image. The caller holds the lock.
 */
export async function stagingDirectory(store: string): Promise<string> {
  const directory = storePaths.temporary(store);
  await rm(directory, { recursive: true, force: true });
  await removeOrphans(store);
  await makeDirectories(directory, 0o700);
  return directory;
}

/** The files of a layer in a store, without the directory: the layer itself and its hash tree. */
function filesOfLayers(layers: readonly Pick<ManifestLayer, 'digest'>[]): string[] {
  return layers.flatMap((layer) => [layerFile(layer), verityFile(layer)]);
}

/** What of a store is needed by none of its images. */
export interface Unneeded {
  /** Names of layers, hash trees, stacks and unfinished files in /live; nothing that is not ours. */
  readonly live: readonly string[];
  /** The image whose manifest is damaged: whose the layers are cannot be told, so all count as needed. */
  readonly unsure?: string;
}

const liveNames = /^(?:[0-9a-f]{16}\.(?:squashfs|verity)|[a-z0-9-]+-\d{8}\.\d{2}\.module|\.tmp-.*)$/;

/**
 * Finds the files of a store, on a host or on a medium, that no image of it needs.
 * @param layers count as needed although their images are not there yet
 */
export async function findUnneeded(
  store: string,
  layers: readonly Pick<ManifestLayer, 'digest'>[] = [],
): Promise<Unneeded> {
  const needed = new Set(filesOfLayers(layers));
  for (const image of await listImages(store)) {
    needed.add(`${image.name}.module`);
    try {
      for (const name of filesOfLayers((await readManifest(image)).layers)) needed.add(name);
    } catch (error) {
      if (!isReliveError(error, 'corrupt')) throw error;
      return { live: [], unsure: image.name };
    }
  }
  const names = await directoryNames(storePaths.layers(store));
  return { live: names.filter((name) => liveNames.test(name) && !needed.has(name)) };
}

/** What was removed because no image names it. */
export interface Orphans extends Pick<Unneeded, 'unsure'> {
  readonly layers: number;
  /** Of the layers and their hash trees. */
  readonly bytes: number;
}

/** Removes layers, hash trees, stacks and pins that no image names. The caller holds the lock. */
export async function removeOrphans(store: string): Promise<Orphans> {
  const { live, unsure } = await findUnneeded(store);
  if (unsure !== undefined) return { layers: 0, bytes: 0, unsure };
  let bytes = 0;
  for (const name of live) {
    const file = join(storePaths.layers(store), name);
    bytes += await bytesOf(file);
    await rm(file, { force: true });
  }
  const images = new Set((await listImages(store)).map(({ name }) => name));
  for (const name of await directoryNames(storePaths.pins(store))) {
    if (!images.has(name)) await rm(storePaths.pin(store, name), { force: true });
  }
  return { layers: live.filter((name) => name.endsWith('.squashfs')).length, bytes };
}

/**
 * The bytes of a file, or of the files in a directory; none of what is not there.
 * @param links so many names a file may have to be counted: 1 gives what is free once they are gone
 */
export async function bytesOf(path: string, links = Number.POSITIVE_INFINITY): Promise<number> {
  const status = await lstat(path).catch(() => undefined);
  if (status === undefined) return 0;
  if (!status.isDirectory()) return status.nlink > links ? 0 : status.size;
  const names = await readdir(path);
  const sizes = await Promise.all(names.map(async (name) => await bytesOf(join(path, name), links)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** A layer that is not in a store yet, and where its files are. */
export interface PackedLayer {
  readonly layer: ManifestLayer;
  readonly file: string;
  /** The hash tree. */
  readonly tree: string;
}

/**
 * Publishes an image: its layers and its stack first, then its directory by one rename. The caller holds the lock.
 * @param staged the complete, sealed image directory, on the store's file system
 * @param stack all layers of the manifest, bottom first
 * @param added those that are not in the store yet, each with its file and that of its hash tree, on the store's file system;
 *   one of the two may be where it belongs already
 */
export async function publishImage(
  store: string,
  name: ImageName,
  staged: string,
  stack: readonly ManifestLayer[],
  added: readonly PackedLayer[],
): Promise<StoredImage> {
  await makeDirectories(storePaths.layers(store));
  for (const { layer, file, tree } of added) {
    await addFile(storePaths.layer(store, layer), layer.digest, file);
    await addFile(storePaths.verity(store, layer), layer.verity.digest, tree);
  }
  await writeFileAtomic(storePaths.stack(store, imageName(name)), stackText(stack));
  await syncDirectory(storePaths.layers(store));
  const directory = storePaths.image(store, name);
  await makeDirectories(join(directory, '..'));
  await chmod(staged, 0o755);
  await shareBootFiles(store, imageName(name), staged);
  await syncFiles(staged);
  await rename(staged, directory);
  await syncDirectory(join(directory, '..'));
  return { ...name, name: imageName(name), directory };
}

async function addFile(target: string, digest: string, file: string): Promise<void> {
  if (file === target) return;
  if (await exists(target)) {
    // Named by a part of the layer's digest: another content is damage, or else a collision.
    if ((await digestFile(target, 'sha256')).digest !== digest) {
      throw new ReliveError(
        'corrupt',
        `${target} is there already, with another content than its name says`,
        {
          hint: 'relive image verify names the damaged image; remove the file, then the build puts a good one there',
        },
      );
    }
    await rm(file);
    return;
  }
  await chmod(file, 0o644);
  await syncFile(file);
  await rename(file, target);
}

/** Where images of a store have these very files, whatever else they are; what is damaged there does not count. */
export async function findSharedParts(
  store: string,
  parts: readonly SharedPart[],
  signal?: AbortSignal,
): Promise<Map<SharedFile, string>> {
  const found = new Map<SharedFile, string>();
  if (parts.length === 0) return found;
  const images = await listImages(store);
  for (const part of parts) {
    for (const { directory } of images) {
      const path = join(directory, part.name);
      if (!(await isRight(path, part, signal))) continue;
      found.set(part.name, path);
      break;
    }
  }
  return found;
}

/**
 * Makes kernel and initrd of a staged image links to those of an image of the store, where that has the very same ones: most
 * updates change neither, and they are larger than most deltas.
 */
async function shareBootFiles(store: string, name: string, staged: string): Promise<void> {
  const manifest = await readManifest({ name, directory: staged });
  for (const [file, path] of await findSharedParts(store, sharedPartsOf(manifest))) {
    const temporary = join(staged, `${file}.link`);
    if (await linkFile(path, temporary)) await rename(temporary, join(staged, file));
  }
}

/** Makes a link to a file. @returns false where that cannot be: something is there, or the file system has no (more) links */
export async function linkFile(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (
      isAbsent(error) ||
      ['EEXIST', 'EPERM', 'EMLINK', 'EOPNOTSUPP', 'EXDEV'].includes(systemCode(error) ?? '')
    )
      return false;
    throw error;
  }
}

async function syncFiles(directory: string): Promise<void> {
  for (const name of await readdir(directory)) await syncFile(join(directory, name));
  await syncDirectory(directory);
}
