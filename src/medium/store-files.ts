import { lstat, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { unmount } from '../rootfs/stack.ts';
import { type DiskBytes, diskBytes } from './bytes.ts';
import { checkExfat, exfatState, mountExfat, withPart } from './exfat.ts';
import type { Settle } from './fill.ts';
import { type Extent, type Layout, type StoreType, sectorSizeOf, storeLabel } from './layout.ts';

/** What the file system of a medium's store says of itself. */
export interface StoreState {
  readonly type: StoreType;
  readonly label: string;
  /** Its journal has to be replayed: it was not unmounted. */
  readonly unclean: boolean;
  /** Its size. */
  readonly bytes: number;
}

/**
 * Reads the superblock of a store: ext4 (Linux, Documentation/filesystems/ext4), or exFAT; undefined where there is neither.
 */
export async function storeState(disk: DiskBytes, extent: Extent): Promise<StoreState | undefined> {
  const exfat = await exfatState(disk, extent);
  if (exfat !== undefined) return { type: 'exfat', ...exfat };
  const start = await disk.read(extent.offset, 2048);
  const superblock = start.subarray(1024);
  if (superblock.readUInt16LE(0x38) !== 0xef53) return undefined;
  return {
    type: 'ext4',
    label: superblock.toString('latin1', 0x78, 0x88).replace(/\0.*$/s, ''),
    // EXT4_FEATURE_INCOMPAT_RECOVER
    unclean: (superblock.readUInt32LE(0x60) & 4) !== 0,
    // s_blocks_count in two halves, s_log_block_size
    bytes:
      (superblock.readUInt32LE(0x4) + superblock.readUInt32LE(0x150) * 2 ** 32) *
      2 ** (10 + superblock.readUInt32LE(0x18)),
  };
}

/**
 * The features that mke2fs is told: GRUB 2.06 cannot read a file system with these two, which newer e2fsprogs turn on.
 */
const withoutFeatures = '^metadata_csum_seed,^orphan_file';

/**
 * Makes an ext4 file system in a part of a disk.
 * @param tree a directory that it is filled with
 */
export async function makeExt4(
  path: string,
  { offset, bytes }: Extent,
  label: string,
  tree: string | undefined,
  context: Context,
): Promise<void> {
  await run(
    'mke2fs',
    [
      // Twice: also in a file, and where a partition table is.
      ...['-q', '-F', '-F', '-t', 'ext4', '-O', withoutFeatures, '-L', label, '-m', '0', '-b', '4096'],
      // Layers are large; an inode for every 64 KiB is more than enough.
      ...(label === storeLabel ? ['-i', '65536'] : []),
      ...(tree === undefined ? [] : ['-d', tree]),
      ...['-E', `offset=${offset},root_owner=0:0`, path, `${Math.floor(bytes / 1024)}k`],
    ],
    { signal: context.signal },
  );
}

/** A store that is to be mounted. */
export interface MountedStore {
  /** The medium: a device or a disk file. */
  readonly path: string;
  readonly layout: Layout;
  readonly mode: 'read' | 'write';
  /** A directory to mount it at; it is made and stays. */
  readonly mountPoint: string;
}

/**
 * Runs `work` with the store mounted: the kernel's own file system, in this process's private mount namespace only. What
 * somebody may have put on the medium does not lead out of it (nosymfollow, nodev, nosuid, noexec). For root.
 * @throws ReliveError `host-unable` where the kernel lacks the file system
 */
export async function withMountedStore<T>(
  { path, layout, mode, mountPoint }: MountedStore,
  context: Context,
  work: (root: string, settle: Settle) => Promise<T>,
): Promise<T> {
  const extent = layout.store;
  await makeDirectories(mountPoint);
  if (await isExfat(path, extent)) {
    const options = { sectorSize: sectorSizeOf(layout), readOnly: mode === 'read' };
    return await withPart(path, extent, options, context, async (device) => {
      if (mode === 'write') await repairExfat(path, device, context);
      await mountExfat(device, mountPoint, mode, context);
      return await whileMounted(mountPoint, context, work);
    });
  }
  const options = [
    ...['loop', `offset=${extent.offset}`, `sizelimit=${extent.bytes}`],
    ...['nosuid', 'nodev', 'noexec', 'nosymfollow', 'noatime'],
    // Without the journal: a check changes nothing.
    ...(mode === 'write' ? ['rw'] : ['ro', 'noload']),
  ];
  try {
    await run('mount', ['-t', 'ext4', '-o', options.join(','), path, mountPoint], { signal: context.signal });
  } catch (error) {
    if (!isReliveError(error, 'tool-failed')) throw error;
    throw new ReliveError('host-unable', `cannot mount the store of ${path}: ${error.message}`, {
      hint: 'relive medium verify tells whether it is damaged; the kernel must have ext4 and loop devices',
      cause: error,
    });
  }
  return await whileMounted(mountPoint, context, work);
}

async function whileMounted<T>(
  mountPoint: string,
  context: Context,
  work: (root: string, settle: Settle) => Promise<T>,
): Promise<T> {
  try {
    await refuseLinks(mountPoint);
    return await work(mountPoint, async () => await settle(mountPoint, context));
  } finally {
    await unmount(mountPoint, context);
  }
}

async function isExfat(path: string, extent: Extent): Promise<boolean> {
  const handle = await open(path, 'r');
  try {
    return (await exfatState(diskBytes(handle), extent)) !== undefined;
  } finally {
    await handle.close();
  }
}

/** What a power failure left: exFAT has no journal. @throws ReliveError `corrupt` */
async function repairExfat(path: string, device: string, context: Context): Promise<void> {
  const wrong = await checkExfat(device, true, context);
  if (wrong.length === 0) return;
  throw new ReliveError('corrupt', `the store of ${path} is damaged:\n${wrong.slice(0, 5).join('\n')}`, {
    hint: 'relive medium create makes the medium anew',
  });
}

/**
 * Brings what the journal of a mounted ext4 holds to its place, too: syncfs(2) commits and then writes the blocks of the
 * device (Linux, fs/sync.c, sync_filesystem), fsync(2) leaves them to the journal. They are durable before the next commit.
 */
async function settle(mountPoint: string, { signal }: Context): Promise<void> {
  await run('sync', ['--file-system', mountPoint], { signal });
}

/** Reads an ext4 store out into `tree`, without mounting it: for anybody who may read the disk file. */
export async function readOutStore(
  path: string,
  { offset }: Extent,
  tree: string,
  context: Context,
): Promise<void> {
  await rm(tree, { recursive: true, force: true });
  await makeDirectories(tree);
  const { stderr } = await run('debugfs', ['-R', 'rdump / .', `${path}?offset=${offset}`], {
    signal: context.signal,
    cwd: tree,
  });
  // Its status says nothing. It cannot give files to root when it is not, which does not matter here.
  const wrong = stderr
    .split('\n')
    .filter((line) => line !== '' && !/^debugfs \d|while changing ownership/.test(line));
  if (wrong.length > 0) {
    throw new ReliveError(
      'corrupt',
      `the store of ${path} cannot be read:\n${wrong.slice(0, 10).join('\n')}`,
      {
        hint: 'relive medium create makes the medium anew; as root, relive medium sync may replay its journal',
      },
    );
  }
  // mke2fs makes its own.
  await rm(join(tree, 'lost+found'), { recursive: true, force: true });
  await refuseLinks(tree);
}

/** Gives all of an ext4 file system in a disk file to root: mke2fs -d keeps the owner that the files have here. */
export async function giveToRoot(
  path: string,
  { offset }: Extent,
  tree: string,
  context: Context,
): Promise<void> {
  const names = await readdir(tree, { recursive: true });
  const commands = names
    // What debugfs cannot be told is no file of ours.
    .filter((name) => /^[\w./+-]+$/.test(name))
    .flatMap((name) => [`set_inode_field "/${name}" uid 0`, `set_inode_field "/${name}" gid 0`]);
  const { stderr } = await run('debugfs', ['-w', `${path}?offset=${offset}`], {
    signal: context.signal,
    input: `${commands.join('\n')}\n`,
  });
  const wrong = stderr.split('\n').filter((line) => line !== '' && !/^debugfs \d/.test(line));
  if (wrong.length > 0) {
    throw new ReliveError(
      'tool-failed',
      `debugfs cannot change owners in ${path}:\n${wrong.slice(0, 10).join('\n')}`,
    );
  }
}

/** The directories of a store must be directories: nothing may lead what is written elsewhere. */
async function refuseLinks(root: string): Promise<void> {
  const images = join(root, 'images');
  const below = (await isDirectory(images)) ? (await readdir(images)).map((name) => join(images, name)) : [];
  for (const path of [join(root, 'live'), join(root, '.tmp'), ...below]) await isDirectory(path);
}

/** Whether it is a directory; false where it is absent. @throws ReliveError `unsafe-path` for a symbolic link */
async function isDirectory(path: string): Promise<boolean> {
  try {
    const stats = await lstat(path);
    if (stats.isSymbolicLink()) {
      throw new ReliveError('unsafe-path', `${path} on the medium is a symbolic link`, {
        hint: 'no store has any: remove it, or make the medium anew',
      });
    }
    return stats.isDirectory();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
