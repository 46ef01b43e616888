import { copyFile, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { digestFile, ifThere } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { type BootManifest, boots, type Manifest, parseManifest } from '../image/manifest.ts';
import { findImage, type StoredImage, storePaths } from '../image/store.ts';
import { kernelMounts } from '../rootfs/readers.ts';
import {
  detachAll,
  type MountRequest,
  mountAll,
  squashfsMount,
  stackMount,
  unpackSquashfs,
} from '../rootfs/stack.ts';
import { newerImages, type RunningImage } from './running.ts';
import type { OpenStack } from './transition.ts';

/** An image of which the manifest is authentic, and that this machine can start. */
export interface Target {
  readonly store: string;
  readonly image: StoredImage;
  readonly manifest: BootManifest;
  /** What was parsed, of which the signature is good. */
  readonly manifestText: string;
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
  const manifestText = await authenticText(file, keys, context);
  const manifest = parseManifest(manifestText, file);
  if (manifest.image !== newest.name) {
    throw new ReliveError('corrupt', `${file} is the manifest of ${manifest.image}`, {
      hint: `somebody has moved an image to where ${newest.name} belongs`,
    });
  }
  if (manifest.architecture !== current.architecture || !boots(manifest)) {
    const what = boots(manifest) ? `for ${manifest.architecture}` : 'a container';
    throw new ReliveError('usage', `${newest.name} is ${what}, which this machine does not run`);
  }
  return { store, image: newest, manifest, manifestText };
}

/** The text of a manifest whose signature is good. Copies of both are looked at: what is on a medium may be another one when it is read again. */
async function authenticText(file: string, keys: string, context: Context): Promise<string> {
  return await withScratchDirectory(tmpdir(), async (scratch) => {
    const copy = join(scratch, 'manifest.json');
    await ifThere(copyFile(file, copy));
    await ifThere(copyFile(`${file}.sig`, `${copy}.sig`));
    await verifyDetached(copy, `${copy}.sig`, keys, context, { as: file });
    return await readFile(copy, 'utf8');
  });
}

/** What is thrown where a file of an image is absent, or another one than its manifest says. */
export function wrongFile(path: string, { name }: StoredImage, isThere: boolean): ReliveError {
  const fault = isThere ? `not what the manifest of ${name} says` : 'the file is not there';
  return new ReliveError('corrupt', `${path}: ${fault}`, {
    hint: 'nothing was changed; bring the image into the store once more',
  });
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
 * @param withTrees their hash trees for dm-verity, too
 * @throws ReliveError `corrupt`
 */
export async function verifyLayers(
  { store, image, manifest }: Target,
  running: Pick<RunningImage, 'layers'>,
  context: Context,
  withTrees = false,
): Promise<void> {
  const files = missingLayers(manifest, running).flatMap((layer) => [
    { path: storePaths.layer(store, layer), digest: layer.digest, size: layer.size },
    ...(withTrees
      ? [{ path: storePaths.verity(store, layer), digest: layer.verity.digest, size: layer.verity.size }]
      : []),
  ]);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { path, digest, size } of files) {
    const status = await ifThere(stat(path));
    const found = status?.size === size ? (await digestFile(path, 'sha256', context.signal)).digest : '';
    if (found !== digest) throw wrongFile(path, image, status !== undefined);
    done += size;
    context.emit({ event: 'progress', stage: verifyStage, done, total, unit: 'bytes', item: path });
  }
}

/** A stack to be shown. */
export interface WantedStack {
  readonly manifest: Pick<Manifest, 'image' | 'layers'>;
  /** Where layers that the running system does not stand on are; undefined where none is needed. */
  readonly store: string | undefined;
}

/**
 * Shows the trees of stacks for as long as `use` takes; of two with the same layers it is one tree. Layers that the running
 * system stands on are not mounted again. Inside a private mount namespace only.
 * @param scratch a directory for mount points
 */
export async function withOpenStacks<T>(
  wanted: readonly WantedStack[],
  running: Pick<RunningImage, 'layers'>,
  scratch: string,
  context: Context,
  use: (stacks: readonly OpenStack[]) => Promise<T>,
): Promise<T> {
  const directories = new Map(running.layers.map(({ layer, directory }) => [layer.digest, directory]));
  const requests: MountRequest[] = [];
  const stacks = new Map<string, OpenStack>();
  const opened: OpenStack[] = [];
  for (const { manifest, store } of wanted) {
    const layers: { digest: string; directory: string }[] = [];
    for (const layer of manifest.layers) {
      const { digest, compression } = layer;
      const directory = directories.get(digest) ?? join(scratch, digest);
      layers.push({ digest, directory });
      if (directories.has(digest)) continue;
      if (store === undefined) {
        throw new ReliveError('not-found', `the layers of ${manifest.image} are in no store at hand`, {
          hint: '--store names the directory of one',
        });
      }
      directories.set(digest, directory);
      const file = storePaths.layer(store, layer);
      if (kernelMounts(compression)) requests.push(squashfsMount(file, directory));
      else await unpackSquashfs(file, directory, context);
    }
    const key = layers.map(({ digest }) => digest).join(' ');
    const stack = stacks.get(key) ?? { layers, tree: join(scratch, `merged${stacks.size}`) };
    if (!stacks.has(key)) {
      requests.push(stackMount({ lower: layers.map(({ directory }) => directory) }, stack.tree));
    }
    stacks.set(key, stack);
    opened.push(stack);
  }
  try {
    await mountAll(requests, context);
    return await use(opened);
  } finally {
    await detachAll(requests.map(({ target }) => target).toReversed(), context);
  }
}
