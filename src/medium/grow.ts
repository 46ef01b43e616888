import { open, rename, stat, truncate, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { explainDiskFull, syncDirectory } from '../host/files.ts';
import { run } from '../host/process.ts';
import type { Site } from '../site/site.ts';
import { type DiskBytes, diskBytes } from './bytes.ts';
import { makeStage, showPartitions } from './create.ts';
import { settled } from './fill.ts';
import { replaceTable, withProtectiveTable } from './gpt.ts';
import { type Extent, grownTable, type Layout, layoutOf } from './layout.ts';
import { storeState, withMountedStore } from './store-files.ts';
import { findTarget, isRoot, sizeOf, type Target, withMedium, withMediumScratch } from './target.ts';

export interface GrownMedium {
  readonly target: string;
  readonly bytes: number;
  /** The store in bytes, before and now. */
  readonly storeBefore: number;
  readonly store: number;
}

/** @throws ReliveError `usage` */
function wantedBytes(target: Target, asked: number | undefined): number {
  if (target.device !== undefined) {
    if (asked === undefined) return target.bytes;
    throw new ReliveError('usage', '--size is for disk files: a medium takes all of a device');
  }
  if (asked === undefined || asked >= target.bytes) return asked ?? target.bytes;
  throw new ReliveError('usage', `${target.path} has ${sizeOf(target.bytes)}: media do not shrink`, {
    hint: 'relive medium create makes a smaller one',
  });
}

/**
 * Makes the partition of the store reach to the end of the disk. Whenever the power fails, the first copy of the table is
 * the old or the new one.
 */
async function growPartition(disk: DiskBytes, layout: Layout, bytes: number): Promise<Layout> {
  const table = grownTable(layout.table, bytes);
  const grown = layoutOf(table);
  if (grown === undefined) throw new ReliveError('bug', 'a medium that was grown is none');
  await replaceTable(disk, table);
  await disk.write(0, withProtectiveTable(await disk.read(0, 512), table.sectors));
  await disk.sync();
  return grown;
}

/** On a device the kernel grows the mounted file system, by its journal, so that power may fail. */
async function growMounted(site: Site, path: string, layout: Layout, context: Context): Promise<void> {
  const mountPoint = join(site.cache, 'medium');
  const { signal } = context;
  await withMountedStore({ path, layout, mode: 'write', mountPoint }, context, async (root) => {
    const source = ['--noheadings', '--output', 'SOURCE', '--mountpoint', root];
    const { stdout } = await run('findmnt', source, { signal });
    try {
      await run('resize2fs', [stdout.trim()], { signal });
    } catch (error) {
      if (!isReliveError(error, 'tool-failed') || !error.message.includes('Permission denied')) throw error;
      throw new ReliveError('host-unable', `the kernel does not let relive grow the store of ${path}`, {
        hint: 'growing a mounted file system wants CAP_SYS_RESOURCE, which containers often lack; the medium boots as it is',
        cause: error,
      });
    }
  });
}

/** Copies a part of a file into another one, which must be empty there: it stays sparse. */
async function copyPart(
  from: { readonly path: string } & Extent,
  to: { readonly path: string; readonly offset: number },
  { signal }: Context,
): Promise<void> {
  const read = [`if=${from.path}`, `skip=${from.offset}`, `count=${from.bytes}`];
  const write = [`of=${to.path}`, `seek=${to.offset}`];
  const flags = ['iflag=skip_bytes,count_bytes', 'oflag=seek_bytes', 'conv=sparse,notrunc', 'status=none'];
  await run('dd', [...read, ...write, ...flags, 'bs=1M'], { signal });
}

/** Whether a store's file system is as large as its partition. */
async function fills(disk: DiskBytes, extent: Extent): Promise<boolean> {
  return ((await storeState(disk, extent))?.bytes ?? 0) >= extent.bytes;
}

/** @throws ReliveError `not-root` */
async function replay(site: Site, path: string, layout: Layout, context: Context): Promise<void> {
  if (!isRoot()) {
    throw new ReliveError(
      'not-root',
      `the store of ${path} was not unmounted: its journal has to be replayed, which needs root`,
      { hint: 'sudo relive medium grow ...' },
    );
  }
  const mountPoint = join(site.cache, 'medium');
  await withMountedStore({ path, layout, mode: 'write', mountPoint }, context, settled);
}

/**
 * A disk file is grown in a copy, which then replaces it: resize2fs writes without a journal. The store is taken out for
 * that, since resize2fs cuts off a file behind the file system that it grows.
 */
async function growCopy(
  target: Target,
  layout: Layout,
  bytes: number,
  scratch: string,
  context: Context,
): Promise<void> {
  const { path } = target;
  const { signal } = context;
  const [copy, taken] = [join(scratch, basename(path)), join(scratch, 'store.img')];
  try {
    const { mode, uid, gid } = await stat(path);
    const handle = await open(copy, 'wx+', 0o600);
    try {
      if (isRoot()) await handle.chown(uid, gid);
      await handle.chmod(mode & 0o7777);
      await handle.truncate(bytes);
      await copyPart({ path, offset: 0, bytes: layout.store.offset }, { path: copy, offset: 0 }, context);
      await writeFile(taken, '');
      await truncate(taken, layout.store.bytes);
      await copyPart({ path, ...layout.store }, { path: taken, offset: 0 }, context);
      const { store } = await growPartition(diskBytes(handle), layout, bytes);
      // resize2fs wants it to have been checked; 1: with what that mends by itself.
      await run('e2fsck', ['-f', '-p', taken], { signal, accept: [0, 1] });
      await run('resize2fs', [taken, `${store.bytes / 1024}K`], { signal });
      await copyPart(
        { path: taken, offset: 0, bytes: store.bytes },
        { path: copy, offset: store.offset },
        context,
      );
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(copy, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    throw explainDiskFull(error, scratch);
  }
}

/**
 * Makes a medium as large as its disk: the partition table, the partition of its store, its file system. Interrupted at
 * any point the medium boots, and the next call finishes.
 * @param asked a new size for a disk file, in bytes; undefined: the size that the disk has
 * @throws ReliveError `usage` for a smaller size, `not-found` for what is no medium, `locked`; `not-root` for a store of a
 *   disk file that was not unmounted
 */
export async function growMedium(
  site: Site,
  given: string,
  asked: number | undefined,
  context: Context,
): Promise<GrownMedium> {
  const target = await findTarget(given, false, context);
  const bytes = wantedBytes(target, asked);
  const done = await withMediumScratch(target, context, async (scratch) => {
    return await withMedium(target, 'write', async ({ disk, layout, found }) => {
      const state = await storeState(disk, layout.store);
      if (state === undefined) {
        throw new ReliveError('corrupt', `the store of ${target.path} has no ext4 file system`, {
          hint: 'relive medium create makes the medium anew',
        });
      }
      if (state.type === 'exfat') {
        throw new ReliveError('usage', `the store of ${target.path} is exFAT, which does not grow`, {
          hint: 'relive medium create makes the medium anew on the larger disk',
        });
      }
      const wanted = layoutOf(grownTable(layout.table, bytes))?.store ?? layout.store;
      const grown = { target: target.path, bytes, storeBefore: state.bytes, store: wanted.bytes };
      const tableIsRight =
        found.faults.length === 0 && bytes === target.bytes && wanted.bytes === layout.store.bytes;
      const isGrown = tableIsRight && (await fills(disk, wanted));
      // Where the power failed as the last thing, what is in the journal has yet to be brought to its place.
      if (isGrown && !state.unclean) return grown;
      return await inStage(context, makeStage, async () => {
        if (target.device !== undefined) {
          const now = isGrown ? layout : await growPartition(disk, layout, bytes);
          await growMounted(site, target.path, now, context);
          return grown;
        }
        if (state.unclean) await replay(site, target.path, layout, context);
        if (!isGrown) await growCopy(target, layout, bytes, scratch, context);
        return grown;
      });
    });
  });
  if (target.device !== undefined) await showPartitions(target.path, context);
  return done;
}
