import { copyFile, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { ReliveError, systemCode } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { addressOf, type DownloadRequest, Transport } from '../host/download.ts';
import { exists, makeDirectories, sha256, syncDirectory, syncFile, writeFileAtomic } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { takeLock } from '../host/lock.ts';
import { type Channel, channelPath, largestChannel, readChannel, requireCurrent } from '../image/channel.ts';
import {
  type BootManifest,
  boots,
  isShared,
  layerFile,
  parseManifest,
  type SharedFile,
  type SharedPart,
  sharedPartsOf,
  stackText,
  verityFile,
} from '../image/manifest.ts';
import { type ImageName, imageName, parseImageName } from '../image/name.ts';
import { signedFiles } from '../image/seal.ts';
import { indexFile } from '../image/serve.ts';
import { findSharedParts, linkFile, type StoredImage, storePaths } from '../image/store.ts';
import { verifyImage } from '../image/verify.ts';
import { requireRoom, type TargetStore } from './pull-store.ts';

/** No manifest, list of checksums or index is larger. */
const largestText = 16 * 1024 * 1024;
const largestSignature = 64 * 1024;
/** Besides the files: directories, and what a file system wants for itself. */
const slackBytes = 4 * 1024 * 1024;

/** Which image is wanted: this one, the newest of a profile by the index of the server, or that of a channel. */
export type Wanted =
  | { readonly by: 'name'; readonly name: string }
  | { readonly by: 'profile'; readonly profile: string }
  | { readonly by: 'channel'; readonly profile: string; readonly channel: string };

export interface PullOptions {
  /** The address of the served store. */
  readonly from: string;
  readonly wanted: Wanted;
  /** The file with the public keys that are trusted. */
  readonly keys: string;
  /** What machine it is for: an image of another architecture is refused. */
  readonly architecture: string;
  readonly target: TargetStore;
  /**
   * The directories of layers of other stores: those need not be fetched again where the target is in RAM, and kernel and
   * initrd of an image there wherever it is.
   */
  readonly at: readonly string[];
}

export interface Pulled {
  readonly image: StoredImage;
  readonly manifest: BootManifest;
  /** The image was there, whole. */
  readonly present: boolean;
  /** Bytes that came over the line. */
  readonly bytes: number;
  readonly layers: { readonly fetched: number; readonly shared: number };
  readonly channel: Channel | undefined;
}

const indexSchema = z.object({ schema: z.literal(1), images: z.array(z.string()).max(100_000) });

/** A server that is asked. */
class Source {
  readonly #transport: Transport;
  readonly #base: string;
  readonly #context: Context;

  constructor(transport: Transport, base: string, context: Context) {
    this.#transport = transport;
    this.#base = base;
    this.#context = context;
  }

  url(path: string): string {
    return addressOf(this.#base, path);
  }

  /** A small file. @throws ReliveError `not-found` where the server has none */
  async read(path: string, maximumSize: number): Promise<Buffer> {
    const found = await this.#transport.document([this.url(path)], { maximumSize }, this.#context);
    if (found.state === 'fetched') return found.body;
    throw new ReliveError('not-found', `${this.url(path)} is not there`, {
      hint: `is ${this.#base} the address of a store that relive serve offers? It ends with /store`,
    });
  }
}

/** The file that remembers which serials of channels were seen, beside the images that came by them. */
function seenFile(store: string): string {
  return join(store, 'channels-seen.json');
}

const seenSchema = z.record(z.string(), z.int().nonnegative());

async function seenSerials(store: string): Promise<Record<string, number>> {
  const file = seenFile(store);
  try {
    return seenSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return {};
    throw new ReliveError('corrupt', `${file} is damaged: which channels were seen is not known`, {
      hint: `look whether the medium is, too; without the file the next relive live pull believes any channel that is signed`,
      cause: error,
    });
  }
}

/** Asks for the channel, and believes it if it is signed, no older than the last one, and not expired. */
async function fetchChannel(
  source: Source,
  wanted: Extract<Wanted, { by: 'channel' }>,
  staging: string,
  { keys, target }: PullOptions,
  context: Context,
): Promise<Channel> {
  const path = channelPath(wanted.profile, wanted.channel);
  const file = join(staging, 'channel.asc');
  await writeFile(file, await source.read(path, largestChannel));
  const channel = await readChannel(file, keys, wanted, context);
  await rm(file);
  const seen = await seenSerials(target.store);
  const name = `${wanted.profile}/${wanted.channel}`;
  requireCurrent(channel, seen[name] ?? 0, new Date());
  if (seen[name] !== channel.serial) {
    await writeFileAtomic(
      seenFile(target.store),
      `${JSON.stringify({ ...seen, [name]: channel.serial }, undefined, 2)}\n`,
    );
  }
  return channel;
}

/** The newest image of a profile that the server tells of. */
async function newestServed(source: Source, profile: string): Promise<ImageName> {
  const url = source.url(indexFile);
  let names: readonly string[];
  try {
    names = indexSchema.parse(JSON.parse((await source.read(indexFile, largestText)).toString())).images;
  } catch (error) {
    if (error instanceof ReliveError) throw error;
    throw new ReliveError('corrupt', `${url} is not the list of a store`, { cause: error });
  }
  const [newest] = names
    .flatMap((name) => parseImageName(name) ?? [])
    .filter((name) => name.profile === profile)
    .toSorted((a, b) => (a.version < b.version ? 1 : -1));
  if (newest !== undefined) return newest;
  throw new ReliveError('not-found', `${url} has no image of ${profile}`);
}

/** The manifest of an image, believed because of its signature, and left in `staging` with it. */
async function fetchManifest(
  source: Source,
  name: ImageName,
  staging: string,
  { keys, architecture }: PullOptions,
  context: Context,
): Promise<{ readonly manifest: BootManifest; readonly digest: string }> {
  const path = `images/${name.profile}/${name.version}/manifest.json`;
  const file = join(staging, 'manifest.json');
  const text = await source.read(path, largestText);
  await writeFile(file, text);
  await writeFile(`${file}.sig`, await source.read(`${path}.sig`, largestSignature));
  await verifyDetached(file, `${file}.sig`, keys, context, { as: source.url(path) });
  const manifest = parseManifest(text.toString(), source.url(path));
  if (manifest.image !== imageName(name)) {
    throw new ReliveError('not-authentic', `${source.url(path)} is the manifest of ${manifest.image}`);
  }
  if (!boots(manifest))
    throw new ReliveError('usage', `${manifest.image} is a container: no machine runs it`);
  if (manifest.architecture !== architecture) {
    throw new ReliveError(
      'usage',
      `${manifest.image} is for ${manifest.architecture}, this machine is ${architecture}`,
    );
  }
  return { manifest, digest: sha256(text) };
}

/** A file of /live. */
interface Part {
  readonly name: string;
  readonly size: number;
  readonly digest: string;
}

function partsOf({ layers }: BootManifest): Part[] {
  return layers.flatMap((layer) => [
    { name: layerFile(layer), size: layer.size, digest: layer.digest },
    { name: verityFile(layer), size: layer.verity.size, digest: layer.verity.digest },
  ]);
}

/** Whether a file of this size is there; all of it is read before the image appears. */
async function hasSize(path: string, size: number): Promise<boolean> {
  const status = await stat(path).catch(() => undefined);
  return status?.isFile() === true && status.size === size;
}

/**
 * Brings the layers that the target lacks. In RAM those that are elsewhere on the machine are named, not copied.
 * @returns what has to be fetched
 */
async function missingParts(parts: readonly Part[], { target, at }: PullOptions): Promise<Part[]> {
  const live = storePaths.layers(target.store);
  await makeDirectories(live);
  const missing: Part[] = [];
  for (const part of parts) {
    const own = join(live, part.name);
    if (await hasSize(own, part.size)) continue;
    await rm(own, { force: true });
    let found = false;
    for (const place of target.inRam ? at : []) {
      found = await hasSize(join(place, part.name), part.size);
      if (!found) continue;
      await symlink(join(place, part.name), own);
      break;
    }
    if (!found) missing.push(part);
  }
  return missing;
}

/** Removes what an earlier run has fetched of files that are not wanted any more. */
async function removeStale(directory: string, missing: readonly Part[]): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith('.part-') || missing.some((part) => name.startsWith(`.part-${part.name}-`)))
      continue;
    await rm(join(directory, name), { force: true });
  }
}

