import { createHash } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import {
  digestFile,
  exists,
  explainDiskFull,
  ifThere,
  makeDirectories,
  syncDirectory,
  writeFileAtomic,
} from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import {
  type BootManifest,
  boots,
  layerFile,
  parseManifest,
  stackText,
  verityFile,
} from '../image/manifest.ts';
import { decide, type Retention } from '../image/retention.ts';
import { sealedFiles, signedFiles } from '../image/seal.ts';
import {
  findImage,
  findUnneeded,
  listImages,
  readManifest,
  type StoredImage,
  storePaths,
} from '../image/store.ts';
import { makeEnvironment } from './environment.ts';
import { startedArchitectures, starterOf } from './starters.ts';

/** Besides the files: directories, and the room that a file system wants for itself. */
const slackBytes = 4 * 1024 * 1024;
const copyBuffer = 1024 * 1024;

/** An image of the site that goes onto a medium. */
export interface WantedImage {
  readonly image: StoredImage;
  readonly manifest: BootManifest;
  /** The files of its directory, by name, with their sizes. */
  readonly files: ReadonlyMap<string, number>;
}

/** A file of /live on a medium. */
interface LiveFile {
  readonly name: string;
  readonly size: number;
  readonly digest: string;
}

function liveFiles(manifest: Pick<BootManifest, 'layers'>): LiveFile[] {
  return manifest.layers.flatMap((layer) => [
    { name: layerFile(layer), size: layer.size, digest: layer.digest },
    { name: verityFile(layer), size: layer.verity.size, digest: layer.verity.digest },
  ]);
}

/** Whether a medium can boot an image, by its manifest; else why not. */
function unsuitable(manifest: Awaited<ReturnType<typeof readManifest>>): string | undefined {
  if (!boots(manifest)) return 'is a container: it has no kernel';
  if (starterOf(manifest.architecture) !== undefined) return undefined;
  return `is for ${manifest.architecture}; media start ${startedArchitectures.join(', ')} only`;
}

async function wantedImage(
  image: StoredImage,
  keys: string | undefined,
  context: Context,
): Promise<WantedImage> {
  const file = join(image.directory, 'manifest.json');
  const seen = await readManifest(image);
  const reason = unsuitable(seen);
  if (reason !== undefined) throw new ReliveError('usage', `${image.name} ${reason}`);
  if (keys !== undefined) await verifyDetached(file, `${file}.sig`, keys, context);
  // Read again: what was verified counts.
  const manifest = parseManifest(await readFile(file, 'utf8'), file);
  if (!boots(manifest) || manifest.image !== image.name) {
    throw new ReliveError('corrupt', `${file} is the manifest of ${manifest.image}`);
  }
  if (keys === undefined && manifest.boot.verify === 'signature') {
    throw new ReliveError('not-found', `no public keys for GRUB to check ${image.name} with`, {
      hint: "copy the public keys of the site that made the image to the site's keys/public.asc",
    });
  }
  const files = new Map<string, number>();
  const names = signedFiles(manifest).flatMap((name) => [name, `${name}.sig`]);
  const needed = new Set(
    sealedFiles(manifest).flatMap((name) => (keys === undefined ? [name] : [name, `${name}.sig`])),
  );
  for (const name of names) {
    try {
      files.set(name, (await stat(join(image.directory, name))).size);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      if (!needed.has(name)) continue;
      throw new ReliveError('corrupt', `${join(image.directory, name)} is missing from the store`, {
        hint: `relive image verify ${image.name} names every fault`,
      });
    }
  }
  return { image, manifest, files };
}

/**
 * The images of a site's store that a medium is to have: those named, else the newest of each profile that a medium starts.
 * Their manifests are authentic.
 * @param names images, and profiles for their newest ones
 * @param keys the file with the trusted keys; undefined: signatures are not asked for
 * @throws ReliveError `usage` for an image that no medium starts, `not-found`, `not-authentic`, `corrupt`
 */
export async function wantedImages(
  store: string,
  names: readonly string[],
  keys: string | undefined,
  context: Context,
): Promise<readonly WantedImage[]> {
  const chosen = new Map<string, StoredImage>();
  for (const name of names) {
    const image = await findImage(store, name);
    chosen.set(image.name, image);
  }
  if (names.length === 0) {
    const seen = new Set<string>();
    for (const image of await listImages(store)) {
      if (seen.has(image.profile)) continue;
      seen.add(image.profile);
      const reason = unsuitable(await readManifest(image));
      if (reason === undefined) chosen.set(image.name, image);
      else context.emit({ event: 'note', message: `${image.name} is left out: it ${reason}` });
    }
  }
  return await Promise.all(
    [...chosen.values()].map(async (image) => await wantedImage(image, keys, context)),
  );
}

/** What images take on an empty medium, in bytes. */
export function bytesOf(wanted: readonly WantedImage[]): number {
  const layers = new Map(
    wanted.flatMap(({ manifest }) => liveFiles(manifest)).map(({ name, size }) => [name, size]),
  );
  const files = wanted.flatMap((one) => [...one.files.values()]);
  return [...layers.values(), ...files].reduce((sum, size) => sum + size, slackBytes);
}

