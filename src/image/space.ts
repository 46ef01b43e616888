import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { megabytes } from '../core/megabytes.ts';
import { exists, freeBytes } from '../host/files.ts';
import { upgradeName } from '../rootfs/stages/upgrade.ts';
import type { Lock } from '../site/lock.ts';
import type { Profile } from '../site/profile.ts';
import type { Manifest } from './manifest.ts';
import { mergesDeltas, tooMuch } from './packing.ts';
import { bytesOf } from './store.ts';

const mebibyte = 2 ** 20;

/** Room that work will take in a place, at its peak. */
export interface Need {
  /** A directory, which need not be there yet. */
  readonly path: string;
  readonly bytes: number;
  /** What for, in words. */
  readonly purpose: string;
}

/** So much of a package's size its files take in a layer, with what its installation needs: Debian's compression and some. */
const unpackedShare = 4;
/** The same in an image, by any compression that profiles know. */
const packedShare = 2;
/** For what depends on nothing in particular: caches of programs, an initrd, GRUB, directories. */
const besides = 64 * mebibyte;

type Packages = readonly Pick<Lock['packages'][number], 'name' | 'size' | 'sha256'>[];

function sizeOf(packages: Packages): number {
  return packages.reduce((sum, { size }) => sum + size, 0);
}

/** The bytes of a profile's overlays. */
export async function overlaysSize({ overlays }: Profile): Promise<number> {
  const sizes = await Promise.all(overlays.map(async (overlay) => await bytesOf(overlay)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/**
 * What the stages that are not cached take in the cache.
 * @param pending their names
 * @param overlays bytes of the profile's overlays
 */
export function cacheNeed(
  path: string,
  pending: readonly string[],
  lock: Pick<Lock, 'bootstrap' | 'packages'>,
  overlays: number,
): Need | undefined {
  if (pending.length === 0) return undefined;
  const early = new Set(lock.bootstrap);
  const first = sizeOf(lock.packages.filter(({ name }) => early.has(name)));
  const all = sizeOf(lock.packages);
  const bytes =
    besides +
    (pending.includes('bootstrap') ? first * unpackedShare : 0) +
    (pending.includes('packages') ? (all - first) * unpackedShare : 0) +
    // Seldom more than a few of them.
    (pending.includes(upgradeName) ? all * unpackedShare : 0) +
    (pending.includes('files') ? overlays : 0) +
    // The kernel and two copies of the initrd.
    (pending.includes('live') ? besides : 0);
  return { path, bytes, purpose: `stages ${pending.join(', ')}` };
}

/** What a full image takes: as much as the one before and some, or by the size of its packages. */
function fullSize(lock: Pick<Lock, 'packages'>, overlays: number): number {
  return sizeOf(lock.packages) * packedShare + overlays + besides;
}

/**
 * What the next image is expected to take in the store: a full one, or a delta on its parent with what packages and overlays
 * may bring. Rather too much than too little; scripts may write what they like.
 * @param parent the manifest of the image to build upon; undefined for a full one
 * @param changed bytes of the overlays, where they may have changed
 */
export function imageSize(
  lock: Pick<Lock, 'packages'>,
  parent: Pick<Manifest, 'packages' | 'layers' | 'kernel' | 'initrd'> | undefined,
  overlays: number,
): { readonly bytes: number; readonly incremental: boolean } {
  const full = { bytes: fullSize(lock, overlays), incremental: false };
  if (parent === undefined) return full;
  const there = new Set(parent.packages.map(({ sha256 }) => sha256));
  const fresh = sizeOf(lock.packages.filter(({ sha256 }) => !there.has(sha256)));
  const deltas = parent.layers.filter(({ role }) => role === 'delta');
  const merged = mergesDeltas(parent.layers) ? deltas.reduce((sum, { size }) => sum + size, 0) : 0;
  const boot = (parent.kernel?.size ?? 0) + (parent.initrd?.size ?? 0);
  const delta = fresh * packedShare + overlays + merged;
  const kept = mergesDeltas(parent.layers)
    ? parent.layers.filter(({ role }) => role !== 'delta')
    : parent.layers;
  if (tooMuch([...kept, { role: 'delta', size: delta }])) return full;
  return { bytes: delta + Math.ceil(boot * 1.25) + 8 * mebibyte, incremental: true };
}

/** What an image takes that shows the tree of another one without its deltas: hardly more than all its layers do. */
export function flatSize({ layers, kernel, initrd }: Pick<Manifest, 'layers' | 'kernel' | 'initrd'>): number {
  const packed = layers.reduce((sum, { size, verity }) => sum + size + verity.size, 0);
  return Math.ceil(packed * 1.1) + (kernel?.size ?? 0) + (initrd?.size ?? 0) + 8 * mebibyte;
}

/** The device that a path is on, or will be. */
async function deviceOf(path: string): Promise<{ readonly device: number; readonly there: string }> {
  let there = path;
  while (!(await exists(there)) && dirname(there) !== there) there = dirname(there);
  return { device: (await stat(there)).dev, there };
}

/**
 * Compares what work will take with what is free; what lies on one file system is added up.
 * @throws ReliveError `disk-full`, with the sum
 */
export async function requireSpace(what: string, needs: readonly Need[]): Promise<void> {
  const byDevice = new Map<number, Need[]>();
  for (const need of needs) {
    const { device } = await deviceOf(need.path);
    byDevice.set(device, [...(byDevice.get(device) ?? []), need]);
  }
  for (const together of byDevice.values()) {
    const [first] = together;
    if (first === undefined) continue;
    const sum = together.reduce((bytes, need) => bytes + need.bytes, 0);
    const free = await freeBytes(first.path);
    if (free >= sum) continue;
    const parts = together.map(
      ({ path, bytes, purpose }) => `    ${megabytes(bytes)} in ${path}: ${purpose}`,
    );
    const places = [...new Set(together.map(({ path }) => path))].join(' and ');
    throw new ReliveError(
      'disk-full',
      `${what} needs about ${megabytes(sum)} in ${places}, ${megabytes(free)} is free\n${parts.join('\n')}`,
      { hint: 'make room there and start again: what was finished is kept' },
    );
  }
}
