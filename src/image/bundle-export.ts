import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import {
  digestFile,
  exists,
  explainDiskFull,
  ifThere,
  sha256,
  syncDirectory,
  temporaryBeside,
} from '../host/files.ts';
import { makePatch, patchable } from '../host/patch.ts';
import { tarEnd, tarHeader, tarPadding } from '../host/tar.ts';
import { type BundleEntry, bundledFiles, formatIndex, headFiles, patchFile } from './bundle.ts';
import {
  isShared,
  layerFile,
  type Manifest,
  type ManifestLayer,
  sharedFileOf,
  verityFile,
} from './manifest.ts';
import { findImage, readManifest, type StoredImage, storePaths } from './store.ts';
import { verifySealed } from './verify.ts';

/** The stage that the events of writing belong to. */
const writeStage = 'write';
/** A patch must be smaller than this share of the layer; else its cost in time and memory is worth more. */
const worthShare = 0.9;

export interface BundleOptions {
  /** The file; `-` is standard output. */
  readonly output: string;
  /** Leave out what this image has, too: layers, kernel, initrd. */
  readonly since: string | undefined;
  /** The public keys of the site: armoured text or the path of a keyring. */
  readonly keyring: string;
}

export interface WrittenBundle {
  readonly image: string;
  readonly file: string;
  readonly bytes: number;
  readonly since: string | undefined;
  /** How each layer of the image comes with it. */
  readonly layers: readonly {
    readonly digest: string;
    readonly as: 'layer' | 'patch' | 'left out';
    readonly bytes: number;
  }[];
}

/** An entry, and where its bytes are. */
interface Part {
  readonly entry: BundleEntry;
  readonly file: string;
}

async function partOf(path: string, file: string, { signal }: Context): Promise<Part> {
  return { entry: { path, ...(await digestFile(file, 'sha256', signal)) }, file };
}

/**
 * Writes an image as one file that `relive image import` reads (docs/bundles.md). The file appears complete or not at all, and
 * the same image gives the same bytes. What it holds is checked while it is written.
 * @param name an image, or a profile for its newest one
 * @throws ReliveError `not-found`, `corrupt`, `usage`, `disk-full`
 */
export async function exportBundle(
  store: string,
  name: string,
  { output, since, keyring }: BundleOptions,
  context: Context,
): Promise<WrittenBundle> {
  const image = await findImage(store, name);
  const older = since === undefined ? undefined : await findImage(store, since);
  if (older?.name === image.name) {
    throw new ReliveError('usage', `a bundle of ${image.name} since itself would have no layer`, {
      hint: '--since names the image that the receiver has',
    });
  }
  const piped = output === '-';
  const directory = piped ? tmpdir() : dirname(resolve(output));
  if (!(await exists(directory))) {
    throw new ReliveError('usage', `there is no directory ${directory} to write into`);
  }
  const { findings, manifest } = await verifySealed(image, keyring, context);
  const [fault] = findings;
  if (fault !== undefined || manifest === undefined) {
    throw new ReliveError('corrupt', `${image.name} is damaged: ${fault?.path}: ${fault?.detail}`, {
      hint: `relive image verify ${image.name} names every fault`,
    });
  }
  const had = older === undefined ? undefined : await readManifest(older);
  try {
    return await withScratchDirectory(directory, async (scratch) => {
      const { parts, layers } = await gather(store, image, manifest, had, scratch, context);
      const signature = await readFile(join(image.directory, headFiles.signature));
      const index = formatIndex({
        ...{ bundle: 1, since: older?.name ?? null, signature: sha256(signature) },
        entries: parts.map(({ entry }) => entry),
      });
      const head: readonly [string, Uint8Array][] = [
        [headFiles.manifest, await readFile(join(image.directory, headFiles.manifest))],
        [headFiles.signature, signature],
        [headFiles.index, Buffer.from(index)],
      ];
      const write = async (sink: Sink): Promise<number> =>
        await inStage(context, writeStage, async () => await writeTar(sink, head, parts, context));
      const bytes = piped ? await write(standardOutput) : await writeFileWhole(resolve(output), write);
      return { image: image.name, file: piped ? '-' : resolve(output), bytes, since: older?.name, layers };
    });
  } catch (error) {
    throw explainDiskFull(error, piped ? directory : resolve(output));
  }
}