/** What has to be copied to a medium. */
export interface FillPlan {
  /** Names of layers and hash trees, with where they are. */
  readonly live: readonly (LiveFile & { readonly source: string })[];
  /** Those that are there already. */
  readonly present: number;
  readonly images: readonly WantedImage[];
  readonly bytes: number;
}

/** Whether a file on the medium is what it must be, by its size, or by all of it. */
async function isThere(
  path: string,
  { size, digest }: Pick<LiveFile, 'size' | 'digest'>,
  whole: boolean,
): Promise<boolean> {
  const stats = await ifThere(stat(path));
  if (!stats?.isFile() || stats.size !== size) return false;
  return !whole || (await digestFile(path, 'sha256')).digest === digest;
}

/** Whether an image's directory on the medium is, byte for byte, that of the site. */
async function isSame(wanted: WantedImage, root: string): Promise<boolean> {
  const directory = storePaths.image(root, wanted.image);
  if (!(await exists(directory))) return false;
  const names = await readdir(directory);
  if (names.length !== wanted.files.size) return false;
  for (const [name, size] of wanted.files) {
    const digest = await digestFile(join(wanted.image.directory, name), 'sha256');
    if (!(await isThere(join(directory, name), { size, digest: digest.digest }, true))) return false;
  }
  const stack = await readFile(storePaths.stack(root, wanted.image.name), 'utf8').catch(() => '');
  return stack === stackText(wanted.manifest.layers);
}

/**
 * Compares what is wanted with what a medium has.
 * @param root the store of the medium
 * @param whole read every layer on the medium, too, instead of going by its size
 */
export async function planFill(
  store: string,
  wanted: readonly WantedImage[],
  root: string,
  whole: boolean,
): Promise<FillPlan> {
  const all = new Map<string, LiveFile>();
  for (const { manifest } of wanted) for (const file of liveFiles(manifest)) all.set(file.name, file);
  const live: (LiveFile & { source: string })[] = [];
  for (const file of all.values()) {
    if (await isThere(join(storePaths.layers(root), file.name), file, whole)) continue;
    live.push({ ...file, source: join(storePaths.layers(store), file.name) });
  }
  const images: WantedImage[] = [];
  for (const one of wanted) if (!(await isSame(one, root))) images.push(one);
  const sizes = [...live.map(({ size }) => size), ...images.flatMap((one) => [...one.files.values()])];
  return {
    ...{ live, images, present: all.size - live.length },
    bytes: sizes.length === 0 ? 0 : sizes.reduce((sum, size) => sum + size, slackBytes),
  };
}

/** The stage that copying to a medium belongs to. */
export const copyStage = 'copy';

/**
 * Copies a file to the medium, under a temporary name, and makes it durable; what was read is checked, and what was written read
 * again.
 */
async function copyFile(
  source: string,
  target: string,
  expected: { readonly size: number; readonly digest: string } | undefined,
  context: Context,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const from = await open(source, 'r').catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError('corrupt', `${source} is missing from the store`, {
      hint: 'relive image verify names every fault',
    });
  });
  const hash = createHash('sha256');
  try {
    const to = await open(target, 'wx', 0o644);
    try {
      const buffer = Buffer.allocUnsafe(copyBuffer);
      for (;;) {
        context.signal.throwIfAborted();
        const { bytesRead } = await from.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) break;
        const piece = buffer.subarray(0, bytesRead);
        hash.update(piece);
        await to.writeFile(piece);
        onBytes(bytesRead);
      }
      await to.sync();
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
  const digest = hash.digest('hex');
  if (expected !== undefined && digest !== expected.digest) {
    throw new ReliveError(
      'corrupt',
      `${source} is damaged: its SHA-256 is ${digest}, not ${expected.digest}`,
      {
        hint: 'relive image verify names every fault of the store; the medium is as it was',
      },
    );
  }
  const written = await digestFile(target, 'sha256', context.signal);
  if (written.digest !== digest) {
    throw new ReliveError(
      'corrupt',
      `the medium does not give back what was written to it: ${basename(source)}`,
      {
        hint: 'the medium is worn out or false: use another one',
      },
    );
  }
}

/** Brings all that was written to the place where GRUB reads it; GRUB replays no journal. */
export type Settle = () => Promise<void>;

/** For what no file system with a journal is written to. */
export const settled: Settle = async () => {
  await Promise.resolve();
};

/**
 * Brings images to a medium: layers first, each under a temporary name and checked, then each image's directory by one
 * rename, when all that is in it is where GRUB reads it. Whatever is cut off leaves the images that were there as they
 * were.
 * @param root the store of the medium
 * @throws ReliveError `corrupt`, `disk-full`; the abort reason of the context
 */
