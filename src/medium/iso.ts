import { lstat, open, readdir, rename, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { explainDiskFull, freeBytes, sha256, syncDirectory } from '../host/files.ts';
import { run } from '../host/process.ts';
import { type StoredImage, storePaths } from '../image/store.ts';
import { type Site, usualMenu } from '../site/site.ts';
import type { DebianChain } from './debian-grub.ts';
import { makeEfiFiles, makeEfiPartition } from './efi.ts';
import {
  type EfiPlatform,
  type GrubCheck,
  type GrubOptions,
  hybridBootSector,
  makeGrubImage,
  type SecureGrub,
} from './grub.ts';
import { readGrubKey } from './grub-key.ts';
import { grubLayout } from './keyboard.ts';

export interface IsoOptions {
  readonly store: string;
  readonly image: StoredImage;
  /** The names of its files in STORE/live: SquashFS, and their hash trees. */
  readonly layers: readonly string[];
  /** How GRUB checks what it reads. */
  readonly check: GrubCheck;
  /** A file with the OpenPGP keys, binary or armoured, that GRUB is to insist on; for `signature` only. */
  readonly publicKey: string | undefined;
  /** The text of boot/grub/loopback.cfg, the menu for another's GRUB that has the ISO as a file. */
  readonly loopback: string;
  /** The name of the ISO 9660 volume; `volumeIdOf(image)` unless there is a reason. */
  readonly volumeId: string;
  /** Seconds since 1970 that every time in the ISO gets. */
  readonly sourceDateEpoch: number;
  /** Whether BIOS starts it, too. */
  readonly bios: boolean;
  /** What UEFI starts. */
  readonly efi: EfiPlatform;
  /** A second UEFI that is to start it, by GRUB's modules on this host; never with Secure Boot. */
  readonly rarerEfi?: EfiPlatform | undefined;
  /** The directory with the folder of GRUB's modules for `efi`; the host's own unless given. */
  readonly efiModules?: string;
  /** Makes GRUB one for Secure Boot, or takes Debian's. */
  readonly secure?: SecureGrub | DebianChain | undefined;
  /** What the menu is like; as a site that says nothing of it unless given. */
  readonly menu?: Site['menu'] | undefined;
}

/** A file of the ISO: where it is there, and where it comes from. */
interface IsoFile {
  readonly path: string;
  readonly source: string;
}

/** About what GRUB, the EFI partition and the directories take besides the image's own files. */
const partsBytes = 6 * 1024 * 1024;

/** The stage that events of writing an ISO belong to. */
export const isoStage = 'iso';

/**
 * An image's name as a volume identifier (ECMA-119, 7.4.1: capitals, digits and underscore, at most 32): the
 * version is always whole.
 */
export function volumeIdOf(image: string): string {
  const clean = image.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_');
  const [profile, version] = [clean.slice(0, -12), clean.slice(-12)];
  return `${profile.slice(0, 32 - version.length)}${version}`;
}

/** The share that xorriso says is done, in percent, or undefined where a line says none. */
export function xorrisoPercent(line: string): number | undefined {
  const match = /UPDATE\s*:\s*([\d.]+)% done/.exec(line);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

/** A graft point of xorriso -as mkisofs: `\` and `=` are special in it (xorrisofs(1), -graft-points). */
function graft({ path, source }: IsoFile): string {
  return [path, source].map((text) => text.replaceAll(/[\\=]/g, '\\$&')).join('=');
}

/** The directory of an image on a medium. */
export function placeOf({ profile, version }: StoredImage): string {
  return `/images/${profile}/${version}`;
}

/**
 * Lists what goes into the ISO, in the order of its names, and says how many bytes the ISO will take at most or so.
 * @throws ReliveError `corrupt` for what is not a plain file or is missing
 */
async function isoFiles(
  options: IsoOptions,
): Promise<{ readonly files: readonly IsoFile[]; readonly bytes: number }> {
  const { store, image, layers } = options;
  const names = await readdir(image.directory);
  const files = [
    ...names
      .filter((name) => !name.startsWith('.'))
      .map((name) => ({ path: `${placeOf(image)}/${name}`, source: join(image.directory, name) })),
    ...[basename(storePaths.stack(store, image.name)), ...layers].map((name) => ({
      path: `/live/${name}`,
      source: join(storePaths.layers(store), name),
    })),
  ];
  let bytes = partsBytes;
  for (const { source } of files) {
    try {
      const stats = await lstat(source);
      if (!stats.isFile()) throw new ReliveError('corrupt', `${source} is not a plain file`);
      bytes += stats.size;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      throw new ReliveError('corrupt', `${source} is missing from the store`, {
        hint: `relive image verify ${image.name} names every fault`,
        cause: error,
      });
    }
  }
  for (const needed of ['manifest.json', 'boot.cfg', 'vmlinuz', 'initrd.img']) {
    if (!names.includes(needed)) {
      throw new ReliveError('corrupt', `${join(image.directory, needed)} is missing from the store`, {
        hint: `relive image verify ${image.name} names every fault`,
      });
    }
  }
  return { files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)), bytes };
}

