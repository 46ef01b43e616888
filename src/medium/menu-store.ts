import { lstat, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { run } from '../host/process.ts';
import { storePaths } from '../image/store.ts';
import { storeState, withMountedStore } from './store-files.ts';
import { findTarget, requireRootFor, withMedium } from './target.ts';

/** A line of debugfs's `ls -p`: inode, mode (octal), user, group, name, size. */
const entryPattern = /^\/\d+\/(\d{6})\/\d+\/\d+\/([^/]+)\/\d*\/$/;

/**
 * Runs `work` with a copy of what GRUB's menu is made of: the directories of the images, the environment block, the
 * names of ISO files. Nothing is mounted or changed, so whoever may read a disk file can do it; but for a store of exFAT, which only a
 * mount reads.
 * @param given a medium: a device or a disk file
 * @throws ReliveError as `findTarget` and `withMedium`; `corrupt` where the store cannot be read
 */
export async function withMenuStore<T>(
  given: string,
  context: Context,
  work: (store: string) => Promise<T>,
): Promise<T> {
  const target = await findTarget(given, false, context);
  return await withScratchDirectory(tmpdir(), async (store) => {
    const mounted = await withMedium(target, 'read', async ({ path, layout, disk }) => {
      if ((await storeState(disk, layout.store))?.type === 'exfat') {
        requireRootFor(`the store of ${path} is exFAT: reading it`);
        const mountPoint = join(store, 'mounted');
        return [await withMountedStore({ path, layout, mode: 'read', mountPoint }, context, work)] as const;
      }
      const debugfs = async (command: string): Promise<string> =>
        await askDebugfs(command, path, layout.store.offset, store, context);
      /** The modes of what is in a directory, by name. */
      const list = async (directory: string): Promise<Map<string, string>> => {
        const lines = (await debugfs(`ls -p ${directory}`)).split('\n');
        return new Map(
          lines.flatMap((line) => {
            const [, mode, name] = entryPattern.exec(line) ?? [];
            return mode === undefined || name === undefined ? [] : [[name, mode] as const];
          }),
        );
      };
      const top = await list('/');
      const isDirectory = (name: string): boolean => top.get(name)?.startsWith('04') === true;
      if (isDirectory('images')) await debugfs('rdump /images .');
      await withoutLinks(store);
      if (isDirectory('live')) await mkdir(storePaths.layers(store));
      if (top.get('grubenv')?.startsWith('10') === true) await debugfs('dump /grubenv grubenv');
      if (isDirectory('isos')) {
        await mkdir(storePaths.isos(store));
        for (const name of (await list('/isos')).keys())
          if (name !== '.' && name !== '..') await writeFile(join(storePaths.isos(store), name), '');
      }
      return undefined;
    });
    return mounted === undefined ? await work(store) : mounted[0];
  });
}

/** @returns what it prints; its status says nothing, its error output does */
async function askDebugfs(
  command: string,
  path: string,
  offset: number,
  cwd: string,
  context: Context,
): Promise<string> {
  const { stdout, stderr } = await run('debugfs', ['-R', command, `${path}?offset=${offset}`], {
    signal: context.signal,
    cwd,
  });
  const wrong = stderr
    .split('\n')
    .filter((line) => line !== '' && !/^debugfs \d|while changing ownership/.test(line));
  if (wrong.length === 0) return stdout;
  throw new ReliveError('corrupt', `the store of ${path} cannot be read:\n${wrong.slice(0, 10).join('\n')}`, {
    hint: 'relive medium verify tells what is damaged',
  });
}

/** No image has symbolic links; those that somebody put on a medium could lead to files of this host. */
async function withoutLinks(directory: string): Promise<void> {
  for (const name of await readdir(directory, { recursive: true })) {
    const path = join(directory, name);
    const stats = await lstat(path);
    if (!stats.isFile() && !stats.isDirectory()) await rm(path);
  }
}
