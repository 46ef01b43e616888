import { crc32 } from 'node:zlib';
import { guidBytes, guidText } from '../core/guid.ts';

import type { DiskBytes } from './bytes.ts';

/** What a partition is for (UEFI specification, 5.3.3; the Discoverable Partitions Specification). */
export const partitionTypes = {
  biosBoot: '21686148-6449-6e6f-744e-656564454649',
  efiSystem: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
  /** Of exFAT, as Windows wants it. */
  basicData: 'ebd0a0a2-b9e5-4433-87c0-68b6b72699c7',
  linux: '0fc63daf-8483-4772-8e79-3d69d8477de4',
} as const;

/** A partition; sectors are counted from 0, `last` belongs to it. */
export interface Partition {
  readonly type: string;
  readonly guid: string;
  /** At most 36 UTF-16 units. */
  readonly name: string;
  readonly first: number;
  readonly last: number;
}

/** A GUID partition table. */
export interface PartitionTable {
  /** Bytes. */
  readonly sectorSize: number;
  /** Of the whole disk. */
  readonly sectors: number;
  readonly diskGuid: string;
  /** In the order of their numbers, from 1 without gaps. */
  readonly partitions: readonly Partition[];
}

/** A table as it was found. */
export interface FoundTable {
  readonly table: PartitionTable;
  /** What is wrong with its copies, in words. */
  readonly faults: readonly string[];
}

const signature = 'EFI PART';
const headerBytes = 92;
const entryBytes = 128;
const entryCount = 128;
/** The sector of the entries in the first copy. */
const firstEntries = 2;
const nameUnits = 36;
const sectorSizes = [512, 4096] as const;

/** Sectors which the 128 entries take. */
function entrySectors(sectorSize: number): number {
  return (entryCount * entryBytes) / sectorSize;
}

/** The first and the last sector that partitions may use. */
export function usableSectors(
  sectors: number,
  sectorSize: number,
): { readonly first: number; readonly last: number } {
  return { first: 2 + entrySectors(sectorSize), last: sectors - 2 - entrySectors(sectorSize) };
}

function entriesOf({ partitions }: PartitionTable): Buffer {
  const entries = Buffer.alloc(entryCount * entryBytes);
  for (const [index, { type, guid, name, first, last }] of partitions.entries()) {
    const entry = entries.subarray(index * entryBytes, (index + 1) * entryBytes);
    entry.set(guidBytes(type), 0);
    entry.set(guidBytes(guid), 16);
    entry.writeBigUInt64LE(BigInt(first), 32);
    entry.writeBigUInt64LE(BigInt(last), 40);
    entry.write(name.slice(0, nameUnits), 56, 'utf16le');
  }
  return entries;
}

function headerOf(
  table: PartitionTable,
  entries: Buffer,
  copy: 'primary' | 'backup',
  entriesAt: number = firstEntries,
): Buffer {
  const { sectorSize, sectors, diskGuid } = table;
  const usable = usableSectors(sectors, sectorSize);
  const own = copy === 'primary' ? 1 : sectors - 1;
  const header = Buffer.alloc(sectorSize);
  header.write(signature, 0, 'latin1');
  header.writeUInt32LE(0x0001_0000, 8);
  header.writeUInt32LE(headerBytes, 12);
  header.writeBigUInt64LE(BigInt(own), 24);
  header.writeBigUInt64LE(BigInt(copy === 'primary' ? sectors - 1 : 1), 32);
  header.writeBigUInt64LE(BigInt(usable.first + entriesAt - firstEntries), 40);
  header.writeBigUInt64LE(BigInt(usable.last), 48);
  header.set(guidBytes(diskGuid), 56);
  header.writeBigUInt64LE(BigInt(copy === 'primary' ? entriesAt : usable.last + 1), 72);
  header.writeUInt32LE(entryCount, 80);
  header.writeUInt32LE(entryBytes, 84);
  header.writeUInt32LE(crc32(entries), 88);
  header.writeUInt32LE(crc32(header.subarray(0, headerBytes)), 16);
  return header;
}

/**
 * The first 512 bytes of a disk with GPT (UEFI specification, 5.2.3): one partition of type 0xEE over all of it, so
 * that programs which know the old table only take the disk for full. What lies before the table stays as in `sector`.
 */