export async function fillStore(
  plan: FillPlan,
  root: string,
  settle: Settle,
  context: Context,
): Promise<void> {
  const temporary = storePaths.temporary(root);
  await rm(temporary, { recursive: true, force: true });
  await makeDirectories(temporary);
  for (const directory of [storePaths.layers(root), storePaths.images(root)])
    await makeDirectories(directory);
  await inStage(context, copyStage, async () => {
    let done = 0;
    const progress = (item: string) => (bytes: number) => {
      done += bytes;
      context.emit({
        event: 'progress',
        stage: copyStage,
        done,
        total: Math.max(done, plan.bytes - slackBytes),
        unit: 'bytes',
        item,
      });
    };
    try {
      for (const file of plan.live) {
        const partial = join(temporary, file.name);
        await copyFile(file.source, partial, file, context, progress(file.name));
        await rename(partial, join(storePaths.layers(root), file.name));
      }
      await syncDirectory(storePaths.layers(root));
      for (const one of plan.images) await copyImage(one, root, temporary, context, progress(one.image.name));
      await makeEnvironment(root);
      await settle();
      for (const { image } of plan.images) await showImage(image, root, temporary);
    } catch (error) {
      throw explainDiskFull(error, root);
    }
  });
  await settle();
  await rm(temporary, { recursive: true, force: true });
  await syncDirectory(root);
}

/** Copies the directory of an image, to where nobody looks for images. */
async function copyImage(
  { image, manifest, files }: WantedImage,
  root: string,
  temporary: string,
  context: Context,
  onBytes: (bytes: number) => void,
): Promise<void> {
  await writeFileAtomic(storePaths.stack(root, image.name), stackText(manifest.layers));
  const made = join(temporary, image.name);
  await mkdir(made);
  const known = new Map([
    ['vmlinuz', manifest.kernel],
    ['initrd.img', manifest.initrd],
  ]);
  for (const name of files.keys()) {
    await copyFile(join(image.directory, name), join(made, name), known.get(name), context, onBytes);
  }
  await syncDirectory(made);
}

/** Puts it where it belongs. */
async function showImage(image: StoredImage, root: string, temporary: string): Promise<void> {
  const target = storePaths.image(root, image);
  await makeDirectories(dirname(target));
  // A damaged one of that name.
  if (await exists(target)) await rename(target, join(temporary, `old-${image.name}`));
  await rename(join(temporary, image.name), target);
  await syncDirectory(dirname(target));
  await syncDirectory(storePaths.images(root));
}

/**
 * The images of a medium that retention lets go; never the newest of a profile.
 * @param policies by profile; one that has none lets nothing go
 * @param wanted names of images that stay
 */
export function surplusImages(
  images: readonly StoredImage[],
  policies: ReadonlyMap<string, Retention | undefined>,
  wanted: readonly string[],
): readonly StoredImage[] {
  const newestFirst = images.toSorted((a, b) => (a.version < b.version ? 1 : -1));
  const untouchable = { pinned: new Set(wanted), booted: undefined };
  return [...policies].flatMap(([profile, policy]) => {
    const own = newestFirst.filter((image) => image.profile === profile);
    return decide(own, policy, untouchable).flatMap(({ image, keeps }) => (keeps ? [] : [image]));
  });
}

/**
 * Takes images off a medium, each by one rename; their files go when GRUB sees them no more, their layers stay until
 * `sweepStore`.
 */
export async function removeImages(
  images: readonly StoredImage[],
  root: string,
  settle: Settle,
): Promise<void> {
  if (images.length === 0) return;
  const temporary = storePaths.temporary(root);
  await rm(temporary, { recursive: true, force: true });
  await makeDirectories(temporary);
  for (const image of images) {
    await rename(storePaths.image(root, image), join(temporary, `gone-${image.name}`));
    await syncDirectory(dirname(storePaths.image(root, image)));
  }
  await settle();
  await rm(temporary, { recursive: true, force: true });
}

/**
 * Files of a medium's store that no image of it has: leftovers of a run that was cut off, or of removed images.
 * @param wanted images whose layers count as needed although the images are not there yet
 */
export async function unneededFiles(
  root: string,
  wanted: readonly WantedImage[] = [],
): Promise<readonly string[]> {
  const { live } = await findUnneeded(
    root,
    wanted.flatMap(({ manifest }) => manifest.layers),
  );
  const unneeded = live.map((name) => join('live', name));
  return [...unneeded, ...((await exists(storePaths.temporary(root))) ? ['.tmp'] : [])];
}

/** Removes them, and directories of profiles without images. */
export async function sweepStore(root: string, wanted: readonly WantedImage[] = []): Promise<void> {
  const unneeded = await unneededFiles(root, wanted);
  for (const name of unneeded) await rm(join(root, name), { recursive: true, force: true });
  await makeDirectories(storePaths.images(root));
  for (const profile of await readdir(storePaths.images(root))) {
    const directory = join(storePaths.images(root), profile);
    if ((await stat(directory)).isDirectory() && (await readdir(directory)).length === 0) {
      await rm(directory, { recursive: true });
    }
  }
}
