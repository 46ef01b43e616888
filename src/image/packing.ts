import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Context, inStage } from '../core/event.ts';
import { digestFile, sha256 } from '../host/files.ts';
import { makeDelta } from '../rootfs/delta.ts';
import { packTree } from '../rootfs/pack.ts';
import { digestTree, type TreeDigest } from '../rootfs/tree.ts';
import { makeVerityTree } from '../rootfs/verity.ts';
import type { Profile } from '../site/profile.ts';
import { type Manifest, type ManifestLayer, parseManifest } from './manifest.ts';
import { type PackedFile, storedLayers, withStack } from './mount.ts';
import { proveStack } from './prove.ts';
import type { PackedLayer, StoredImage } from './store.ts';

/** What of the tree the layers of a full image leave out, in mksquashfs's extended wildcards. */
const leftOut = {
  base: ['boot/*', 'usr/lib/modules/*'],
  kernel: ['!(boot|usr)', 'usr/!(lib)', 'usr/lib/!(modules)'],
} as const;

/** How many deltas a stack may have: the next one takes the place of them all. */
const mostDeltas = 4;
/** The share of the layers below that the deltas may come to; beyond it a full image is worth its bytes. */
const largestShare = 0.5;

/** A system that is to be packed. */
export interface PackableSystem {
  readonly profile: {
    readonly host: string;
    readonly image: { readonly compression: Profile['image']['compression'] };
  };
  /** Where its tree is mounted. */
  readonly merged: string;
  /** The version of its kernel, if it has one. */
  readonly kernel: string | undefined;
  readonly sourceDateEpoch: number;
  /** For the layers, on the file system of the store. */
  readonly staging: string;
  /** For all else. */
  readonly scratch: string;
}

/** A system in layers that are proven to show its tree. */
export interface PackedSystem {
  readonly tree: TreeDigest;
  /** All layers, bottom first. */
  readonly stack: readonly ManifestLayer[];
  /** Those of them that no image of the store has yet. */
  readonly added: readonly PackedLayer[];
  readonly parent: Manifest['parent'];
}

/** Packs a system. @param newest the newest image of its profile */
export type Pack = (
  system: PackableSystem,
  newest: StoredImage | undefined,
  context: Context,
) => Promise<PackedSystem>;

/** Packs a tree, or the part of it that a role has, with its hash tree. */
async function packLayer(
  { profile, sourceDateEpoch, staging }: PackableSystem,
  role: ManifestLayer['role'],
  root: string,
  exclude: readonly string[],
  context: Context,
): Promise<PackedLayer> {
  const { compression } = profile.image;
  const file = join(staging, `${role}.squashfs`);
  await packTree({ root, output: file, compression, exclude, sourceDateEpoch, stage: 'pack' }, context);
  const { digest, size } = await digestFile(file, 'sha256', context.signal);
  const tree = join(staging, `${role}.verity`);
  const root256 = await makeVerityTree(file, digest, tree, context);
  const verity = { root: root256, ...(await digestFile(tree, 'sha256', context.signal)) };
  return { file, tree, layer: { role, digest, size, compression: compression.algorithm, verity } };
}

function packedFile({ file, layer }: PackedLayer): PackedFile {
  return { file, algorithm: layer.compression };
}

/** Proves that the layers show the tree, whose digest is taken here unless it is known; gives the digest. */
async function prove(
  { merged, scratch }: PackableSystem,
  layers: readonly PackedFile[],
  known: TreeDigest | undefined,
  context: Context,
): Promise<TreeDigest> {
  return await inStage(context, 'prove', async () => {
    const meant = known ?? (await digestTree(merged, context));
    await proveStack(layers, meant.digest, join(scratch, 'proof'), context);
    return meant;
  });
}

/** Packs the whole system: a base and, for a machine, a layer with the kernel and its modules; a container has one layer. */
export const packFull: Pack = async (system, _newest, context) => {
  const { profile, merged } = system;
  const added = await inStage(context, 'pack', async () => {
    if (profile.host === 'container') return [await packLayer(system, 'base', merged, [], context)];
    return [
      await packLayer(system, 'base', merged, leftOut.base, context),
      await packLayer(system, 'kernel', merged, leftOut.kernel, context),
    ];
  });
  const tree = await prove(system, added.map(packedFile), undefined, context);
  return { tree, stack: added.map(({ layer }) => layer), added, parent: null };
};

/** What a stack is made of: the layers that stay, and one with a new kernel in the place of theirs. */
interface Basis {
  readonly stack: readonly ManifestLayer[];
  /** Their files, each with its compression. */
  readonly files: readonly PackedFile[];
}