export function withProtectiveTable(sector: Uint8Array, sectors: number): Buffer {
  const result = Buffer.alloc(512);
  result.set(sector.subarray(0, 446));
  const entry = result.subarray(446, 462);
  entry.set([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
  entry.writeUInt32LE(1, 8);
  entry.writeUInt32LE(Math.min(sectors - 1, 0xffff_ffff), 12);
  result.writeUInt16LE(0xaa55, 510);
  return result;
}

async function writeBackup(disk: DiskBytes, table: PartitionTable, entries: Buffer): Promise<void> {
  const { sectorSize, sectors } = table;
  const { last } = usableSectors(sectors, sectorSize);
  await disk.write((last + 1) * sectorSize, entries);
  await disk.write((sectors - 1) * sectorSize, headerOf(table, entries, 'backup'));
  await disk.sync();
}

/**
 * Writes both copies of a table, the backup first, each made durable before the next; the first sector is not touched.
 */
export async function writeTable(disk: DiskBytes, table: PartitionTable): Promise<void> {
  const { sectorSize } = table;
  const entries = entriesOf(table);
  await writeBackup(disk, table, entries);
  await disk.write(firstEntries * sectorSize, entries);
  await disk.write(sectorSize, headerOf(table, entries, 'primary'));
  await disk.sync();
}

/**
 * Replaces a table of a disk that is in order so that whenever the power fails the first copy is the old or the new one:
 * Linux does not look for the backup unless told to. The new entries are written behind those that are used, one write of
 * the header's sector changes over, and another one back, when the entries are at their usual place.
 * @param table its partitions begin behind both places, which all do that begin at a mebibyte
 */
export async function replaceTable(disk: DiskBytes, table: PartitionTable): Promise<void> {
  const { sectorSize } = table;
  const entries = entriesOf(table);
  const places = [firstEntries + entrySectors(sectorSize), firstEntries];
  const end = Math.max(...places) + entrySectors(sectorSize);
  if (table.partitions.some(({ first }) => first < end)) {
    throw new TypeError('a partition begins where the entries of the table are to be');
  }
  await writeBackup(disk, table, entries);
  for (const place of places) {
    await disk.write(place * sectorSize, entries);
    await disk.sync();
    await disk.write(sectorSize, headerOf(table, entries, 'primary', place));
    await disk.sync();
  }
}

/** One copy of a table, or in words why there is none that can be believed. */
async function readCopy(
  disk: DiskBytes,
  bytes: number,
  sectorSize: number,
  copy: 'primary' | 'backup',
): Promise<PartitionTable | string | undefined> {
  const sectors = Math.floor(bytes / sectorSize);
  const own = copy === 'primary' ? 1 : sectors - 1;
  if (sectors < 2 * entrySectors(sectorSize) + 4) return undefined;
  const header = await disk.read(own * sectorSize, headerBytes);
  if (header.toString('latin1', 0, 8) !== signature) return undefined;
  const stated = header.readUInt32LE(16);
  const clean = Buffer.from(header);
  clean.writeUInt32LE(0, 16);
  if (header.readUInt32LE(12) !== headerBytes || crc32(clean) !== stated) return 'its header is damaged';
  const at = Number(header.readBigUInt64LE(72));
  const count = header.readUInt32LE(80);
  // Other programs may make more entries or larger ones; nobody does.
  if (count > entryCount || header.readUInt32LE(84) !== entryBytes)
    return 'its entries are of an unknown size';
  if (at < 2 || at >= sectors) return 'its entries lie behind the end of the disk';
  const entries = await disk.read(at * sectorSize, count * entryBytes);
  if (crc32(entries) !== header.readUInt32LE(88)) return 'its entries are damaged';
  const partitions: Partition[] = [];
  for (let index = 0; index < count; index += 1) {
    const entry = entries.subarray(index * entryBytes, (index + 1) * entryBytes);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const [first, last] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))];
    if (first < 2 || last < first || last >= sectors)
      return `its partition ${index + 1} lies outside the disk`;
    partitions.push({
      type: guidText(entry.subarray(0, 16)),
      guid: guidText(entry.subarray(16, 32)),
      name: entry.toString('utf16le', 56, entryBytes).replace(/\0.*$/s, ''),
      first,
      last,
    });
  }
  return { sectorSize, sectors, diskGuid: guidText(header.subarray(56, 72)), partitions };
}

/**
 * Reads the GUID partition table of a disk, from its second copy where the first is damaged.
 * @param bytes the size of the disk
 * @param sectorSize of a device; a file is looked at with both
 * @returns undefined where there is no table
 */
export async function readTable(
  disk: DiskBytes,
  bytes: number,
  sectorSize?: number,
): Promise<FoundTable | undefined> {
  for (const size of sectorSize === undefined ? sectorSizes : [sectorSize]) {
    const primary = await readCopy(disk, bytes, size, 'primary');
    const backup = await readCopy(disk, bytes, size, 'backup');
    const table = typeof primary === 'object' ? primary : backup;
    if (typeof table !== 'object') continue;
    const faults: string[] = [];
    for (const [where, copy] of [
      ['the first copy of the partition table', primary],
      ['the second copy of the partition table', backup],
    ] as const) {
      if (copy === undefined) faults.push(`${where} is missing`);
      else if (typeof copy === 'string') faults.push(`${where}: ${copy}`);
      else if (!entriesOf(copy).equals(entriesOf(table))) faults.push(`${where} differs from the first`);
    }
    return { table, faults };
  }
  return undefined;
}
