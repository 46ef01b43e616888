import { ReliveError } from '../core/error.ts';
import type { DiskBytes } from './bytes.ts';

/*
 * Files in the EFI system partition, replaced so that the old one or the new one is there whenever the power fails:
 * mtools and the kernel's vfat remove the old one first. Only what relive's own media have: FAT32 (Microsoft,
 * "FAT32 File System Specification"), short names, directories of one cluster chain.
 */

/** A FAT32 file system that begins at a byte of a disk. */
interface Fat {
  readonly disk: DiskBytes;
  readonly sectorSize: number;
  readonly clusterBytes: number;
  readonly clusters: number;
  /** Offsets on the disk, in bytes. */
  readonly tables: readonly number[];
  readonly data: number;
  readonly information: number;
  readonly root: number;
  /** The first table, an entry a cluster. */
  readonly next: Uint32Array;
}

interface Entry {
  readonly name: string;
  readonly directory: boolean;
  readonly cluster: number;
  readonly size: number;
  /** Where it stands on the disk, in bytes. */
  readonly at: number;
}

const entryBytes = 32;
const linkMask = 0x0fff_ffff;
/** Links from here on end a chain. */
const chainEnd = 0x0fff_fff8;
const maximumFileBytes = 64 * 1024 * 1024;
/** 1980-01-01, the first day that FAT knows. */
const firstDay = 0x0021;

function damaged(what: string): ReliveError {
  return new ReliveError('corrupt', `the EFI system partition ${what}`, {
    hint: 'relive medium create makes the medium anew',
  });
}

async function openFat(disk: DiskBytes, base: number, bytes: number): Promise<Fat> {
  const boot = await disk.read(base, 512);
  const sectorSize = boot.readUInt16LE(11);
  const sectorsPerCluster = boot[13] ?? 0;
  const reserved = boot.readUInt16LE(14);
  const tableCount = boot[16] ?? 0;
  const tableSectors = boot.readUInt32LE(36);
  const sectors = boot.readUInt32LE(32);
  const isFat32 = boot.readUInt16LE(22) === 0 && boot.readUInt16LE(17) === 0 && tableSectors > 0;
  const plausible =
    boot.readUInt16LE(510) === 0xaa55 &&
    [512, 1024, 2048, 4096].includes(sectorSize) &&
    sectorsPerCluster > 0 &&
    (tableCount === 1 || tableCount === 2) &&
    sectors * sectorSize <= bytes;
  if (!isFat32 || !plausible) throw damaged('has no FAT32 file system');
  const dataSector = reserved + tableCount * tableSectors;
  const clusters = Math.floor((sectors - dataSector) / sectorsPerCluster);
  if (clusters < 1 || (clusters + 2) * 4 > tableSectors * sectorSize)
    throw damaged('has a damaged boot sector');
  const table = await disk.read(base + reserved * sectorSize, (clusters + 2) * 4);
  const next = new Uint32Array(clusters + 2);
  for (let index = 0; index < next.length; index += 1) next[index] = table.readUInt32LE(index * 4) & linkMask;
  return {
    ...{ disk, sectorSize, clusters, next },
    clusterBytes: sectorsPerCluster * sectorSize,
    tables: Array.from(
      { length: tableCount },
      (_, index) => base + (reserved + index * tableSectors) * sectorSize,
    ),
    data: base + dataSector * sectorSize,
    information: base + boot.readUInt16LE(48) * sectorSize,
    root: boot.readUInt32LE(44),
  };
}

function clusterAt({ data, clusterBytes }: Fat, cluster: number): number {
  return data + (cluster - 2) * clusterBytes;
}

/** The clusters of a chain. @throws ReliveError `corrupt` for one that leaves the disk or runs in a circle */
function chainOf({ next, clusters }: Fat, first: number): number[] {
  const chain: number[] = [];
  for (let cluster = first; cluster < chainEnd; cluster = next[cluster] ?? 0) {
    if (cluster < 2 || cluster >= clusters + 2 || chain.length > clusters) {
      throw damaged('has a damaged chain of clusters');
    }
    chain.push(cluster);
  }
  return chain;
}

