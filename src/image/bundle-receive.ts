import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { exists, makeDirectories } from '../host/files.ts';
import { applyPatch } from '../host/patch.ts';
import type { TarReader } from '../host/tar.ts';
import { type BundledLayer, type BundleEntry, headFiles } from './bundle.ts';
import type { ImportOptions } from './bundle-head.ts';
import { type KnownLayer, type Prepared, receivedDirectory } from './bundle-plan.ts';
import { layerFile, type Manifest, verityFile } from './manifest.ts';
import { type PackedLayer, publishImage, type StoredImage, storePaths } from './store.ts';
import { verifySealed } from './verify.ts';

/** The stage that the events of receiving belong to. */
const receiveStage = 'receive';
/** Receives all that the store lacks, checks it, and publishes the image. The caller holds the lock. */
export async function receive(
  store: string,
  reader: TarReader,
  what: string,
  { head, image, known, files }: Prepared,
  options: ImportOptions,
  context: Context,
): Promise<void> {
  const directory = receivedDirectory(store);
  await makeDirectories(directory, 0o700);
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
export async function removeUnfinished(directory: string): Promise<void> {
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
