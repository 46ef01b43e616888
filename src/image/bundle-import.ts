import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { isReliveError, ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { digestFile, exists, explainDiskFull, freeBytes, ifThere } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { applyPatch } from '../host/patch.ts';
import { TarReader } from '../host/tar.ts';
import {
  type BundleContents,
  type BundledLayer,
  type BundleEntry,
  type BundleIndex,
  headFiles,
  largest,
  readIndex,
  requireSound,
  type SharedFile,
  sharedFileOf,
  sharedFiles,
} from './bundle.ts';
import {
  layerFile,
  type Manifest,
  type ManifestLayer,
  parseManifest,
  stackText,
  verityFile,
} from './manifest.ts';
import { imageName } from './name.ts';
import {
  listImages,
  lockStore,
  newestImage,
  type PackedLayer,
  publishImage,
  type StoredImage,
  storePaths,
} from './store.ts';
import { verifySealed } from './verify.ts';

/** The stage that the events of receiving belong to. */
const receiveStage = 'receive';
/** Besides the files: directories, and the room that a file system wants for itself. */
const slackBytes = 4 * 1024 * 1024;

/** A bundle that is to be read once, from front to end. */
export interface BundleSource {
  readonly stream: AsyncIterable<Buffer>;
  /** What errors call it. */
  readonly name: string;
}

/** Where an image of the same name in the store stands. */
type Standing = 'new' | 'there' | 'damaged';

/** Where the bytes of a layer come from. */
export interface LayerPlan {
  readonly digest: string;
  readonly role: ManifestLayer['role'];
  readonly size: number;
  /** In the store already; received by an import that was cut off; to be received, as itself or as a patch. */
  readonly from: 'store' | 'received' | 'bundle' | 'patch';
}

/** What an import would do. */
export interface ImportPlan {
  readonly image: string;
  readonly kind: Manifest['kind'];
  readonly standing: Standing;
  /** The newest image of the profile, where it is newer than this one. */
  readonly newer: string | undefined;
  readonly layers: readonly LayerPlan[];
  /** What the store grows by, in bytes. */
  readonly bytes: number;
}

export interface Imported extends ImportPlan {
  readonly directory: string;
  /** The image was there, whole: nothing was done. */
  readonly unchanged: boolean;
}

export interface ImportOptions {
  /** The public keys that are trusted: armoured text or the path of a keyring. */
  readonly keyring: string;
  /** The site's own, where others are trusted; an image that they do not prove is warned of. */
  readonly own?: string | undefined;
}

/**
 * Opens a bundle for reading; `-` is standard input.
 * @throws ReliveError `not-found`, `usage` for a directory
 */
export async function openBundle(
  path: string,
  { signal }: Context,
): Promise<BundleSource & { close: () => void }> {
  const source = (stream: Readable, name: string) => ({
    // Nobody else wakes up who waits for a pipe.
    stream: addAbortSignal(signal, stream) as AsyncIterable<Buffer>,
    ...{ name, close: () => void stream.destroy() },
  });
  if (path === '-') return source(process.stdin, 'standard input');
  const file = resolve(path);
  if (!(await exists(file))) throw new ReliveError('not-found', `there is no file ${file}`);
  if ((await stat(file)).isDirectory()) {
    throw new ReliveError('usage', `${file} is a directory, not a bundle`, {
      hint: 'relive image export IMAGE --bundle FILE writes one',
    });
  }
  return source(createReadStream(file, { highWaterMark: 1024 * 1024 }), file);
}

/** The head of a bundle: proven to be by a trusted key, and to hold together. */
interface Head {
  readonly manifest: Manifest;
  /** The bytes that were signed, and the signature. */
  readonly text: Buffer;
  readonly signature: Buffer;
  readonly index: BundleIndex & BundleContents;
}

async function readHead(
  reader: TarReader,
  what: string,
  { keyring, own }: ImportOptions,
  context: Context,
): Promise<Head> {
  const text = await reader.whole(headFiles.manifest, largest.manifest);
  const signature = await reader.whole(headFiles.signature, largest.signature);
  await withScratchDirectory(tmpdir(), async (scratch) => {
    const [file, beside] = [join(scratch, headFiles.manifest), join(scratch, headFiles.signature)];
    await writeFile(file, text);
    await writeFile(beside, signature);
    await verifyDetached(file, beside, keyring, context, { as: `the manifest in ${what}` });
    if (own === undefined) return;
    try {
      await verifyDetached(file, beside, own, context);
    } catch (error) {
      if (!isReliveError(error, 'not-authentic')) throw error;
      const message = `the image in ${what} is signed by a key that is not among the site's: relive image verify and media refuse it`;
      context.emit({ event: 'warning', message, hint: 'add the key to keys/public.asc' });
    }
  });
  const manifest = parseManifest(text.toString('utf8'), `the manifest in ${what}`);
  requireSound(manifest, what);
  const index = await reader.whole(headFiles.index, largest.index);
  return {
    ...{ manifest, text, signature },
    index: readIndex(index.toString('utf8'), manifest, text.toString('utf8'), what),
  };
}

/** Whether a file is there, and is what it must be to the last byte. */
async function isRight(
  path: string,
  { size, digest }: { readonly size: number; readonly digest: string },
  { signal }: Context,
): Promise<boolean> {
  const status = await ifThere(stat(path));
  if (!status?.isFile() || status.size !== size) return false;
  return (await digestFile(path, 'sha256', signal)).digest === digest;
}

/** Where an import keeps what it has received. Whatever else writes to the store removes it. */
function receivedDirectory(store: string): string {
  return join(storePaths.temporary(store), 'import');
}

/** What is known of a layer before anything is received. */
interface KnownLayer {
  readonly layer: ManifestLayer;
  readonly bundled: BundledLayer | undefined;
  /** Which of its two files are right in the store, and which were received before. */
  readonly stored: { readonly layer: boolean; readonly verity: boolean };
  readonly received: { readonly layer: boolean; readonly verity: boolean };
  /** Of a patch: whether what it is applied to is in the store. */
  readonly patchable: boolean;
}

async function lookAtLayers(store: string, head: Head, context: Context): Promise<KnownLayer[]> {
  const known: KnownLayer[] = [];
  const received = receivedDirectory(store);
  for (const layer of head.manifest.layers) {
    const bundled = head.index.layers.find((one) => one.layer === layer);
    const [stored, before] = [
      {
        layer: await isRight(storePaths.layer(store, layer), layer, context),
        verity: await isRight(storePaths.verity(store, layer), layer.verity, context),
      },
      {
        layer: await isRight(join(received, layerFile(layer)), layer, context),
        verity: await isRight(join(received, verityFile(layer)), layer.verity, context),
      },
    ];
    const from = bundled?.content.from;
    known.push({
      ...{ layer, bundled, stored, received: before },
      patchable:
        from === undefined ||
        stored.layer ||
        before.layer ||
        (await digestOrNothing(storePaths.layer(store, { digest: from }), context)) === from,
    });
  }
  return known;
}

async function digestOrNothing(path: string, { signal }: Context): Promise<string | undefined> {
  return (await ifThere(digestFile(path, 'sha256', signal)))?.digest;
}

function isThere({ stored, received }: KnownLayer): boolean {
  return (stored.layer || received.layer) && (stored.verity || received.verity);
}

/** A file of the image directory that is not in the bundle, and where it is. */
interface KnownFile {
  readonly name: SharedFile;
  /** In another image of the store; undefined where none has it. */
  readonly source: string | undefined;
  readonly size: number;
  readonly digest: string;
}

/** Finds kernel and initrd, where the bundle leaves them out, in images of the store. */
async function lookForFiles(store: string, head: Head, context: Context): Promise<KnownFile[]> {
  const found: KnownFile[] = [];
  for (const name of sharedFiles) {
    const meant = sharedFileOf(head.manifest, name);
    if (meant === null || head.index.files.some(({ path }) => path === name)) continue;
    let source: string | undefined;
    for (const image of await listImages(store)) {
      const file = join(image.directory, name);
      if (source === undefined && (await isRight(file, meant, context))) source = file;
    }
    found.push({ name, source, size: meant.size, digest: meant.digest });
  }
  return found;
}

/** @throws ReliveError `not-found`, naming every layer that neither the store nor the bundle has */
async function requireParts(
  store: string,
  { manifest, index }: Head,
  known: readonly KnownLayer[],
  files: readonly KnownFile[],
): Promise<void> {
  const lines = files
    .filter(({ source }) => source === undefined)
    .map(({ name, size }) => `    ${name} (${size} bytes)`);
  for (const each of known) {
    const { layer, bundled, patchable } = each;
    if (isThere(each) || (bundled !== undefined && patchable)) continue;
    const damaged = await exists(storePaths.layer(store, layer));
    const old = bundled?.content.from;
    lines.push(
      old === undefined
        ? `    ${layerFile(layer)} (${layer.role}, ${layer.size} bytes)${damaged ? ', which is damaged in the store' : ''}`
        : `    ${layerFile({ digest: old })}, which a patch of the bundle makes ${layerFile(layer)} (${layer.role}) of`,
    );
  }
  if (lines.length === 0) return;
  const parent = index.since ?? manifest.parent?.image;
  const from = parent === undefined ? '' : `import ${parent} first, or `;
  throw new ReliveError(
    'not-found',
    `${manifest.image} needs what neither the bundle nor the store has:\n${lines.join('\n')}`,
    { hint: `${from}get a bundle with all of it: relive image export ${manifest.image} --bundle FILE` },
  );
}

/** What stands in the store under the name of the image. @throws ReliveError `exists` for another image */
async function standingOf(
  store: string,
  image: StoredImage,
  head: Head,
  known: readonly KnownLayer[],
  { keyring }: ImportOptions,
  context: Context,
): Promise<Standing> {
  if (!(await exists(image.directory))) return 'new';
  const there = await ifThere(readFile(join(image.directory, headFiles.manifest)));
  // A damaged manifest is no image's: it may be replaced like other damage.
  const quiet = { emit: () => undefined, signal: context.signal };
  const { findings, manifest } = await verifySealed(image, keyring, quiet);
  if (manifest !== undefined && there?.equals(head.text) !== true) {
    throw new ReliveError('exists', `the store has another image of the name ${image.name}`, {
      hint: 'two sites have made images of one name: rename the profile of one of them',
    });
  }
  const stack = await readFile(storePaths.stack(store, image.name), 'utf8').catch(() => '');
  const whole =
    findings.length === 0 &&
    stack === stackText(head.manifest.layers) &&
    known.every(({ stored }) => stored.layer && stored.verity);
  return whole ? 'there' : 'damaged';
}

function sourceOf({ stored, received, bundled }: KnownLayer): LayerPlan['from'] {
  if (stored.layer) return 'store';
  if (received.layer) return 'received';
  return bundled?.content.from === undefined ? 'bundle' : 'patch';
}

/** What is known when the head was read and the store was looked at. */
interface Prepared {
  readonly head: Head;
  readonly image: StoredImage;
  readonly known: readonly KnownLayer[];
  readonly files: readonly KnownFile[];
  readonly plan: ImportPlan;
}

async function prepare(
  store: string,
  head: Head,
  options: ImportOptions,
  context: Context,
): Promise<Prepared> {
  const { manifest, index } = head;
  const name = { profile: manifest.profile.name, version: manifest.version };
  const image = { ...name, name: imageName(name), directory: storePaths.image(store, name) };
  const known = await inStage(context, 'compare', async () => await lookAtLayers(store, head, context));
  const standing = await standingOf(store, image, head, known, options, context);
  const files = standing === 'there' ? [] : await lookForFiles(store, head, context);
  if (standing !== 'there') await requireParts(store, head, known, files);
  const newest = await newestImage(store, name.profile);
  const lacking = known.filter((each) => !isThere(each));
  const sizes = [
    ...[...index.files, ...files].map(({ size }) => size),
    ...lacking.map(({ layer }) => layer.size + layer.verity.size),
  ];
  if (newest !== undefined && newest.version > name.version) {
    const message = `${image.name} is older than ${newest.name}, which stays the newest image of ${name.profile}`;
    context.emit({ event: 'warning', message });
  }
  const plan: ImportPlan = {
    ...{ image: image.name, kind: manifest.kind, standing },
    newer: newest !== undefined && newest.version > name.version ? newest.name : undefined,
    layers: known.map((each) => ({
      ...{ digest: each.layer.digest, role: each.layer.role, size: each.layer.size },
      from: sourceOf(each),
    })),
    bytes: standing === 'there' ? 0 : sizes.reduce((sum, size) => sum + size, head.text.length),
  };
  return { head, image, known, files, plan };
}

/**
 * Tells what an import would do, and reads no more of the bundle than its head.
 * @throws ReliveError as `importBundle`
 */
export async function planImport(
  store: string,
  source: BundleSource,
  options: ImportOptions,
  context: Context,
): Promise<ImportPlan> {
  const head = await readHead(new TarReader(source.stream, source.name), source.name, options, context);
  return (await prepare(store, head, options, context)).plan;
}

/**
 * Brings the image of a bundle into a store, reading the bundle once. Everything is proven before the image appears, by one
 * rename: the manifest by its signature before anything else is read, each layer by its digest in the manifest while it is
 * received. Layers that the store has are not written again, nor those which an import that was cut off has received.
 * @throws ReliveError `not-authentic`, `corrupt`; `not-found` naming all layers that are missing; `exists` for another image of
 *   that name; `disk-full`
 */
export async function importBundle(
  store: string,
  source: BundleSource,
  options: ImportOptions,
  context: Context,
): Promise<Imported> {
  const reader = new TarReader(source.stream, source.name);
  const head = await readHead(reader, source.name, options, context);
  const lock = await lockStore(store, context);
  try {
    const prepared = await prepare(store, head, options, context);
    const { plan, image } = prepared;
    const { directory } = image;
    if (plan.standing === 'there') return { ...plan, directory, unchanged: true };
    await requireRoom(store, plan.bytes);
    try {
      await receive(store, reader, source.name, prepared, options, context);
    } catch (error) {
      await removeUnfinished(receivedDirectory(store));
      throw explainDiskFull(error, store);
    }
    return { ...plan, directory, unchanged: false };
  } finally {
    await lock.release();
  }
}

/** @throws ReliveError `disk-full` with the sum, before anything is written */
async function requireRoom(store: string, bytes: number): Promise<void> {
  const free = await freeBytes(store);
  if (free >= bytes + slackBytes) return;
  throw new ReliveError(
    'disk-full',
    `the import needs ${bytes + slackBytes} bytes in ${store}, which has ${free}`,
    {
      hint: 'make room there: relive image prune removes images that nobody needs',
    },
  );
}

/** Receives all that the store lacks, checks it, and publishes the image. The caller holds the lock. */
async function receive(
  store: string,
  reader: TarReader,
  what: string,
  { head, image, known, files }: Prepared,
  options: ImportOptions,
  context: Context,
): Promise<void> {
  const directory = receivedDirectory(store);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const staged = join(directory, image.name);
  await removeAllBut(directory, known);
  await mkdir(staged);
  const write = async (name: string, content: Buffer): Promise<void> =>
    await writeChecked(join(staged, name), [content], undefined);
  await write(headFiles.manifest, head.text);
  await write(headFiles.signature, head.signature);
  for (const { name, source, ...meant } of files) {
    if (source !== undefined) await writeChecked(join(staged, name), createReadStream(source), meant);
  }
  await inStage(context, receiveStage, async () => {
    const { entries } = head.index;
    const total = entries.reduce((sum, { size }) => sum + size, 0);
    let done = 0;
    const next = async function* ({ path, size }: BundleEntry): AsyncGenerator<Buffer, void> {
      await requireSize(reader, path, size, what);
      for await (const piece of reader.content(path, size)) {
        context.signal.throwIfAborted();
        done += piece.length;
        context.emit({ event: 'progress', stage: receiveStage, done, total, unit: 'bytes', item: path });
        yield piece;
      }
    };
    for (const entry of head.index.files) await writeChecked(join(staged, entry.path), next(entry), entry);
    for (const bundled of head.index.layers) {
      const of = known.find(({ layer }) => layer === bundled.layer);
      if (of !== undefined) await receiveLayer(store, of, bundled, next, context);
    }
    await reader.end();
  });
  const sealed = await verifySealed({ ...image, directory: staged }, options.keyring, context);
  const [fault] = sealed.findings;
  if (fault !== undefined) {
    throw new ReliveError('corrupt', `${what}: ${fault.detail}: ${fault.path.slice(staged.length + 1)}`, {
      hint: 'it was changed or damaged on its way, or was not made by relive: export it again',
    });
  }
  await publish(store, image, head.manifest, known, staged);
  // Whatever else is there was left by a run that was cut off.
  await rm(storePaths.temporary(store), { recursive: true, force: true });
}

async function requireSize(reader: TarReader, path: string, size: number, what: string): Promise<void> {
  if ((await reader.entry(path, size)) === size) return;
  throw new ReliveError('corrupt', `${what}: ${path} has another size than ${headFiles.index} says`);
}

/** Removes what is of no use to this import: layers of others, and what was cut off in the middle. */
async function removeAllBut(directory: string, known: readonly KnownLayer[]): Promise<void> {
  const useful = new Set(
    known.flatMap(({ layer, received }) => [
      ...(received.layer ? [layerFile(layer)] : []),
      ...(received.verity ? [verityFile(layer)] : []),
    ]),
  );
  for (const name of await readdir(directory)) {
    if (!useful.has(name)) await rm(join(directory, name), { recursive: true, force: true });
  }
}

/** Leaves layers that were received whole, and nothing else. */
async function removeUnfinished(directory: string): Promise<void> {
  for (const name of await readdir(directory).catch(() => [])) {
    if (!/^[0-9a-f]{16}\.(?:squashfs|verity)$/.test(name)) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
  }
}

async function receiveLayer(
  store: string,
  { layer, stored, received }: KnownLayer,
  { content, verity }: BundledLayer,
  next: (entry: BundleEntry) => AsyncGenerator<Buffer, void>,
  context: Context,
): Promise<void> {
  const directory = receivedDirectory(store);
  const file = join(directory, layerFile(layer));
  if (stored.layer || received.layer) await skip(next(content));
  else if (content.from === undefined) await receiveFile(file, next(content), layer);
  else {
    const patch = `${file}.patch`;
    await receiveFile(patch, next(content), content);
    const old = storePaths.layer(store, { digest: content.from });
    await receiveFile(file, applyPatch(old, patch, context), layer);
    await rm(patch);
  }
  if (stored.verity || received.verity) await skip(next(verity));
  else await receiveFile(join(directory, verityFile(layer)), next(verity), layer.verity);
}

async function skip(pieces: AsyncIterable<Buffer>): Promise<void> {
  for await (const piece of pieces) void piece;
}

interface Expected {
  readonly size: number;
  readonly digest: string;
}

/** Writes what is received under another name until it is known to be right. @throws ReliveError `corrupt` */
async function receiveFile(target: string, pieces: AsyncIterable<Buffer>, expected: Expected): Promise<void> {
  const partial = `${target}.part`;
  await writeChecked(partial, pieces, expected);
  await rename(partial, target);
}

/** Writes a file that must not be there, checking its size and its digest on the way. */
async function writeChecked(
  target: string,
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  expected: Expected | undefined,
): Promise<void> {
  const hash = createHash('sha256');
  let size = 0;
  const handle = await open(target, 'wx', 0o644);
  try {
    // Whatever the umask: the store is read by others.
    await handle.chmod(0o644);
    for await (const piece of pieces) {
      size += piece.length;
      if (expected !== undefined && size > expected.size) break;
      hash.update(piece);
      await handle.writeFile(piece);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  const digest = hash.digest('hex');
  if (expected === undefined || (size === expected.size && digest === expected.digest)) return;
  await rm(target, { force: true });
  throw new ReliveError(
    'corrupt',
    `what was received for ${target} is damaged: its SHA-256 is not ${expected.digest}`,
    {
      hint: 'get the bundle again: layers that were received whole are kept',
    },
  );
}

/** Publishes what was proven; damaged files of the same names make way. */
async function publish(
  store: string,
  image: StoredImage,
  { layers }: Manifest,
  known: readonly KnownLayer[],
  staged: string,
): Promise<void> {
  const directory = receivedDirectory(store);
  const added: PackedLayer[] = [];
  const trash = join(directory, 'damaged');
  await mkdir(trash);
  const makeWay = async (path: string): Promise<void> => {
    if (await exists(path)) await rename(path, join(trash, String((await readdir(trash)).length)));
  };
  for (const { layer, stored } of known) {
    if (stored.layer && stored.verity) continue;
    if (!stored.layer) await makeWay(storePaths.layer(store, layer));
    if (!stored.verity) await makeWay(storePaths.verity(store, layer));
    const file = stored.layer ? storePaths.layer(store, layer) : join(directory, layerFile(layer));
    const tree = stored.verity ? storePaths.verity(store, layer) : join(directory, verityFile(layer));
    added.push({ layer, file, tree });
  }
  await makeWay(image.directory);
  await publishImage(store, image, staged, layers, added);
}
