import { ReliveError } from '../core/error.ts';
import type { DiskBytes } from './bytes.ts';

/*
 * How BIOS starts GRUB from a disk with GPT: it runs the code in the first sector, which reads the one sector whose
 * number stands in it, which reads the rest of the core image by a list of blocks (GRUB, grub-core/boot/i386/pc/boot.S
 * and diskboot.S, util/setup.c). All three count sectors of 512 bytes.
 */

const sectorBytes = 512;
/** boot.S: GRUB_BOOT_MACHINE_KERNEL_SECTOR, GRUB_BOOT_MACHINE_DRIVE_CHECK, and where the old partition table begins. */
const kernelSectorAt = 0x5c;
const driveCheckAt = 0x66;
const codeEnd = 440;
/** diskboot.S: the last entry of the list of blocks, 12 bytes: first sector, number of sectors, segment. */
const blockListAt = sectorBytes - 12;
/** Behind the 512 bytes at 0x8000 that diskboot.S itself takes. */
const restSegment = 0x820;

/** Two places for a core image, so that one stays as it is until the other is complete. */
export const coreSlots = 2;
export const coreSlotBytes = 1024 * 1024;

/**
 * The first sector of a disk: GRUB's boot.img made to read the core image at `coreSector`. What follows the code (the
 * disk's old number and partition table) stays as it is in `sector`.
 * @param bootImage GRUB's boot.img
 */
export function bootSector(bootImage: Uint8Array, sector: Uint8Array, coreSector: number): Buffer {
  if (bootImage.length !== sectorBytes || sector.length !== sectorBytes) {
    throw new TypeError('a boot sector has 512 bytes');
  }
  const result = Buffer.from(sector);
  result.set(bootImage.subarray(0, codeEnd));
  result.writeBigUInt64LE(BigInt(coreSector), kernelSectorAt);
  // Some BIOSes hand over the number of a floppy drive: take the first hard disk then, as grub-bios-setup does.
  result.set([0x90, 0x90], driveCheckAt);
  result.writeUInt16LE(0xaa55, 510);
  return result;
}

/** The sector which the code in a first sector reads. */
export function coreSectorOf(sector: Buffer): number {
  return Number(sector.readBigUInt64LE(kernelSectorAt));
}

/** A core image (grub-mkimage, format i386-pc) with its list of blocks for one run of sectors, in whole sectors. */
export function placedCore(core: Uint8Array, coreSector: number): Buffer {
  const sectors = Math.ceil(core.length / sectorBytes);
  const result = Buffer.alloc(sectors * sectorBytes);
  result.set(core);
  result.writeBigUInt64LE(BigInt(coreSector + 1), blockListAt);
  result.writeUInt16LE(sectors - 1, blockListAt + 8);
  result.writeUInt16LE(restSegment, blockListAt + 10);
  // The list ends with an entry of no sectors; it grows downwards.
  result.fill(0, blockListAt - 12, blockListAt);
  return result;
}

/** Where the BIOS boot partition of a medium is, in sectors of 512 bytes. */
export interface BiosPartition {
  readonly first: number;
}

function slotSector({ first }: BiosPartition, slot: number): number {
  return first + (slot * coreSlotBytes) / sectorBytes;
}

/** The slot of the core image that starts now, or undefined for a first sector that is not ours. */
async function activeSlot(disk: DiskBytes, partition: BiosPartition): Promise<number | undefined> {
  const sector = coreSectorOf(await disk.read(0, sectorBytes));
  for (let slot = 0; slot < coreSlots; slot += 1) if (slotSector(partition, slot) === sector) return slot;
  return undefined;
}

/** Whether BIOS starts exactly this core image, by exactly this boot code. */
export async function biosIsCurrent(
  disk: DiskBytes,
  partition: BiosPartition,
  bootImage: Uint8Array,
  core: Uint8Array,
): Promise<boolean> {
  const slot = await activeSlot(disk, partition);
  if (slot === undefined) return false;
  const at = slotSector(partition, slot);
  const sector = await disk.read(0, sectorBytes);
  const wanted = placedCore(core, at);
  return (
    sector.equals(bootSector(bootImage, sector, at)) &&
    (await disk.read(at * sectorBytes, wanted.length)).equals(wanted)
  );
}

/**
 * Makes BIOS start a core image: it is written where the one that starts now is not, and when it is on the disk one
 * write of the first sector changes over. Whenever the power fails, one of the two starts.
 * @throws ReliveError `bug` for a core image that is larger than its place
 */
export async function installBios(
  disk: DiskBytes,
  partition: BiosPartition,
  bootImage: Uint8Array,
  core: Uint8Array,
): Promise<void> {
  const at = slotSector(partition, (await activeSlot(disk, partition)) === 0 ? 1 : 0);
  const placed = placedCore(core, at);
  if (placed.length > coreSlotBytes) {
    throw new ReliveError('bug', `GRUB's core image has ${core.length} bytes, its place ${coreSlotBytes}`);
  }
  await disk.write(at * sectorBytes, placed);
  await disk.sync();
  await disk.write(0, bootSector(bootImage, await disk.read(0, sectorBytes), at));
  await disk.sync();
}
