import { mkdir, readFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { isReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { exists, writeFileAtomic } from '../host/files.ts';
import { run } from '../host/process.ts';
import type { Lock } from '../site/lock.ts';
import type { Site } from '../site/site.ts';
import { packageFile } from './lock.ts';

/** What a package brings that a profile may collide with. */
const contentsSchema = z.strictObject({
  /** Files and links, from the root, without a slash in front; below /usr where /usr is merged. */
  files: z.array(z.string()),
  users: z.array(z.strictObject({ name: z.string(), uid: z.number().optional() })),
  groups: z.array(z.strictObject({ name: z.string(), gid: z.number().optional() })),
});
const cacheSchema = z.record(z.string(), contentsSchema);

export type PackageContents = z.infer<typeof contentsSchema>;

/** Since Debian 12 these are links into /usr in every system; packages may still name them. */
export function throughMergedUsr(path: string): string {
  return path.replace(/^(bin|sbin|lib|lib32|lib64|libx32)\//, 'usr/$1/');
}

/**
 * What is in the packages of a lock, by name. What was read once is kept in the site's cache.
 * @returns the contents, and the packages that the mirror does not have
 */
export async function packageContents(
  site: Site,
  lock: Lock,
  context: Context,
): Promise<{ readonly contents: ReadonlyMap<string, PackageContents>; readonly missing: readonly string[] }> {
  const cache = join(site.cache, 'contents', `${lock.profile}.${lock.architecture}.json`);
  const known = await readCache(cache);
  const contents = new Map<string, PackageContents>();
  const kept: [string, PackageContents][] = [];
  const missing: string[] = [];
  let read = 0;
  const queue = lock.packages.values();
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (const each of queue) {
        const file = packageFile(site, each);
        let found = known[each.sha256];
        if (found === undefined && (await exists(file))) {
          found = await readContents(file, context);
          read += 1;
        }
        if (found === undefined) missing.push(each.name);
        else {
          contents.set(each.name, found);
          kept.push([each.sha256, found]);
        }
      }
    }),
  );
  if (read > 0) await writeCache(cache, Object.fromEntries(kept));
  const sorted = [...contents].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { contents: new Map(sorted), missing: missing.toSorted() };
}

/** A cache that cannot be read is none. */
async function readCache(file: string): Promise<z.infer<typeof cacheSchema>> {
  try {
    return cacheSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return {};
  }
}

/** Whoever may only read the site does without. */
async function writeCache(file: string, content: z.infer<typeof cacheSchema>): Promise<void> {
  try {
    await writeFileAtomic(file, JSON.stringify(content));
  } catch (error) {
    if (
      !['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error) ?? '') &&
      !isReliveError(error, 'disk-full')
    ) {
      throw error;
    }
  }
}

async function readContents(file: string, context: Context): Promise<PackageContents> {
  const { stdout } = await run('dpkg-deb', ['--contents', file], context);
  const files: string[] = [];
  for (const line of stdout.split('\n')) {
    // Mode, owner, size, day, time, then the name; links name their target behind it (tar(1), --verbose).
    const [, type, name] = /^(.)\S+ +\S+ +\S+ +\S+ +\S+ \.\/(.*)$/.exec(line) ?? [];
    if (type === undefined || name === undefined || type === 'd') continue;
    files.push(throughMergedUsr(name.replace(/ (?:->|link to) .*$/, '')));
  }
  return { files, ...(await readAccounts(file, files, context)) };
}

const masters = {
  users: 'usr/share/base-passwd/passwd.master',
  groups: 'usr/share/base-passwd/group.master',
};

/** The users and groups that a package makes, as far as files tell: base-passwd's, and those of sysusers.d(5). */
async function readAccounts(
  file: string,
  files: readonly string[],
  context: Context,
): Promise<Pick<PackageContents, 'users' | 'groups'>> {
  const lists = files.filter((path) => /^usr\/lib\/sysusers\.d\/[^/]+\.conf$/.test(path));
  const users: PackageContents['users'] = [];
  const groups: PackageContents['groups'] = [];
  const isBase = files.includes(masters.users);
  if (lists.length === 0 && !isBase) return { users, groups };
  await withScratchDirectory(tmpdir(), async (directory) => {
    await mkdir(join(directory, 'tree'));
    await run('dpkg-deb', ['--extract', file, join(directory, 'tree')], context);
    const text = async (path: string): Promise<string> =>
      await readFile(join(directory, 'tree', path), 'utf8');
    if (isBase) {
      for (const [name = '', , id] of fieldsOf(await text(masters.users)))
        users.push({ name, uid: Number(id) });
      for (const [name = '', , id] of fieldsOf(await text(masters.groups)))
        groups.push({ name, gid: Number(id) });
    }
    for (const path of lists) {
      for (const [, type, name = '', id] of (await text(path)).matchAll(/^([ug])!?\s+(\S+)(?:\s+(\d+))?/gm)) {
        const number = id === undefined ? undefined : Number(id);
        groups.push({ name, ...(number === undefined ? {} : { gid: number }) });
        if (type === 'u') users.push({ name, ...(number === undefined ? {} : { uid: number }) });
      }
    }
  });
  return { users, groups };
}

/** The fields of passwd(5) and group(5). */
function fieldsOf(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line.includes(':'))
    .map((line) => line.split(':'));
}
