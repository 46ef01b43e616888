import { readFile, truncate, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import { type DebianChain, debianDirectory, debianFiles } from './debian-grub.ts';
import {
  type EfiPlatform,
  efiNames,
  efiPrograms,
  type GrubOptions,
  makeGrubImage,
  type SecureGrub,
} from './grub.ts';
import { type EfiFile, shimFiles } from './shim.ts';

const sectorsPerKib = 2;
/** Beside the file's own bytes: boot sector, two tables, root directory, and a little air. */
const overheadKib = 128;

/**
 * The size of the EFI system partition in KiB for files of together `bytes`. FAT12 goes up to 4084 clusters, which
 * mformat chooses by itself; a multiple of 32 KiB makes whole tracks.
 */
export function efiPartitionKib(bytes: number): number {
  return Math.ceil((Math.ceil(bytes / 1024) + overheadKib) / 32) * 32;
}

/**
 * What firmware starts from a medium, and what that needs in the EFI system partition; the former comes last.
 * @param scratch a directory for what goes in
 * @param from the directory with the platform's folder of modules (see `findGrub`)
 * @param secure for firmware with Secure Boot: our GRUB, or Debian's
 * @throws ReliveError as `makeGrubImage`
 */
export async function makeEfiFiles(
  platform: EfiPlatform,
  options: GrubOptions,
  scratch: string,
  context: Context,
  from: string | undefined,
  secure: SecureGrub | DebianChain | undefined,
): Promise<readonly EfiFile[]> {
  const boot = efiPrograms[platform];
  const name = efiNames[platform];
  if (secure !== undefined && 'grub' in secure) {
    if (name === undefined) throw new TypeError(`Debian signs no GRUB for ${platform}`);
    return await debianFiles(secure, boot, name, options.timeoutSeconds);
  }
  const grub = await readFile(await makeGrubImage(platform, options, scratch, context, from, secure));
  return secure?.shim === undefined || name === undefined
    ? [{ path: `EFI/BOOT/${boot}`, content: grub }]
    : await shimFiles(secure.shim, boot, name, grub, secure.signer);
}

/**
 * Writes `image`: a FAT file system that holds `files`, in the directory EFI/BOOT, from which firmware starts removable
 * media (UEFI specification, 3.5.1.1), or at its root. The serial number comes from `serial` (32 bits) and all times from
 * `sourceDateEpoch`, so equal inputs give equal bytes.
 * @param scratch a directory for the files
 */
export async function makeEfiPartition(
  image: string,
  files: readonly EfiFile[],
  scratch: string,
  options: { readonly serial: number; readonly sourceDateEpoch: number },
  context: Context,
): Promise<void> {
  const kib = efiPartitionKib(files.reduce((sum, { content }) => sum + content.length, 0));
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
  const directories = [
    'EFI',
    ...new Set(files.map(({ path }) => dirname(path)).filter((path) => path !== '.')),
  ];
  await run('mmd', ['-i', image, ...directories.map((path) => `::/${path}`)], settings);
  for (const { path, content } of files) {
    const file = join(scratch, basename(path));
    await writeFile(file, content);
    await run('mcopy', ['-i', image, file, `::/${path}`], settings);
  }
}

/** 1980-01-01, the first time that FAT knows. */
const firstTime = 315_532_800;

/**
 * Writes `image`: a FAT32 file system for the EFI system partition of a disk, with an empty EFI/BOOT and EFI/DEBIAN (FAT32 is what the
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
  await run('mmd', ['-i', image, '::/EFI', '::/EFI/BOOT', `::/${debianDirectory}`], settings);
}