/**
 * Packs what differs from an image of the store, or the whole system where that is worth more. The difference is that of
 * two trees, whatever way led from one to the other: the stack shows what a full image would show, and is proven to.
 * @param store the store of the image
 * @param chosen the image to build upon, which is intact; the newest unless given
 */
export function packOnto(store: string, chosen: StoredImage | undefined): Pack {
  return async (system, newest, context) => {
    const parent = chosen ?? newest;
    if (parent === undefined) return await packFull(system, newest, context);
    const file = join(parent.directory, 'manifest.json');
    const text = await readFile(file, 'utf8');
    const manifest = parseManifest(text, file);
    if ((manifest.kernel === null) !== (system.kernel === undefined)) {
      return await packFull(system, newest, context);
    }
    const packed = await inStage(
      context,
      'pack',
      async () => await packDifference(system, store, manifest, context),
    );
    if (tooMuch(packed.stack)) {
      for (const { file: made, tree } of packed.added) for (const name of [made, tree]) await rm(name);
      return await packFull(system, newest, context);
    }
    const { stack, added } = packed;
    const tree = await prove(system, packed.files, packed.meant, context);
    return { tree, stack, added, parent: { image: parent.name, manifest: sha256(text) } };
  };
}

/** Whether deltas come to so much that a full image is worth its bytes. */
export function tooMuch(layers: readonly Pick<ManifestLayer, 'role' | 'size'>[]): boolean {
  const sizeOf = (isDelta: boolean): number =>
    layers.reduce((sum, { role, size }) => ((role === 'delta') === isDelta ? sum + size : sum), 0);
  return sizeOf(true) > sizeOf(false) * largestShare;
}

/** Whether the next delta on these layers takes the place of those that are there. */
export function mergesDeltas(layers: readonly Pick<ManifestLayer, 'role'>[]): boolean {
  return layers.filter(({ role }) => role === 'delta').length >= mostDeltas;
}

async function packDifference(
  system: PackableSystem,
  store: string,
  { layers, kernel }: Manifest,
  context: Context,
): Promise<Basis & { readonly added: readonly PackedLayer[]; readonly meant: TreeDigest }> {
  const newKernel =
    kernel === null || system.kernel === kernel.version
      ? undefined
      : await packLayer(system, 'kernel', system.merged, leftOut.kernel, context);
  const basisOf = (kept: readonly ManifestLayer[]): Basis => {
    const stored = storedLayers(store, { layers: [...kept] });
    const replaced = (index: number): boolean => newKernel !== undefined && kept[index]?.role === 'kernel';
    return {
      stack: kept.map((layer, index) =>
        newKernel !== undefined && replaced(index) ? newKernel.layer : layer,
      ),
      files: stored.map((layer, index) =>
        newKernel !== undefined && replaced(index) ? packedFile(newKernel) : layer,
      ),
    };
  };
  const bottom = layers.filter(({ role }) => role !== 'delta');
  let basis = basisOf(mergesDeltas(layers) ? bottom : layers);
  let { delta, meant } = await packDelta(system, basis.files, context);
  if (basis.stack.some(({ digest }) => digest === delta?.layer.digest)) {
    // What comes and goes and comes again: a layer must not be twice in one stack.
    if (delta !== undefined) for (const name of [delta.file, delta.tree]) await rm(name);
    basis = basisOf(bottom);
    ({ delta, meant } = await packDelta(system, basis.files, context));
  }
  const added = [newKernel, delta].filter((layer) => layer !== undefined);
  if (delta === undefined) return { ...basis, added, meant };
  return { stack: [...basis.stack, delta.layer], files: [...basis.files, packedFile(delta)], added, meant };
}

/** What the system is more, or less, or otherwise than the layers below it show; no delta where that is nothing. */
async function packDelta(
  system: PackableSystem,
  below: readonly PackedFile[],
  context: Context,
): Promise<{ readonly delta: PackedLayer | undefined; readonly meant: TreeDigest }> {
  const { merged, scratch } = system;
  const directory = join(scratch, 'delta');
  const work = join(scratch, 'delta-work');
  await mkdir(work);
  try {
    const { changed, deleted, meant } = await withStack(
      below,
      join(scratch, 'below'),
      context,
      async (from) => await makeDelta({ from, to: merged }, directory, work, context),
    );
    if (changed + deleted === 0) return { delta: undefined, meant };
    context.emit({
      event: 'note',
      message: `${changed} entries are new or otherwise, ${deleted} are gone`,
    });
    return { delta: await packLayer(system, 'delta', directory, [], context), meant };
  } finally {
    await rm(directory, { recursive: true, force: true });
    await rm(work, { recursive: true, force: true });
  }
}