/** All that comes behind the head, in order. */
async function gather(
  store: string,
  image: StoredImage,
  manifest: Manifest,
  had: Manifest | undefined,
  scratch: string,
  context: Context,
): Promise<{ readonly parts: Part[]; readonly layers: WrittenBundle['layers'] }> {
  const parts: Part[] = [];
  const layers: WrittenBundle['layers'][number][] = [];
  for (const name of bundledFiles(manifest)) {
    const same =
      had !== undefined &&
      isShared(name) &&
      sharedFileOf(had, name)?.digest === sharedFileOf(manifest, name)?.digest;
    if (!same) parts.push(await partOf(name, join(image.directory, name), context));
  }
  for (const layer of manifest.layers) {
    const { digest } = layer;
    if (had?.layers.some((old) => old.digest === digest) === true) {
      layers.push({ digest, as: 'left out', bytes: 0 });
      continue;
    }
    const patch = await smallerPatch(
      store,
      layer,
      predecessor(layer, manifest, had?.layers ?? []),
      scratch,
      context,
    );
    const { entry, file } = patch ?? {
      entry: { path: `live/${layerFile(layer)}`, size: layer.size, digest },
      file: storePaths.layer(store, layer),
    };
    const { size, digest: ofTree } = layer.verity;
    parts.push(
      { entry, file },
      {
        entry: { path: `live/${verityFile(layer)}`, size, digest: ofTree },
        file: storePaths.verity(store, layer),
      },
    );
    layers.push({ digest, as: patch === undefined ? 'layer' : 'patch', bytes: entry.size });
  }
  return { parts, layers };
}

/** The layer that another one has taken the place of: of its role, not in the new stack, the uppermost. */
function predecessor(
  { role }: ManifestLayer,
  { layers }: Manifest,
  had: readonly ManifestLayer[],
): ManifestLayer | undefined {
  return had.findLast((old) => old.role === role && !layers.some(({ digest }) => digest === old.digest));
}

/** A patch, where it is worth it. */
async function smallerPatch(
  store: string,
  layer: ManifestLayer,
  old: ManifestLayer | undefined,
  scratch: string,
  context: Context,
): Promise<Part | undefined> {
  if (old === undefined || !patchable(old.size, layer.size)) return undefined;
  const [from, to] = [storePaths.layer(store, old), storePaths.layer(store, layer)];
  await requireDigest(from, old, context);
  await requireDigest(to, layer, context);
  const file = join(scratch, patchFile(layer));
  const size = await inStage(context, 'patch', async () => await makePatch(from, to, file, context));
  if (size < layer.size * worthShare) {
    const { entry } = await partOf(`live/${patchFile(layer)}`, file, context);
    return { entry: { ...entry, from: old.digest }, file };
  }
  await rm(file);
  return undefined;
}

function damaged(file: string): ReliveError {
  return new ReliveError('corrupt', `${file} is not what the manifest says`, {
    hint: 'relive image verify names every fault of the store',
  });
}

async function requireDigest(
  file: string,
  { digest }: Pick<ManifestLayer, 'digest'>,
  { signal }: Context,
): Promise<void> {
  const found = await ifThere(digestFile(file, 'sha256', signal));
  if (found?.digest !== digest) throw damaged(file);
}

/** Takes bytes, and is ready for the next when it settles. */
type Sink = (bytes: Uint8Array) => Promise<unknown>;

const standardOutput: Sink = async (bytes) => {
  await new Promise<void>((resolved, rejected) => {
    process.stdout.write(bytes, (error) => (error ? rejected(error) : resolved()));
  });
};

async function writeFileWhole(file: string, write: (sink: Sink) => Promise<number>): Promise<number> {
  if ((await exists(file)) && !(await stat(file)).isFile()) {
    throw new ReliveError('usage', `${basename(file)} is there, and is no file`);
  }
  const temporary = temporaryBeside(file);
  try {
    const handle = await open(temporary, 'wx', 0o644);
    let bytes: number;
    try {
      bytes = await write(async (piece) => await handle.writeFile(piece));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    await syncDirectory(dirname(file));
    return bytes;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Writes the archive; a file that is not what its entry says ends it. */
async function writeTar(
  sink: Sink,
  head: readonly (readonly [string, Uint8Array])[],
  parts: readonly Part[],
  { emit, signal }: Context,
): Promise<number> {
  let bytes = 0;
  const put = async (piece: Uint8Array): Promise<void> => {
    await sink(piece);
    bytes += piece.length;
  };
  for (const [path, content] of head) {
    await put(Buffer.concat([tarHeader(path, content.length), content, tarPadding(content.length)]));
  }
  const total = parts.reduce((sum, { entry }) => sum + entry.size, bytes);
  for (const { entry, file } of parts) {
    const { path, size, digest } = entry;
    const hash = createHash('sha256');
    let done = 0;
    await put(tarHeader(path, size));
    for await (const piece of piecesOf(file)) {
      signal.throwIfAborted();
      done += piece.length;
      // Nothing may run into what follows.
      if (done > size) throw damaged(file);
      hash.update(piece);
      await put(piece);
      emit({
        event: 'progress',
        stage: writeStage,
        done: Math.min(bytes, total),
        total,
        unit: 'bytes',
        item: path,
      });
    }
    if (hash.digest('hex') !== digest) throw damaged(file);
    await put(tarPadding(size));
  }
  await put(tarEnd);
  return bytes;
}

async function* piecesOf(file: string): AsyncGenerator<Buffer, void> {
  try {
    const stream: AsyncIterable<Buffer> = createReadStream(file, { highWaterMark: 1024 * 1024 });
    yield* stream;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw damaged(file);
    throw error;
  }
}
