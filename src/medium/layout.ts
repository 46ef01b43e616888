import { randomUUID } from 'node:crypto';
import { ReliveError } from '../core/error.ts';
import { megabytes } from '../core/megabytes.ts';
import { coreSlotBytes, coreSlots } from './bios.ts';
import { type Partition, type PartitionTable, partitionTypes, usableSectors } from './gpt.ts';

/** The label of a medium's store, by which GRUB and the initramfs find it. */
export const storeLabel = 'RELIVE';
/** The names of a medium's own partitions; volumes have their labels. */
export const partitionNames = { bios: 'RELIVE BIOS', efi: 'RELIVE EFI', store: storeLabel } as const;

const mebibyte = 1024 * 1024;
/** FAT32 has at least 65525 clusters, each at least one sector. */
const efiBytes: Readonly<Record<number, number>> = { 512: 64 * mebibyte, 4096: 288 * mebibyte };
/** The smallest ext4 with a journal that is worth it. */
const smallestVolume = 8 * mebibyte;
const smallestStore = 16 * mebibyte;

export type SectorSize = 512 | 4096;

/** The file systems that a store can have. */
export const storeTypes = ['ext4', 'exfat'] as const;
export type StoreType = (typeof storeTypes)[number];

/** A volume that was asked for. */
export interface VolumeRequest {
  readonly label: string;
  /** Undefined: an even share of what is left. */
  readonly bytes: number | undefined;
}

/** A part of a disk, in bytes. */
export interface Extent {
  readonly offset: number;
  readonly bytes: number;
}

/** Where the parts of a medium are. */
export interface Layout {
  readonly table: PartitionTable;
  /** Where GRUB for BIOS is; undefined with sectors of 4096 bytes, which no BIOS boots from. */
  readonly bios: Extent | undefined;
  readonly efi: Extent;
  readonly store: Extent;
  readonly volumes: readonly (Extent & { readonly label: string })[];
}

/**
 * A size as people write it: `512M`, `8G`, `1.5T`, each a power of 1024, as truncate(1) reads them; a plain number is bytes.
 * @throws ReliveError `usage`
 */
export function parseSize(text: string, option: string): number {
  const [, number, unit = ''] = /^(\d{1,15}(?:\.\d{1,3})?)([KMGT]?)(?:i?B)?$/.exec(text) ?? [];
  const bytes = Math.floor(Number(number) * 1024 ** ' KMGT'.indexOf(unit === '' ? ' ' : unit));
  if (number !== undefined && bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw new ReliveError('usage', `${option} ${JSON.stringify(text)} is not a size`, {
    hint: 'a number with K, M, G or T (powers of 1024): 8G',
  });
}

/**
 * Volumes as `--volume` has them: `DATA:2G,HOME`.
 * @throws ReliveError `usage`
 */
export function parseVolumes(text: string): readonly VolumeRequest[] {
  const volumes = text.split(',').map((one): VolumeRequest => {
    const [label = '', size, ...rest] = one.split(':');
    // ext4 has room for 16 bytes.
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,15}$/.test(label) || rest.length > 0) {
      throw new ReliveError('usage', `--volume ${JSON.stringify(one)} is not LABEL or LABEL:SIZE`, {
        hint: 'a label has at most 16 letters, digits, "_", "." and "-": DATA:2G',
      });
    }
    const bytes = size === undefined ? undefined : parseSize(size, '--volume');
    if (bytes !== undefined && bytes < smallestVolume) {
      throw new ReliveError('usage', `--volume ${one}: a volume has at least ${smallestVolume / mebibyte}M`);
    }
    return { label, bytes };
  });
  const reserved: readonly string[] = Object.values(partitionNames);
  for (const [index, { label }] of volumes.entries()) {
    const taken = reserved.includes(label) ? 'is the name of a part of every medium' : undefined;
    const twice = volumes.findIndex((other) => other.label === label) < index ? 'is there twice' : undefined;
    const wrong = taken ?? twice;
    if (wrong !== undefined) throw new ReliveError('usage', `--volume: the label ${label} ${wrong}`);
  }
  return volumes;
}

/**
 * Lays out a medium: BIOS boot partition, EFI system partition, volumes, and last, so that it can grow, the store. All
 * begin at whole mebibytes.
 * @param bytes the size of the disk
 * @param storeBytes what the store must at least have room for
 * @throws ReliveError `disk-full` when not all of it fits
 */