/** `BOOTX64.EFI` as a directory has it: 8 and 3 characters, filled with spaces. */
function shortName(name: string): string {
  const [, stem, extension = ''] = /^([A-Z0-9_]{1,8})(?:\.([A-Z0-9_]{1,3}))?$/.exec(name) ?? [];
  if (stem === undefined) throw new TypeError(`not a short name: ${name}`);
  return stem.padEnd(8) + extension.padEnd(3);
}

/** The entries of a directory, and where the first free one is. */
async function listDirectory(
  fat: Fat,
  first: number,
): Promise<{ readonly entries: readonly Entry[]; readonly free: number | undefined }> {
  const entries: Entry[] = [];
  let free: number | undefined;
  for (const cluster of chainOf(fat, first)) {
    const start = clusterAt(fat, cluster);
    const bytes = await fat.disk.read(start, fat.clusterBytes);
    for (let at = 0; at < bytes.length; at += entryBytes) {
      const raw = bytes.subarray(at, at + entryBytes);
      if (raw[0] === 0 || raw[0] === 0xe5) {
        free ??= start + at;
        if (raw[0] === 0) return { entries, free };
        continue;
      }
      const attributes = raw[11] ?? 0;
      // Long names and the label of the volume.
      if ((attributes & 0x08) !== 0) continue;
      entries.push({
        name: raw.toString('latin1', 0, 11),
        directory: (attributes & 0x10) !== 0,
        cluster: (raw.readUInt16LE(20) << 16) | raw.readUInt16LE(26),
        size: raw.readUInt32LE(28),
        at: start + at,
      });
    }
  }
  return { entries, free };
}

async function directoryOf(fat: Fat, names: readonly string[]): Promise<number> {
  let cluster = fat.root;
  for (const name of names) {
    const { entries } = await listDirectory(fat, cluster);
    const found = entries.find((entry) => entry.directory && entry.name === shortName(name));
    if (found === undefined) throw damaged(`has no directory ${names.join('/')}`);
    cluster = found.cluster;
  }
  return cluster;
}

function parts(path: string): { readonly directory: readonly string[]; readonly name: string } {
  const names = path.split('/');
  return { directory: names.slice(0, -1), name: names.at(-1) ?? '' };
}

/**
 * Reads a file out of a FAT32 file system.
 * @param base where that begins on the disk, in bytes
 * @param bytes its size
 * @param path `EFI/BOOT/BOOTX64.EFI`
 * @returns undefined where there is no such file
 * @throws ReliveError `corrupt`
 */
export async function readFatFile(
  disk: DiskBytes,
  base: number,
  bytes: number,
  path: string,
): Promise<Buffer | undefined> {
  const fat = await openFat(disk, base, bytes);
  const { directory, name } = parts(path);
  const { entries } = await listDirectory(fat, await directoryOf(fat, directory));
  const found = entries.find((entry) => !entry.directory && entry.name === shortName(name));
  if (found === undefined) return undefined;
  if (found.size > maximumFileBytes) throw damaged(`has a file ${path} of ${found.size} bytes`);
  const chain = found.size === 0 ? [] : chainOf(fat, found.cluster);
  const content: Buffer[] = [];
  for (const cluster of chain) content.push(await disk.read(clusterAt(fat, cluster), fat.clusterBytes));
  const whole = Buffer.concat(content);
  if (whole.length < found.size) throw damaged(`has a file ${path} that is cut off`);
  return whole.subarray(0, found.size);
}