/** The bytes of a download that an earlier run has left. */
async function partialBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
    if (name.startsWith('.part-')) bytes += (await stat(join(directory, name))).size;
  }
  return bytes;
}

/** Kernel and initrd that are not in `staging` yet. */
async function missingBootParts(manifest: BootManifest, staging: string): Promise<SharedPart[]> {
  const missing: SharedPart[] = [];
  for (const part of sharedPartsOf(manifest)) {
    if (!(await hasSize(join(staging, part.name), part.size))) missing.push(part);
  }
  return missing;
}

/** Where images on this machine have these files, as after most updates. */
async function bootPartsHere(
  parts: readonly SharedPart[],
  { target, at }: PullOptions,
  { signal }: Context,
): Promise<ReadonlyMap<SharedFile, string>> {
  const here = new Map<SharedFile, string>();
  for (const store of [target.store, ...at.map((layers) => dirname(layers))]) {
    const lacking = parts.filter(({ name }) => !here.has(name));
    for (const [name, path] of await findSharedParts(store, lacking, signal)) here.set(name, path);
  }
  return here;
}

/** What of the image directory there is to fetch beside the manifest: sizes are known of kernel and initrd alone. */
async function fetchBootFiles(
  source: Source,
  transport: Transport,
  name: ImageName,
  manifest: BootManifest,
  staging: string,
  context: Context,
): Promise<number> {
  const directory = `images/${name.profile}/${name.version}`;
  const wanted = (await missingBootParts(manifest, staging)).map(
    ({ name: file, size, digest }): DownloadRequest => ({
      sources: [source.url(`${directory}/${file}`)],
      target: join(staging, file),
      expected: { size, algorithm: 'sha256', digest },
    }),
  );
  const { failures, bytes: came } = await transport.downloadAll(wanted, 'fetch kernel', context);
  if (failures[0] !== undefined) throw failures[0].error;
  let bytes = came;
  for (const file of signedFiles(manifest)) {
    if (file !== 'manifest.json' && !isShared(file)) {
      const content = await source.read(`${directory}/${file}`, largestText);
      await writeFile(join(staging, file), content);
      bytes += content.length;
    }
    if (file === 'manifest.json') continue;
    const signature = await source.read(`${directory}/${file}.sig`, largestSignature);
    await writeFile(join(staging, `${file}.sig`), signature);
    bytes += signature.length;
  }
  return bytes;
}

