import { readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { unescapeOctal } from '../core/octal.ts';
import { directoryNames, exists, ifThere } from '../host/files.ts';
import { type Manifest, type ManifestLayer, parseManifest } from '../image/manifest.ts';
import { listImages, type StoredImage, storePaths } from '../image/store.ts';
import { volumeDirectory } from '../site/volume.ts';
import { liveConfiguration } from './configuration.ts';
import { mountAt } from './mounts.ts';

/** Where a booted image keeps what it knows of itself (runtime/initramfs/relive). */
export interface LivePlaces {
  /** The root of the running system. */
  readonly root: string;
  /** The file that the kernel shows its mounts in, as seen from the root. */
  readonly mounts: string;
  /** relive's own directory, in RAM. */
  readonly home: string;
  /** Where the medium is mounted, unless the image is in RAM. */
  readonly medium: string;
  /** The public keys that images are checked with. */
  readonly keys: string;
  /** What the machine is told of images: where they come from, where they go to. */
  readonly configuration: string;
}

export const livePlaces: LivePlaces = {
  root: '/',
  mounts: '/proc/self/mounts',
  home: '/run/relive',
  medium: '/run/live/medium',
  keys: '/etc/relive/keys.asc',
  configuration: '/etc/relive/live.yaml',
};

/** How the root of the running system is stacked. */
export interface RootStack {
  /** The directories of the layers, bottom first. */
  readonly lower: readonly string[];
  /** The directory in RAM that takes what is written. */
  readonly upper: string;
}

/** A layer of the running system. */
export interface RunningLayer {
  readonly layer: ManifestLayer;
  /** Where its tree is visible. */
  readonly directory: string;
}

/** What a machine runs. */
export interface RunningImage {
  readonly manifest: Manifest;
  /** What a restart goes back to: the image that the machine was started with, or that a switch has made the default. */
  readonly booted: string;
  /** The text of the manifest, of which the signed command line has the digest. */
  readonly manifestText: string;
  /** Bottom first. */
  readonly layers: readonly RunningLayer[];
  readonly upper: string;
  /** Where the layers are read from: the medium, copies in RAM, or unpacked there. */
  readonly ram: 'none' | 'layers' | 'unpacked';
}

/** Splits lower directories at the colons that are not quoted. */
function splitLower(text: string): string[] {
  return (text.match(/(?:[^\\:]|\\.)+/g) ?? []).map((path) => path.replaceAll(/\\(.)/g, '$1'));
}

/**
 * How overlayfs stacks the root, by the lines of /proc/self/mounts; undefined where it is no overlay that can be written.
 * @param mounts the text of /proc/self/mounts
 * @param root the mount point to look for
 */
export function rootStack(mounts: string, root = '/'): RootStack | undefined {
  const line = mounts
    .split('\n')
    .map((each) => each.split(' '))
    .findLast(([, target, type]) => type === 'overlay' && unescapeOctal(target ?? '') === root);
  if (line === undefined) return undefined;
  let lower: string[] = [];
  let upper: string | undefined;
  // A comma in a path is quoted.
  for (const option of unescapeOctal(line[3] ?? '').match(/(?:[^\\,]|\\.)+/g) ?? []) {
    const [, name, value = ''] = /^([^=]+)=(.*)$/.exec(option) ?? [];
    if (name === 'lowerdir') lower = splitLower(value);
    else if (name === 'lowerdir+') lower.push(value.replaceAll(/\\(.)/g, '$1'));
    else if (name === 'upperdir') upper = value.replaceAll(/\\(.)/g, '$1');
  }
  return upper === undefined || lower.length === 0 ? undefined : { lower: lower.toReversed(), upper };
}

/** Where the layers are: what the initramfs was asked for may not have been possible, so its traces are looked at. */
async function ramMode({ home }: LivePlaces): Promise<RunningImage['ram']> {
  const names = await directoryNames(join(home, 'ram'));
  if (names.some((name) => name.endsWith('.squashfs'))) return 'layers';
  return names.length > 0 ? 'unpacked' : 'none';
}

/**
 * What image this machine runs, and how its root is made of it.
 * @throws ReliveError `host-unable` on a machine that does not run an image of relive
 */
export async function runningImage(places: LivePlaces = livePlaces): Promise<RunningImage> {
  const file = join(places.home, 'manifest.json');
  const manifestText = await ifThere(readFile(file, 'utf8'));
  const stack = rootStack(await readFile(places.mounts, 'utf8'), places.root);
  if (manifestText === undefined || stack === undefined) {
    throw new ReliveError('host-unable', 'this machine does not run an image of relive', {
      hint: 'relive live works on the system that an image has started; relive vm starts one here',
    });
  }
  const manifest = parseManifest(manifestText, file);
  if (manifest.layers.length !== stack.lower.length) {
    throw new ReliveError(
      'host-unable',
      `the root has ${stack.lower.length} layers, and ${manifest.image} consists of ${manifest.layers.length}`,
      { hint: 'was something else mounted over the root?' },
    );
  }
  const layers = manifest.layers.map((layer, index) => ({ layer, directory: stack.lower[index] ?? '' }));
  // runtime/live/relive-switched leaves it there.
  const booted = (await ifThere(readFile(join(places.home, 'booted'), 'utf8')))?.trim() ?? manifest.image;
  return { manifest, manifestText, booted, layers, upper: stack.upper, ram: await ramMode(places) };
}

/** The time of the boot (proc_stat(5), btime). */
export async function bootTime(): Promise<Date> {
  const seconds = /^btime (\d+)$/m.exec(await readFile('/proc/stat', 'utf8'))?.[1];
  return new Date(Number(seconds) * 1000);
}

/** Whether a directory is laid out as a store. */
async function isStore(path: string): Promise<boolean> {
  for (const part of [storePaths.images(path), storePaths.layers(path)]) {
    const status = await stat(part).catch(() => undefined);
    if (status?.isDirectory() !== true) return false;
  }
  return true;
}

/**
 * The store on a volume that the configuration names; undefined where it names none, or the volume is not there now.
 * @throws ReliveError `configuration`
 */
export async function configuredStore(places: LivePlaces = livePlaces): Promise<string | undefined> {
  const { volume } = await liveConfiguration(places.configuration);
  if (volume === undefined) return undefined;
  const place = `/volumes/${volumeDirectory(volume)}`;
  return (await mountAt(place, places)) === undefined ? undefined : join(places.root, place, 'store');
}

/**
 * The store that a live machine takes images from: the one that is named, what was fetched to a volume or into RAM, or the medium;
 * undefined where none is named and none is there.
 * @throws ReliveError `not-found` for a directory that is no store
 */
export async function storeAtHand(
  given: string | undefined,
  places: LivePlaces = livePlaces,
): Promise<string | undefined> {
  if (given !== undefined) {
    const store = resolve(given);
    if (await isStore(store)) return store;
    throw new ReliveError('not-found', `${store} is not a store: it has no images/ and live/`, {
      hint: 'mount the medium or the volume that has one, and name its directory',
    });
  }
  const configured = await configuredStore(places);
  for (const place of [
    ...(configured === undefined ? [] : [configured]),
    join(places.home, 'store'),
    places.medium,
  ])
    if (await isStore(place)) return place;
  return undefined;
}

/** The images of the store that follow the one that runs: of its profile, with a higher number; newest first. */
export async function newerImages(
  store: string,
  { profile, version }: Pick<Manifest, 'profile' | 'version'>,
): Promise<StoredImage[]> {
  const images = await listImages(store);
  return images.filter((image) => image.profile === profile.name && image.version > version);
}

/**
 * The public keys that a live machine checks images with.
 * @returns the path of the file
 * @throws ReliveError `not-found`
 */
export async function liveKeys(places: LivePlaces = livePlaces): Promise<string> {
  if (await exists(places.keys)) return places.keys;
  throw new ReliveError('not-found', `there are no public keys to check images with: ${places.keys}`, {
    hint: 'an image whose profile says "live: true" has them',
  });
}