/** The clusters that files and directories have; others that are marked so are left from a run that was cut off. */
async function usedClusters(fat: Fat): Promise<Set<number>> {
  const used = new Set<number>(chainOf(fat, fat.root));
  const directories = [fat.root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const entry of (await listDirectory(fat, directory)).entries) {
      if (entry.name.startsWith('.') || entry.cluster === 0 || used.has(entry.cluster)) continue;
      for (const cluster of chainOf(fat, entry.cluster)) used.add(cluster);
      if (entry.directory) directories.push(entry.cluster);
    }
  }
  return used;
}

/** Writes both tables and the count of free clusters as `next` says. */
async function writeTables(fat: Fat): Promise<void> {
  const { disk, next, tables, information } = fat;
  for (const table of tables) {
    const content = await disk.read(table, next.length * 4);
    for (const [index, link] of next.entries()) {
      // The upper four bits belong to nobody and stay.
      content.writeUInt32LE(((content.readUInt32LE(index * 4) & 0xf000_0000) | link) >>> 0, index * 4);
    }
    await disk.write(table, content);
  }
  const sector = await disk.read(information, 512);
  if (sector.readUInt32LE(0) === 0x4161_5252) {
    sector.writeUInt32LE(next.subarray(2).filter((link) => link === 0).length, 488);
    sector.writeUInt32LE(0xffff_ffff, 492);
    await disk.write(information, sector);
  }
  await disk.sync();
}

/**
 * Replaces a file, or makes it in a directory that is there. Its content goes into clusters that nothing uses; when all
 * of that is on the disk, one write of the sector with its directory entry changes over, then the old clusters are
 * given back. Equal content gives an equal entry: its time is always the same.
 * @throws ReliveError `corrupt`, `disk-full`
 */
export async function replaceFatFile(
  disk: DiskBytes,
  base: number,
  bytes: number,
  path: string,
  content: Uint8Array,
): Promise<void> {
  const fat = await openFat(disk, base, bytes);
  const { directory, name } = parts(path);
  const { entries, free } = await listDirectory(fat, await directoryOf(fat, directory));
  const old = entries.find((entry) => !entry.directory && entry.name === shortName(name));
  const at = old?.at ?? free;
  const used = await usedClusters(fat);
  const chain: number[] = [];
  const wanted = Math.max(1, Math.ceil(content.length / fat.clusterBytes));
  for (let cluster = 2; cluster < fat.next.length; cluster += 1) {
    if (used.has(cluster)) continue;
    fat.next[cluster] = 0;
    if (chain.length < wanted) chain.push(cluster);
  }
  if (chain.length < wanted || at === undefined) {
    throw new ReliveError('disk-full', `the EFI system partition has no room for ${path}`, {
      hint: 'remove what else lies there',
    });
  }
  for (const [index, cluster] of chain.entries()) {
    fat.next[cluster] = chain[index + 1] ?? linkMask;
    const piece = Buffer.alloc(fat.clusterBytes);
    piece.set(content.subarray(index * fat.clusterBytes, (index + 1) * fat.clusterBytes));
    await disk.write(clusterAt(fat, cluster), piece);
  }
  await writeTables(fat);
  const sectorAt = at - ((at - base) % fat.sectorSize);
  const sector = await disk.read(sectorAt, fat.sectorSize);
  const entry = sector.subarray(at - sectorAt, at - sectorAt + entryBytes);
  entry.fill(0);
  entry.write(shortName(name), 0, 'latin1');
  entry[11] = 0x20;
  for (const day of [16, 18, 24]) entry.writeUInt16LE(firstDay, day);
  entry.writeUInt16LE((chain[0] ?? 0) >>> 16, 20);
  entry.writeUInt16LE((chain[0] ?? 0) & 0xffff, 26);
  entry.writeUInt32LE(content.length, 28);
  await disk.write(sectorAt, sector);
  await disk.sync();
  if (old === undefined || old.cluster === 0) return;
  for (const cluster of chainOf(fat, old.cluster)) fat.next[cluster] = 0;
  await writeTables(fat);
}
