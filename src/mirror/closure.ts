import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Lock, parseLock } from '../site/lock.ts';
import { visibleNames } from './list.ts';
import type { PoolFile } from './wanted.ts';

/** The locks of a site: locks/NAME.ARCH.json. @throws ReliveError `configuration` for a file that is no lock */
async function readLocks(siteDirectory: string): Promise<Lock[]> {
  const directory = join(siteDirectory, 'locks');
  const names = (await visibleNames(directory)).filter((name) => name.endsWith('.json'));
  const files = names.map((name) => join(directory, name));
  return await Promise.all(files.map(async (file) => parseLock(await readFile(file, 'utf8'), file)));
}

/**
 * What the locks of a site name of a repository's pool: with `select: closure` a mirror holds this, and what builds
 * fetched besides; no prune takes it away.
 * @returns each path once
 * @throws ReliveError `configuration`
 */
export async function lockedFiles(siteDirectory: string, repository: string): Promise<PoolFile[]> {
  const packages = (await readLocks(siteDirectory)).flatMap((lock) => lock.packages);
  const files = new Map<string, PoolFile>();
  for (const { repository: from, path, size, sha256 } of packages) {
    if (from === repository) files.set(path, { path, size, sha256 });
  }
  return [...files.values()];
}