/** A GUID from a digest (RFC 4122, version 4 as far as its form goes): the same input gets the same one. */
function guidOf(digest: string): string {
  const variant = ((Number.parseInt(digest.slice(16, 17), 16) & 3) | 8).toString(16);
  return [
    digest.slice(0, 8),
    digest.slice(8, 12),
    `4${digest.slice(13, 16)}`,
    `${variant}${digest.slice(17, 20)}`,
    digest.slice(20, 32),
  ].join('-');
}

/** `YYYYMMDDhhmmsscc`, as xorriso reads times. */
function xorrisoDate(epoch: number): string {
  return `${new Date(epoch * 1000).toISOString().replaceAll(/\D/g, '').slice(0, 14)}00`;
}

/**
 * What BIOS starts: from a CD by El Torito, from a stick by the boot sector. The dummy partition with the active flag is
 * for BIOSes that skip a disk without one.
 * @returns files of the ISO, and xorriso's options, to stand before those of UEFI
 */
async function biosParts(
  grub: GrubOptions,
  scratch: string,
  context: Context,
): Promise<{ readonly files: readonly IsoFile[]; readonly options: readonly string[] }> {
  const path = '/boot/grub/eltorito.img';
  const source = await makeGrubImage('pc', grub, scratch, context);
  const options = [
    ...['-b', path, '-no-emul-boot', '-boot-load-size', '4'],
    ...['-boot-info-table', '--grub2-boot-info', '--grub2-mbr', await hybridBootSector()],
    ...['--mbr-force-bootable', '-eltorito-alt-boot'],
  ];
  return { files: [{ path, source }], options };
}

/**
 * Writes a hybrid ISO with one image into `path`, which is begun anew: for UEFI and, where wanted, BIOS, from a CD or byte for byte
 * on a USB stick, laid out like a store (/live, /images) so that one way of finding images serves all media.
 * Use `writeIso`, unless nobody else knows `path`.
 *
 * Equal inputs give equal bytes: times, owners, modes, identifiers and the order of the files' data are all set here;
 * besides them only the versions of GRUB, mtools and xorriso count.
 * @param scratch a directory for the parts, which stay there
 * @throws ReliveError `corrupt` for a store that lacks a file, `configuration` for a key that GRUB cannot use,
 *   `tool-missing`, `tool-failed`, `disk-full`
 */
