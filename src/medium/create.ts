import { open, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { openAlone, rereadPartitions } from '../host/disk.ts';
import { explainDiskFull, freeBytes, makeDirectories, syncDirectory } from '../host/files.ts';
import type { Site } from '../site/site.ts';
import { type DiskBytes, diskBytes } from './bytes.ts';
import { installGrub, mediumGrub, mediumKeys } from './disk-grub.ts';
import { makeDiskEfi } from './efi.ts';
import { makeExfat, withPart } from './exfat.ts';
import { bytesOf, fillStore, planFill, settled, type WantedImage, wantedImages } from './fill.ts';
import { withProtectiveTable, writeTable } from './gpt.ts';
import { grubLayout } from './keyboard.ts';
import {
  type Layout,
  layOut,
  type SectorSize,
  type StoreType,
  sectorSizeOf,
  storeLabel,
  type VolumeRequest,
} from './layout.ts';
import { giveToRoot, makeExt4, withMountedStore } from './store-files.ts';
import {
  contentOf,
  findTarget,
  isRoot,
  requireRootFor,
  sizeOf,
  type Target,
  withMediumScratch,
} from './target.ts';

export interface CreateOptions {
  /** Of a disk file; undefined: that of the file that is there, or `defaultFileBytes`. */
  readonly bytes: number | undefined;
  readonly volumes: readonly VolumeRequest[];
  /** Undefined: the device's own, 512 for a file. */
  readonly sectorSize: SectorSize | undefined;
  /** The file system of the store. */
  readonly storeType: StoreType;
  /** Images, or profiles for their newest ones; none: the newest of each profile. */
  readonly images: readonly string[];
  /** Asks whether the target may be erased. */
  readonly confirm: (question: string) => Promise<boolean>;
}

/** A new disk file is this large; it takes only what is written to it. */
export const defaultFileBytes = 8 * 1024 ** 3;

export interface CreatedMedium {
  readonly target: string;
  readonly bytes: number;
  readonly sectorSize: number;
  readonly partitions: readonly { readonly number: number; readonly name: string; readonly bytes: number }[];
  readonly images: readonly string[];
}

/** The stages of making a medium. */
export const makeStage = 'file systems';
export const grubStage = 'grub';

const mebibyte = 1024 * 1024;

async function chosenSize(
  target: Target,
  options: CreateOptions,
): Promise<{ bytes: number; sectorSize: SectorSize }> {
  const { device } = target;
  if (device === undefined) {
    const bytes = options.bytes ?? (target.bytes === 0 ? defaultFileBytes : target.bytes);
    return { bytes, sectorSize: options.sectorSize ?? 512 };
  }
  if (options.bytes !== undefined) {
    throw new ReliveError('usage', '--size is for disk files: a medium takes all of a device');
  }
  if (device.readOnly) throw new ReliveError('usage', `${target.path} is write-protected`);
  const found = device.sectorSize;
  if ((found !== 512 && found !== 4096) || (options.sectorSize ?? found) !== found) {
    throw new ReliveError('usage', `${target.path} has sectors of ${found} bytes`, {
      hint: 'leave --sector-size away for devices; media have sectors of 512 or 4096 bytes',
    });
  }
  return await Promise.resolve({ bytes: device.bytes, sectorSize: found });
}

/** @throws ReliveError `usage` unless somebody agrees */
async function mayErase(target: Target, options: CreateOptions, context: Context): Promise<void> {
  const content = await contentOf(target, context);
  if (content === undefined) return;
  const { device, path } = target;
  const what =
    device === undefined
      ? `the file ${path}`
      : [path, device.transport?.toUpperCase(), device.model]
          .filter((word) => word !== undefined && word !== '')
          .join(' ');
  const list = content.map((line) => `\n  ${line}`).join('');
  const size = sizeOf(target.bytes);
  if (await options.confirm(`${what} (${size}) has on it:${list}\nErase all of it?`)) return;
  throw new ReliveError('usage', `${what} (${size}) is not erased; it has on it:${list}`, {
    hint: '--yes erases it without asking',
  });
}

/** What is wrong with the menu's settings is said before anything is erased. */
async function checkMenu({ menu: { keyboard } }: Site, context: Context): Promise<void> {
  if (keyboard === undefined) return;
  await withScratchDirectory(tmpdir(), async (scratch) => await grubLayout(keyboard, scratch, context));
}

/** Overwrites what earlier partition tables and file systems are known by. */
async function wipeEnds(disk: DiskBytes, bytes: number): Promise<void> {
  const zeros = new Uint8Array(mebibyte);
  await disk.write(0, zeros);
  await disk.write(bytes - mebibyte, zeros);
  await disk.sync();
}

/** Runs `work` with a disk of our own, which is opened anew as often as other programs have to open it. */
async function withDisk<T>(path: string, work: (disk: DiskBytes) => Promise<T>): Promise<T> {
  const handle = await openAlone(path, { write: true });
  try {
    return await work(diskBytes(handle));
  } finally {
    await handle.close();
  }
}

async function makeFileSystems(
  path: string,
  layout: Layout,
  storeType: StoreType,
  tree: string | undefined,
  scratch: string,
  context: Context,
): Promise<void> {
  await inStage(context, makeStage, async () => {
    const efi = join(scratch, 'efi.img');
    await makeDiskEfi(efi, { bytes: layout.efi.bytes, sectorSize: layout.table.sectorSize }, context);
    await withDisk(path, async (disk) => await copyInto(disk, layout.efi.offset, efi));
    for (const volume of layout.volumes) await makeExt4(path, volume, volume.label, undefined, context);
    if (storeType === 'exfat') {
      const options = { sectorSize: sectorSizeOf(layout), readOnly: false };
      await withPart(path, layout.store, options, context, async (device) => {
        await makeExfat(device, storeLabel, context);
      });
      return;
    }
    await makeExt4(path, layout.store, storeLabel, tree, context);
    if (tree !== undefined) await giveToRoot(path, layout.store, tree, context);
  });
}

/** Writes a small file into a disk. */
async function copyInto(disk: DiskBytes, offset: number, file: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    const source = diskBytes(handle);
    const { size } = await handle.stat();
    const empty = Buffer.alloc(mebibyte);
    for (let at = 0; at < size; at += mebibyte) {
      const piece = await source.read(at, Math.min(mebibyte, size - at));
      const there = await disk.read(offset + at, piece.length);
      // A disk file stays sparse, a stick is spared.
      if (!piece.equals(there) || !piece.equals(empty.subarray(0, piece.length))) {
        await disk.write(offset + at, piece);
      }
    }
    await disk.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the medium in `path`, which is a device or a new file of the right size. */
async function makeMedium(
  site: Site,
  path: string,
  layout: Layout,
  storeType: StoreType,
  wanted: readonly WantedImage[],
  scratch: string,
  context: Context,
): Promise<void> {
  const { sectorSize, sectors } = layout.table;
  await withDisk(path, async (disk) => await wipeEnds(disk, sectors * sectorSize));
  const fill = async (root: string): Promise<void> => {
    await makeDirectories(root);
    // Nothing starts from a medium that is being made.
    await fillStore(await planFill(site.store, wanted, root, false), root, settled, context);
  };
  if (isRoot()) {
    await makeFileSystems(path, layout, storeType, undefined, scratch, context);
    const mountPoint = join(site.cache, 'medium');
    await withMountedStore({ path, layout, mode: 'write', mountPoint }, context, fill);
  } else {
    const tree = join(scratch, 'store');
    await fill(tree);
    await makeFileSystems(path, layout, storeType, tree, scratch, context);
  }
  await inStage(context, grubStage, async () => {
    const manifests = wanted.map(({ manifest }) => manifest);
    const grub = await mediumGrub(site, manifests, scratch, context);
    await withDisk(path, async (disk) => {
      // The table last: a medium that was not finished is none.
      await disk.write(0, withProtectiveTable(await disk.read(0, 512), sectors));
      await installGrub(disk, layout, grub);
      await writeTable(disk, layout.table);
    });
  });
}

/**
 * Makes a medium: a disk, a stick or a disk file that boots the images. A file appears complete or not at all; what was
 * there is lost on a device as soon as it was agreed to, and is replaced by the finished one in a file.
 * @throws ReliveError `usage` without agreement, `locked` for what is in use, `disk-full`, `not-root`, and as
 *   `wantedImages`
 */
export async function createMedium(
  site: Site,
  given: string,
  options: CreateOptions,
  context: Context,
): Promise<CreatedMedium> {
  if (options.storeType === 'exfat') requireRootFor('making a store of exFAT');
  const target = await findTarget(given, true, context);
  const { bytes, sectorSize } = await chosenSize(target, options);
  const wanted = await wantedImages(site.store, options.images, await mediumKeys(site), context);
  const layout = layOut({ ...options, bytes, sectorSize, storeBytes: Math.ceil(bytesOf(wanted) * 1.05) });
  await checkMenu(site, context);
  await mayErase(target, options, context);
  await withMediumScratch(target, context, async (scratch) => {
    if (target.device !== undefined) {
      await makeMedium(site, target.path, layout, options.storeType, wanted, scratch, context);
      await showPartitions(target.path, context);
      return;
    }
    await requireRoom(dirname(target.path), wanted);
    const made = join(scratch, basename(target.path));
    const handle = await open(made, 'wx', 0o644);
    try {
      await handle.truncate(bytes);
    } finally {
      await handle.close();
    }
    try {
      await makeMedium(site, made, layout, options.storeType, wanted, scratch, context);
    } catch (error) {
      throw explainDiskFull(error, target.path);
    }
    await rename(made, target.path);
    await syncDirectory(dirname(target.path));
  });
  return {
    ...{ target: target.path, bytes, sectorSize },
    partitions: layout.table.partitions.map(({ name, first, last }, index) => ({
      ...{ number: index + 1, name, bytes: (last - first + 1) * sectorSize },
    })),
    images: wanted.map(({ image }) => image.name),
  };
}

/** Lets the kernel see the partitions. The medium is complete without: that is a warning. */
export async function showPartitions(path: string, context: Context): Promise<void> {
  try {
    await rereadPartitions(path, context);
  } catch (error) {
    if (!isReliveError(error, 'tool-failed')) throw error;
    context.emit({
      event: 'warning',
      message: `the kernel does not see the partitions of ${path} yet: ${error.message}`,
      hint: 'the medium is complete; it sees them when the medium is plugged in again',
    });
  }
}

async function requireRoom(directory: string, wanted: readonly WantedImage[]): Promise<void> {
  // Without root the files are there twice for a while.
  const needed = bytesOf(wanted) * (isRoot() ? 1 : 2);
  const free = await freeBytes(directory);
  if (free >= needed) return;
  const [want, have] = [needed, free].map((value) => Math.ceil(value / 1e6));
  throw new ReliveError(
    'disk-full',
    `the disk file takes ${want} MB, but ${directory} has room for ${have} MB`,
    {
      hint: 'make room there, or make it elsewhere',
    },
  );
}