export function layOut(options: {
  readonly bytes: number;
  readonly sectorSize: SectorSize;
  readonly volumes: readonly VolumeRequest[];
  readonly storeBytes: number;
  /** ext4 unless given. */
  readonly storeType?: StoreType;
}): Layout {
  const { bytes, sectorSize, volumes } = options;
  const sectors = Math.floor(bytes / sectorSize);
  const end = endOf(sectors, sectorSize);
  let at = mebibyte;
  const take = (size: number): Extent => {
    const extent = { offset: at, bytes: Math.ceil(size / mebibyte) * mebibyte };
    at += extent.bytes;
    return extent;
  };
  const bios = sectorSize === 512 ? take(coreSlots * coreSlotBytes) : undefined;
  const efi = take(efiBytes[sectorSize] ?? 0);
  const wanted = volumes.reduce((sum, volume) => sum + (volume.bytes ?? 0), 0);
  const sharing = volumes.filter((volume) => volume.bytes === undefined).length + 1;
  const share = Math.floor((end - at - wanted) / sharing / mebibyte) * mebibyte;
  const needed = Math.max(options.storeBytes, smallestStore);
  if (share < needed) {
    const rest = needed * sharing + wanted + at + 2 * mebibyte;
    throw new ReliveError(
      'disk-full',
      `the medium has ${megabytes(bytes)}, but its parts and the images take ${megabytes(rest)}`,
      { hint: 'a larger --size or disk, smaller volumes, or fewer images with --image' },
    );
  }
  const placed = volumes.map(({ label, bytes: size }) => ({ label, ...take(size ?? share) }));
  const store = take(end - at);
  const partition = (type: string, name: string, { offset, bytes: size }: Extent): Partition => ({
    ...{ type, name, guid: randomUUID() },
    first: offset / sectorSize,
    last: (offset + size) / sectorSize - 1,
  });
  return {
    table: {
      ...{ sectorSize, sectors, diskGuid: randomUUID() },
      partitions: [
        ...(bios === undefined ? [] : [partition(partitionTypes.biosBoot, partitionNames.bios, bios)]),
        partition(partitionTypes.efiSystem, partitionNames.efi, efi),
        ...placed.map((volume) => partition(partitionTypes.linux, volume.label, volume)),
        partition(
          options.storeType === 'exfat' ? partitionTypes.basicData : partitionTypes.linux,
          partitionNames.store,
          store,
        ),
      ],
    },
    ...{ bios, efi, store, volumes: placed },
  };
}

/** The size of a medium's sectors. */
export function sectorSizeOf({ table }: Layout): SectorSize {
  return table.sectorSize === 4096 ? 4096 : 512;
}

/** The whole mebibyte at which the last partition of a disk ends. */
function endOf(sectors: number, sectorSize: number): number {
  return Math.floor(((usableSectors(sectors, sectorSize).last + 1) * sectorSize) / mebibyte) * mebibyte;
}

/**
 * The table of a medium whose store reaches to the end of the disk.
 * @param bytes the size that the disk has, or is to have
 * @throws ReliveError `usage` where another partition lies behind the store
 */
export function grownTable(table: PartitionTable, bytes: number): PartitionTable {
  const { sectorSize, partitions } = table;
  const sectors = Math.floor(bytes / sectorSize);
  const store = partitions.find(({ name }) => name === partitionNames.store);
  const behind = partitions.find(({ first }) => store !== undefined && first > store.last);
  if (behind !== undefined) {
    throw new ReliveError('usage', `the partition "${behind.name}" lies behind the store, which cannot grow`);
  }
  const last = endOf(sectors, sectorSize) / sectorSize - 1;
  return {
    ...table,
    sectors,
    partitions: partitions.map((one) => (one === store ? { ...one, last: Math.max(one.last, last) } : one)),
  };
}

/** The parts of a medium by its partition table, or undefined where that is not the table of a medium. */
export function layoutOf(table: PartitionTable): Layout | undefined {
  const { sectorSize, partitions } = table;
  const extent = ({ first, last }: Partition): Extent => ({
    offset: first * sectorSize,
    bytes: (last - first + 1) * sectorSize,
  });
  const named = (name: string): Extent | undefined => {
    const found = partitions.filter((partition) => partition.name === name);
    return found.length === 1 && found[0] !== undefined ? extent(found[0]) : undefined;
  };
  const [bios, efi, store] = [
    named(partitionNames.bios),
    named(partitionNames.efi),
    named(partitionNames.store),
  ];
  if (efi === undefined || store === undefined || (bios === undefined && sectorSize === 512))
    return undefined;
  if (bios !== undefined && bios.bytes < coreSlots * coreSlotBytes) return undefined;
  const own: readonly string[] = Object.values(partitionNames);
  return {
    ...{ table, bios, efi, store },
    volumes: partitions
      .filter(({ name }) => !own.includes(name))
      .map((partition) => ({ label: partition.name, ...extent(partition) })),
  };
}