export async function writeIsoInto(
  path: string,
  scratch: string,
  options: IsoOptions,
  context: Context,
): Promise<void> {
  const { files, bytes } = await isoFiles(options);
  const free = await freeBytes(dirname(path));
  if (free < bytes) {
    const [wanted, there] = [bytes, free].map((value) => Math.ceil(value / 1e6));
    throw new ReliveError(
      'disk-full',
      `the ISO of ${options.image.name} takes ${wanted} MB, but ${dirname(path)} has room for ${there} MB`,
      { hint: 'make room there, or write it elsewhere' },
    );
  }
  const publicKey = options.publicKey === undefined ? undefined : await readGrubKey(options.publicKey);
  const { timeoutSeconds, keyboard } = options.menu ?? usualMenu;
  const grub: GrubOptions = {
    check: options.check,
    publicKey,
    timeoutSeconds,
    layout:
      keyboard === undefined || !options.bios ? undefined : await grubLayout(keyboard, scratch, context),
  };
  const identity = sha256(`${options.image.name}\n${options.sourceDateEpoch}\n`);
  const date = xorrisoDate(options.sourceDateEpoch);
  const bios = options.bios ? await biosParts(grub, scratch, context) : undefined;
  const programs = [
    ...(await makeEfiFiles(options.efi, grub, scratch, context, options.efiModules, options.secure)),
    ...(options.rarerEfi === undefined
      ? []
      : await makeEfiFiles(options.rarerEfi, grub, scratch, context, undefined, undefined)),
  ];
  const efi = join(scratch, 'efi-partition.img');
  const serial = Number.parseInt(identity.slice(0, 8), 16);
  const { sourceDateEpoch } = options;
  await makeEfiPartition(efi, programs, scratch, { serial, sourceDateEpoch }, context);
  const loopback = join(scratch, 'loopback.cfg');
  await writeFile(loopback, options.loopback);
  const all = [...(bios?.files ?? []), { path: '/boot/grub/loopback.cfg', source: loopback }, ...files];
  await run(
    'xorriso',
    [
      ...['-no_rc', '-as', 'mkisofs', '-o', path, '-V', options.volumeId, '-iso-level', '3', '-R'],
      ...['-uid', '0', '-gid', '0', '-file-mode', '0444', '-dir-mode', '0555'],
      ...[`--modification-date=${date}`, '--set_all_file_dates', date],
      ...['--gpt_disk_guid', guidOf(identity), '-appid', 'RELIVE', '-publisher', '', '-preparer', ''],
      // The catalog wants a directory that is there. The offset gives the partition a file system of its own.
      ...['-c', bios === undefined ? '/boot.cat' : '/boot/boot.cat', '-partition_offset', '16'],
      ...(bios?.options ?? []),
      // UEFI: the same partition, from a CD by El Torito and from a stick by GPT.
      ...['-append_partition', '2', '0xef', efi, '-appended_part_as_gpt'],
      ...['-e', '--interval:appended_partition_2:all::', '-no-emul-boot'],
      // Without weights the data's order would follow the inode numbers of the host.
      ...all.flatMap(({ path: name }, index) => ['--sort-weight', String(all.length - index), name]),
      '-graft-points',
      ...all.map(graft),
    ],
    {
      signal: context.signal,
      env: { SOURCE_DATE_EPOCH: String(options.sourceDateEpoch) },
      onLine: (line) => {
        const done = xorrisoPercent(line);
        if (done === undefined) return;
        context.emit({ event: 'progress', stage: isoStage, done, total: 100, unit: 'percent' });
      },
    },
  );
}

/**
 * Writes a hybrid ISO with one image (see `writeIsoInto`); the file appears complete or not at all.
 * @returns its size in bytes
 */
export async function writeIso(
  options: IsoOptions & { readonly output: string },
  context: Context,
): Promise<{ readonly bytes: number }> {
  const { output } = options;
  return await withScratchDirectory(dirname(output), async (scratch) => {
    const made = join(scratch, 'medium.iso');
    await writeIsoInto(made, scratch, options, context);
    const handle = await open(made, 'r+');
    try {
      await handle.chmod(0o644);
      await handle.sync();
      const { size } = await handle.stat();
      await rename(made, output);
      await syncDirectory(dirname(output));
      return { bytes: size };
    } catch (error) {
      throw explainDiskFull(error, output);
    } finally {
      await handle.close();
    }
  });
}