/** Fetches layers and hash trees: each appears when its SHA-256 is right, and goes on where an earlier run was cut off. */
async function fetchParts(
  source: Source,
  transport: Transport,
  missing: readonly Part[],
  store: string,
  context: Context,
): Promise<number> {
  const requests = missing.map(
    ({ name, size, digest }): DownloadRequest => ({
      sources: [source.url(`live/${name}`)],
      target: join(storePaths.layers(store), name),
      expected: { size, algorithm: 'sha256', digest },
    }),
  );
  const { bytes, failures } = await transport.downloadAll(requests, 'fetch layers', context, { parallel: 1 });
  if (failures[0] !== undefined) throw failures[0].error;
  for (const { target } of requests) await syncFile(target);
  return bytes;
}

/** Makes the image appear, when every byte of it was read and is what was signed. */
async function publish(
  name: ImageName,
  manifest: BootManifest,
  staging: string,
  { target: { store }, keys }: PullOptions,
  context: Context,
): Promise<StoredImage> {
  await writeFileAtomic(storePaths.stack(store, imageName(name)), stackText(manifest.layers));
  await syncDirectory(storePaths.layers(store));
  const staged = { ...name, name: imageName(name), directory: staging };
  const findings = await verifyImage(store, staged, keys, context);
  if (findings[0] !== undefined) {
    const { path, detail } = findings[0];
    await rm(staging, { recursive: true, force: true });
    throw new ReliveError('corrupt', `${imageName(name)} is not what was signed: ${path}: ${detail}`, {
      hint: 'remove that file if it is in this store; else verify the image where it is served',
    });
  }
  for (const file of await readdir(staging)) await syncFile(join(staging, file));
  await syncDirectory(staging);
  const directory = storePaths.image(store, name);
  await makeDirectories(dirname(directory));
  await rename(staging, directory);
  await syncDirectory(dirname(directory));
  await syncDirectory(storePaths.images(store));
  return { ...name, name: imageName(name), directory };
}

