import { lstat, readlink, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';

/**
 * The path with its directories' links resolved inside the root, as the running system would see it: `lib/x` becomes
 * `usr/lib/x` where /lib is a link. `..` and absolute targets stay inside, since they are taken from the root.
 */
export async function throughLinks(root: string, path: string, depth = 0): Promise<string> {
  if (depth > 40)
    throw new ReliveError('configuration', `/${path}: too many levels of symbolic links in the system`);
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  let done = '';
  for (const [index, part] of parts.entries()) {
    if (part === '..') {
      done = done.split('/').slice(0, -1).join('/');
      continue;
    }
    const here = done === '' ? part : `${done}/${part}`;
    if (index < parts.length - 1) {
      const target = await readlink(join(root, here)).catch((error: unknown) => {
        if (systemCode(error) === 'EINVAL' || systemCode(error) === 'ENOENT') return undefined;
        throw error;
      });
      if (target !== undefined) {
        const base = target.startsWith('/') ? '' : done;
        return await throughLinks(root, [base, target, ...parts.slice(index + 1)].join('/'), depth + 1);
      }
    }
    done = here;
  }
  return done;
}

/**
 * Where `path` of the system at `root` is on this host, all links resolved inside it, that of the last part too: for
 * work from outside, which a link to /tmp would lead to the host's.
 */
export async function placeInside(root: string, path: string): Promise<string> {
  return join(root, dirname(await throughLinks(root, `${path}/entry`)));
}

/** Writes a file of the system at `root`; through a link where that leads to a file of the system, else in its place. */
export async function writeInside(root: string, path: string, content: string): Promise<void> {
  const behind = await placeInside(root, path);
  if (await isFile(behind)) {
    await writeFile(behind, content);
    return;
  }
  const target = join(root, await throughLinks(root, path));
  await rm(target, { force: true });
  await writeFile(target, content);
}

async function isFile(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isFile() === true;
}
