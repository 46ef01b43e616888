import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import { digestEntries, readEntries, type TreeDigest, type TreeEntry } from './tree.ts';

/** What a delta consists of. */
export interface Delta {
  /** Entries that are new or otherwise, the directories above them left out. */
  readonly changed: number;
  /** Entries that are gone, each counted once with all below it. */
  readonly deleted: number;
  /** The digest of the tree that was meant, as it was read for this. */
  readonly meant: TreeDigest;
}

export const directoryType = 0o040000;
export const linkType = 0o120000;

/** The directory of a path in a tree. */
export function parentOf(path: string): string {
  const parent = dirname(path);
  return parent === '.' ? '' : parent;
}

/** What decides whether an entry is the same: everything but its time. */
export function identityOf({ type, mode, uid, gid, attributes, size, content }: TreeEntry): string {
  return JSON.stringify([type, mode, uid, gid, attributes, size, content]);
}

/** The path under which a file was met first, for one with several names; else its own. */
function firstName({ path, content }: TreeEntry): string {
  return content.length === 2 ? String(content[1]) : path;
}

/**
 * The entries of `to` that a delta must have: those that differ from `from` in more than their time, and every name of a
 * file one of whose names does.
 */
export function selectChanged(
  from: ReadonlyMap<string, TreeEntry>,
  to: ReadonlyMap<string, TreeEntry>,
): readonly string[] {
  const differs = (entry: TreeEntry): boolean => {
    const old = from.get(entry.path);
    return old === undefined || identityOf(old) !== identityOf(entry);
  };
  // In a stack the names of one file are one only where they are in one layer.
  const broken = new Set([...to.values()].filter(differs).map(firstName));
  return [...to.values()]
    .filter((entry) => differs(entry) || (entry.type !== directoryType && broken.has(firstName(entry))))
    .map(({ path }) => path);
}

/** The entries of `from` that `to` lacks and whose directories it still has. */
function selectDeleted(
  from: ReadonlyMap<string, TreeEntry>,
  to: ReadonlyMap<string, TreeEntry>,
): readonly string[] {
  return [...from.keys()].filter((path) => !to.has(path) && to.get(parentOf(path))?.type === directoryType);
}

/** Names for the programs that copy: bytes, each ended by a zero byte, none of which looks like an option. */
function nameList(paths: Iterable<string>): Buffer {
  return Buffer.from([...paths].map((path) => `./${path}\0`).join(''), 'latin1');
}

/**
 * Makes a directory which, as the upper one of an overlay over the tree at `from`, shows the tree at `to`: what is new or
 * otherwise, whole; what is gone as a character device 0:0, which overlayfs takes for a deletion (Linux
 * Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"). Nothing is opaque: each deletion stands
 * for itself, and a directory that takes the place of something else hides it all the same. Times alone are no difference.
 * @param directory is made; needs root
 * @param scratch a directory for what is needed meanwhile
 */
export async function makeDelta(
  trees: { readonly from: string; readonly to: string },
  directory: string,
  scratch: string,
  context: Context,
): Promise<Delta> {
  const from = await readEntries(trees.from, context);
  const to = await readEntries(trees.to, context);
  const changed = selectChanged(from, to);
  const deleted = selectDeleted(from, to);
  const paths = new Set(['', ...changed]);
  for (const path of [...changed, ...deleted]) {
    for (let at = parentOf(path); !paths.has(at); at = parentOf(at)) paths.add(at);
  }
  // In the order of the tree, directories before what is in them.
  const wanted = [...to.keys()].filter((path) => paths.has(path));
  await mkdir(directory);
  const [list, archive] = [join(scratch, 'delta.list'), join(scratch, 'delta.tar')];
  try {
    const kept = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--file', archive];
    await writeFile(list, nameList(wanted));
    await run(
      'tar',
      ['--create', ...kept, '--directory', trees.to, '--no-recursion', '--null', '--files-from', list],
      context,
    );
    await run('tar', ['--extract', ...kept, '--directory', directory, '--same-permissions'], context);
    await writeFile(list, nameList(deleted));
    const whiteout = ['--replace={}', 'mknod', '{}', 'c', '0', '0'];
    await run('xargs', ['--null', '--no-run-if-empty', '--arg-file', list, ...whiteout], {
      ...context,
      cwd: directory,
    });
  } finally {
    await rm(list, { force: true });
    await rm(archive, { force: true });
  }
  return { changed: changed.length, deleted: deleted.length, meant: digestEntries(to) };
}
