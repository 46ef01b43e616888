import { type FileHandle, mkdir, open, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { type BlockDevice, blockDevices, contentAt, loopDevicesOf, openAlone, usesOf } from '../host/disk.ts';
import { makeDirectories } from '../host/files.ts';
import { takeLock } from '../host/lock.ts';
import { type DiskBytes, diskBytes } from './bytes.ts';
import { type FoundTable, readTable } from './gpt.ts';
import { type Layout, layoutOf, partitionNames } from './layout.ts';

/** What a medium is made of, or is. */
export interface Target {
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** Undefined: a disk file. */
  readonly device: BlockDevice | undefined;
  /** 0 for a file that is not there yet. */
  readonly bytes: number;
}

const loopTries = 10;
const loopPauseMilliseconds = 200;

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** @throws ReliveError `not-root` */
export function requireRootFor(what: string): void {
  if (isRoot()) return;
  throw new ReliveError('not-root', `${what} needs root: only a mount can change it`, {
    hint: 'sudo relive medium ...; a store of ext4 in a disk file needs no root',
  });
}

/**
 * Looks at a target, and refuses what is in use.
 * @throws ReliveError `usage` for what is neither disk nor file, `locked` for what is in use, `not-root`, `not-found`
 */
export async function findTarget(given: string, mayBeNew: boolean, context: Context): Promise<Target> {
  let path = resolve(given);
  let stats: Awaited<ReturnType<typeof stat>>;
  try {
    path = await realpath(path);
    stats = await stat(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    if (!mayBeNew || path.startsWith('/dev/')) {
      throw new ReliveError('not-found', `there is no ${given}`, {
        hint: 'lsblk lists the disks of this host; relive medium create makes a medium',
      });
    }
    const directory = await realpath(dirname(path)).catch(() => undefined);
    if (directory === undefined) {
      throw new ReliveError('usage', `there is no directory ${dirname(path)} to make ${basename(path)} in`);
    }
    return { path: join(directory, basename(path)), device: undefined, bytes: 0 };
  }
  if (stats.isFile()) {
    let loops = await loopDevicesOf(path, context);
    // A run that was killed just now gives its mount back within a moment.
    for (let tries = 0; loops.length > 0 && tries < loopTries; tries += 1) {
      await sleep(loopPauseMilliseconds, undefined, { signal: context.signal });
      loops = await loopDevicesOf(path, context);
    }
    if (loops.length === 0) return { path, device: undefined, bytes: stats.size };
    throw new ReliveError('locked', `${path} is in use as ${loops.join(', ')}`, {
      hint: `losetup --detach ${loops[0]}, once nothing of it is mounted`,
    });
  }
  if (!stats.isBlockDevice()) {
    throw new ReliveError('usage', `${given} is neither a disk nor a file`, {
      hint: 'lsblk lists the disks of this host',
    });
  }
  if (!isRoot()) {
    throw new ReliveError('not-root', `${given} is a device: media on devices need root`, {
      hint: 'sudo relive medium ..., or a disk file, which anybody may make',
    });
  }
  const [device] = await blockDevices(path, context);
  if (device === undefined) throw new ReliveError('not-found', `lsblk does not know ${path}`);
  const whole = device.type === 'disk' || device.type === 'loop';
  if (!whole) {
    throw new ReliveError(
      'usage',
      `${given} is not a whole disk but ${device.type === 'part' ? 'a partition' : device.type}`,
      {
        hint: 'lsblk lists the disks of this host',
      },
    );
  }
  const uses = usesOf(device);
  if (uses.length > 0) {
    throw new ReliveError('locked', `${given} is in use: ${uses.join('; ')}`, {
      hint: 'unmount it, and what is made of it, first; never the disk that this system runs from',
    });
  }
  if (device.bytes === 0) throw new ReliveError('usage', `${given} has no medium in it`);
  return { path, device, bytes: device.bytes };
}

/**
 * The only disk of this host that is a medium, by the names of its partitions.
 * @throws ReliveError `not-found` for none, `usage` for several
 */
export async function onlyMedium(context: Context): Promise<string> {
  const media = (await blockDevices(undefined, context)).filter((device) =>
    device.parts.some(({ label, type }) => type === 'part' && label === partitionNames.store),
  );
  const [first, ...others] = media;
  if (first !== undefined && others.length === 0) return first.name;
  throw first === undefined
    ? new ReliveError('not-found', 'no disk of this host is a medium', {
        hint: 'name a disk file, or plug the medium in',
      })
    : new ReliveError('usage', `several disks are media: ${media.map(({ name }) => name).join(', ')}`, {
        hint: 'name the one that is meant',
      });
}

export const sizeOf = (bytes: number): string =>
  bytes < 1e9 ? `${Math.ceil(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

/** What a disk is and what is on it, for whoever is to say whether it may be erased; undefined for nothing at all. */
export async function contentOf(target: Target, context: Context): Promise<readonly string[] | undefined> {
  const { path, device, bytes } = target;
  if (bytes === 0) return undefined;
  const lines: string[] = [];
  for (const part of device?.parts ?? []) {
    const words = [part.fileSystem ?? 'nothing known', part.label === undefined ? '' : `"${part.label}"`];
    lines.push(`${part.name}: ${words.join(' ').trim()}, ${sizeOf(part.bytes)}`);
  }
  if (lines.length > 0) return lines;
  const handle = await openAlone(path, { write: false });
  try {
    const found = await readTable(diskBytes(handle), bytes, device?.sectorSize);
    for (const [index, { name, first, last }] of (found?.table.partitions ?? []).entries()) {
      const size = found?.table.sectorSize ?? 512;
      const content = await contentAt(path, first * size, context);
      lines.push(
        `partition ${index + 1} "${name}": ${content ?? 'nothing known'}, ${sizeOf((last - first + 1) * size)}`,
      );
    }
    if (lines.length > 0) return lines;
    const whole = await contentAt(path, 0, context);
    if (whole !== undefined) return [whole];
    return device === undefined ? [`${bytes} bytes of unknown content`] : ['nothing that this host knows'];
  } finally {
    await handle.close();
  }
}

/** A medium that is open for us alone. */
export interface OpenMedium {
  readonly path: string;
  readonly target: Target;
  readonly disk: DiskBytes;
  readonly handle: FileHandle;
  readonly found: FoundTable;
  readonly layout: Layout;
}

/**
 * Runs `work` with a medium, which nobody else may use meanwhile.
 * @throws ReliveError `not-found` for what is no medium, `locked`
 */
export async function withMedium<T>(
  target: Target,
  mode: 'read' | 'write',
  work: (medium: OpenMedium) => Promise<T>,
): Promise<T> {
  const handle = await openAlone(target.path, { write: mode === 'write' });
  try {
    const disk = diskBytes(handle);
    const found = await readTable(disk, target.bytes, target.device?.sectorSize);
    const layout = found === undefined ? undefined : layoutOf(found.table);
    if (found === undefined || layout === undefined) {
      throw new ReliveError(
        'not-found',
        `${target.path} is no medium: it has ${found === undefined ? 'no partition table' : 'other partitions'}`,
        {
          hint: 'relive medium create makes one',
        },
      );
    }
    return await work({ path: target.path, target, disk, handle, found, layout });
  } finally {
    await handle.close();
  }
}

/**
 * Runs `work` with a directory for parts of a medium: beside a disk file, always of the same name, so that the next run
 * removes what one that was killed has left there; for a device in the temporary directory.
 */
export async function withMediumScratch<T>(
  target: Target,
  context: Context,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  if (target.device !== undefined) return await withScratchDirectory(tmpdir(), work);
  const directory = join(dirname(target.path), `.tmp-${basename(target.path)}-relive`);
  await makeDirectories(directory, 0o700);
  const lock = await takeLock(join(directory, '.lock'), target.path, context);
  try {
    const parts = join(directory, 'parts');
    await rm(parts, { recursive: true, force: true });
    await mkdir(parts);
    return await work(parts);
  } finally {
    await rm(directory, { recursive: true, force: true });
    await lock.release();
  }
}

/**
 * What kind of disk a file is for a virtual machine: an ISO, which nobody can write to, or a disk, with the size of its
 * sectors in bytes.
 */
export async function diskKind(
  file: string,
): Promise<{ readonly iso: boolean; readonly sectorSize: number }> {
  const handle = await open(file, 'r');
  try {
    const disk = diskBytes(handle);
    // ECMA-119, 8.1: the identifier of the first volume descriptor, in the sector of 2048 bytes with the number 16.
    const iso = (await disk.read(16 * 2048 + 1, 5)).toString('latin1') === 'CD001';
    const { size } = await handle.stat();
    return { iso, sectorSize: iso ? 512 : ((await readTable(disk, size))?.table.sectorSize ?? 512) };
  } finally {
    await handle.close();
  }
}
