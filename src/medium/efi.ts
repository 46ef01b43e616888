import { stat, truncate, writeFile } from 'node:fs/promises';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';

const sectorsPerKib = 2;
/** Beside the file's own bytes: boot sector, two tables, root directory, and a little air. */
const overheadKib = 128;

/**
 * The size of the EFI system partition in KiB for a boot program of `bytes`. FAT12 goes up to 4084 clusters, which
 * mformat chooses by itself; a multiple of 32 KiB makes whole tracks.
 */
export function efiPartitionKib(bytes: number): number {
  return Math.ceil((Math.ceil(bytes / 1024) + overheadKib) / 32) * 32;
}

/**
 * Writes `image`: a FAT file system that holds `program` as EFI/BOOT/NAME, which firmware starts from removable media
 * (UEFI specification, 3.5.1.1). `name` is BOOTX64.EFI, BOOTAA64.EFI or BOOTARM.EFI, by the processor. The serial number comes from `serial` (32 bits) and all times from `sourceDateEpoch`, so equal inputs
 * give equal bytes.
 */
export async function makeEfiPartition(
  image: string,
  program: string,
  options: { readonly name: string; readonly serial: number; readonly sourceDateEpoch: number },
  context: Context,
): Promise<void> {
  const kib = efiPartitionKib((await stat(program)).size);
  await writeFile(image, new Uint8Array(kib * 1024));
  const settings = {
    signal: context.signal,
    // MTOOLS_SKIP_CHECK: a geometry that no floppy had is no fault. MTOOLSRC: no file of the caller's counts.
    env: {
      SOURCE_DATE_EPOCH: String(options.sourceDateEpoch),
      MTOOLS_SKIP_CHECK: '1',
      MTOOLSRC: '/dev/null',
      HOME: '/nonexistent',
    },
  };
  const serial = options.serial.toString(16).padStart(8, '0');
  const sectors = String(kib * sectorsPerKib);
  await run(
    'mformat',
    ['-i', image, '-T', sectors, '-h', '2', '-s', '32', '-N', serial, '-v', 'RELIVE', '::'],
    settings,
  );
  await run('mmd', ['-i', image, '::/EFI', '::/EFI/BOOT'], settings);
  await run('mcopy', ['-i', image, program, `::/EFI/BOOT/${options.name}`], settings);
}

/** 1980-01-01, the first time that FAT knows. */
const firstTime = 315_532_800;

/**
 * Writes `image`: a FAT32 file system for the EFI system partition of a disk, with an empty EFI/BOOT (FAT32 is what the
 * UEFI specification, 13.3.1.1, wants there). The same size gives the same bytes.
 * @param size in bytes, of the partition and of a sector of the disk
 */
export async function makeDiskEfi(
  image: string,
  size: { readonly bytes: number; readonly sectorSize: number },
  context: Context,
): Promise<void> {
  await writeFile(image, '');
  await truncate(image, size.bytes);
  const settings = {
    signal: context.signal,
    env: {
      SOURCE_DATE_EPOCH: String(firstTime),
      MTOOLS_SKIP_CHECK: '1',
      MTOOLSRC: '/dev/null',
      HOME: '/nonexistent',
    },
  };
  // mformat(1): -S counts powers of two from 128 bytes.
  const sector = ['-S', String(Math.log2(size.sectorSize) - 7), '-M', String(size.sectorSize)];
  const geometry = ['-T', String(size.bytes / size.sectorSize), '-h', '16', '-s', '32', '-c', '1'];
  await run(
    'mformat',
    ['-i', image, '-F', ...sector, ...geometry, '-N', '52454c56', '-v', 'RELIVE', '::'],
    settings,
  );
  await run('mmd', ['-i', image, '::/EFI', '::/EFI/BOOT'], settings);
}