/**
 * Brings an image from a served store into a store of this machine: manifest and signature first, then the layers that are
 * missing, then kernel and initrd. The image appears when all of it was read and is what its signer made; what was fetched
 * before a run was cut off is gone on with.
 * @throws ReliveError `no-network`, `download-failed`, `not-found`, `not-authentic`, `corrupt`, `disk-full`, `locked`, `usage`
 */
export async function pullImage(options: PullOptions, context: Context): Promise<Pulled> {
  const { from, wanted, target } = options;
  const { store } = target;
  const lock = await takeLock(join(store, '.lock'), `the store ${store}`, context);
  const transport = new Transport();
  const source = new Source(transport, from, context);
  try {
    const temporary = join(store, '.pull');
    await makeDirectories(temporary, 0o700);
    const channel =
      wanted.by === 'channel' ? await fetchChannel(source, wanted, temporary, options, context) : undefined;
    const name = await nameOf(source, wanted, channel);
    const image = { ...name, name: imageName(name), directory: storePaths.image(store, name) };
    // What an earlier run has fetched of another image is of no use.
    for (const other of await readdir(temporary)) {
      if (other !== image.name) await rm(join(temporary, other), { recursive: true, force: true });
    }
    const staging = join(temporary, image.name);
    await makeDirectories(staging);
    const { manifest, digest } = await fetchManifest(source, name, staging, options, context);
    if (channel !== undefined && channel.manifest !== digest) {
      throw new ReliveError(
        'not-authentic',
        `${image.name} is not the image that the channel ${channel.channel} names`,
        {
          hint: 'its manifest has another SHA-256: was it made anew after relive channel set?',
        },
      );
    }
    const parts = partsOf(manifest);
    if (await exists(image.directory)) {
      await rm(temporary, { recursive: true, force: true });
      const none = { bytes: 0, layers: { fetched: 0, shared: manifest.layers.length } };
      return { image, manifest, present: true, ...none, channel };
    }
    const missing = await missingParts(parts, options);
    await removeStale(storePaths.layers(store), missing);
    const here = await bootPartsHere(await missingBootParts(manifest, staging), options, context);
    // What is linked takes no room, and is there before that is looked at.
    for (const [file, path] of here) await linkFile(path, join(staging, file));
    const boot = await missingBootParts(manifest, staging);
    await removeStale(
      staging,
      boot.filter(({ name: file }) => !here.has(file)),
    );
    const left = (await partialBytes(storePaths.layers(store))) + (await partialBytes(staging));
    await requireRoom(target, [...missing, ...boot].reduce((sum, { size }) => sum + size, slackBytes) - left);
    for (const { name: file } of boot) {
      const path = here.get(file);
      if (path !== undefined) await copyFile(path, join(staging, file));
    }
    let bytes = await fetchParts(source, transport, missing, store, context);
    bytes += await fetchBootFiles(source, transport, name, manifest, staging, context);
    const published = await inStage(
      context,
      'check',
      async () => await publish(name, manifest, staging, options, context),
    );
    await rm(temporary, { recursive: true, force: true });
    const fetched = missing.filter((part) => part.name.endsWith('.squashfs')).length;
    const layers = { fetched, shared: manifest.layers.length - fetched };
    return { image: published, manifest, present: false, bytes, layers, channel };
  } finally {
    await transport.close();
    await lock.release();
  }
}

async function nameOf(source: Source, wanted: Wanted, channel: Channel | undefined): Promise<ImageName> {
  if (wanted.by === 'profile') return await newestServed(source, wanted.profile);
  const name = parseImageName(wanted.by === 'name' ? wanted.name : (channel?.image ?? ''));
  if (name !== undefined) return name;
  throw new ReliveError('usage', `${JSON.stringify(wanted)} is not the name of an image`);
}
