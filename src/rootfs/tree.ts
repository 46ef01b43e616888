import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { unescapeOctal } from '../core/octal.ts';
import { isAbsent } from '../host/files.ts';
import { run } from '../host/process.ts';
import { callWithPaths } from './path-arguments.ts';

/** After so many entries others have their turn: signals, progress. */
const pauseAfter = 512;
const buffer = Buffer.allocUnsafe(1024 * 1024);

/** The digest of the content of one file, read synchronously: for thousands of small files the fastest way. */
function digestContent(path: Buffer): string {
  const hash = createHash('sha256');
  const descriptor = openSync(path, 'r');
  try {
    for (;;) {
      const read = readSync(descriptor, buffer, 0, buffer.length, null);
      if (read === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, read));
    }
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Runs getfattr(1).
 * @returns for each path as it names them (its bytes as latin1) its lines `name=0xvalue`; those of overlayfs itself are not part
 *   of a tree
 */
async function getAttributes(
  how: readonly string[],
  places: readonly Buffer[],
  context: Context,
  where: { readonly cwd?: string } = {},
): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  const options = ['--no-dereference', '-m', '-', '-d', '-e', 'hex', ...how];
  const { program, args, ...input } = callWithPaths('getfattr', options, places);
  let current: string[] = [];
  const complaints: string[] = [];
  await run(program, args, {
    ...context,
    ...where,
    ...input,
    mayOutlive: true,
    // xargs has 123 where getfattr has 1.
    accept: [0, 1, 123],
    encoding: 'latin1',
    onLine: (line, stream) => {
      if (stream === 'stderr') {
        // A SquashFS file in which nothing has an attribute says so of every entry.
        if (!line.endsWith(': Operation not supported')) complaints.push(line);
      } else if (line.startsWith('# file: ')) {
        current = [];
        found.set(unescapeOctal(line.slice('# file: '.length)), current);
      } else if (line !== '' && !line.startsWith('trusted.overlay.')) current.push(line);
    },
  });
  if (complaints.length > 0) {
    throw new ReliveError('tool-failed', `getfattr could not read all of a tree:\n${complaints.join('\n')}`);
  }
  return found;
}

/** One entry of a tree. Names and targets are bytes, not text: as latin1 each is kept as it is. */
export interface TreeEntry {
  /** Relative to the root, which is ''. */
  readonly path: string;
  /** The type alone, as in st_mode: inode(7). */
  readonly type: number;
  /** The permissions alone. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Extended attributes, lines `name=0xvalue`, sorted. */
  readonly attributes: string;
  /** In bytes, of files. */
  readonly size: number;
  /** Of the last change of the content, in whole seconds since 1970. */
  readonly time: number;
  /**
   * What is in it: the SHA-256 of a file, or that it is the same file as an earlier path; the target of a symbolic link;
   * the number of a device; nothing for a directory.
   */
  readonly content: readonly (string | number)[];
}

/** The path of an entry of a tree, for calls of the file system. */
export function bytesOfPath(root: string, path: string): Buffer {
  const top = Buffer.from(root).toString('latin1');
  return Buffer.from(path === '' ? top : `${top.replace(/\/$/, '')}/${path}`, 'latin1');
}

/** Reads entries one by one, in the order of the tree: of a file with several names the later ones say so. */
function entryReader(
  root: string,
  attributesOf: (path: string) => readonly string[] | undefined,
): (path: string, status: Stats) => TreeEntry {
  /** By device and inode, the first path of each file that has several. */
  const linked = new Map<string, string>();
  const contentOf = (path: string, bytes: Buffer, status: Stats): (string | number)[] => {
    if (status.isDirectory()) return [];
    if (status.isSymbolicLink()) return [readlinkSync(bytes, 'latin1')];
    if (!status.isFile()) return [status.rdev];
    // The count may be of names that are not in the tree: a layer keeps those which the merged view no longer shows.
    if (status.nlink > 1) {
      const identity = `${status.dev}:${status.ino}`;
      const first = linked.get(identity);
      if (first !== undefined) return ['same as', first];
      linked.set(identity, path);
    }
    return [digestContent(bytes)];
  };
  return (path, status) => ({
    path,
    type: status.mode & 0o170000,
    mode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
    attributes: (attributesOf(path) ?? []).toSorted().join('\n'),
    size: status.isFile() ? status.size : 0,
    time: Math.floor(status.mtimeMs / 1000),
    content: contentOf(path, bytesOfPath(root, path), status),
  });
}

/** Calls `found` for every entry of the tree at `root`, directories before what is in them, names in byte order. */
export async function readTree(
  root: string,
  found: (entry: TreeEntry) => void,
  context: Context,
): Promise<void> {
  const attributes = await getAttributes(['--recursive', '--physical'], [Buffer.from('.')], context, {
    cwd: root,
  });
  const read = entryReader(root, (path) => attributes.get(path === '' ? '.' : path));
  let count = 0;
  const visit = async (path: string): Promise<void> => {
    if (++count % pauseAfter === 0) {
      await setImmediate();
      context.signal.throwIfAborted();
    }
    const bytes = bytesOfPath(root, path);
    const status = lstatSync(bytes);
    found(read(path, status));
    if (!status.isDirectory()) return;
    for (const name of readdirSync(bytes, 'latin1').toSorted())
      await visit(path === '' ? name : `${path}/${name}`);
  };
  await visit('');
}

/** The entries of the tree at `root`, by path, in the order of `readTree`. */
export async function readEntries(root: string, context: Context): Promise<Map<string, TreeEntry>> {
  const entries = new Map<string, TreeEntry>();
  await readTree(root, (entry) => entries.set(entry.path, entry), context);
  return entries;
}

/** The status of an entry, links not followed; undefined where there is none. */
export function entryStatus(root: string, path: string): Stats | undefined {
  try {
    return lstatSync(bytesOfPath(root, path));
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Some paths of a tree, in its order. */
export interface TreePart {
  readonly root: string;
  readonly paths: Iterable<string>;
}

/** Those entries of trees that have one of the paths of each. Which names are one file is told of these alone. */
export async function readParts(
  parts: readonly TreePart[],
  context: Context,
): Promise<readonly Map<string, TreeEntry>[]> {
  const there = parts.map(({ root, paths }) =>
    [...paths].flatMap((path) => {
      const status = entryStatus(root, path);
      return status === undefined ? [] : [{ path, status, place: bytesOfPath(root, path) }];
    }),
  );
  const places = there.flat().map(({ place }) => place);
  const found = places.length === 0 ? undefined : await getAttributes(['--absolute-names'], places, context);
  const trees: Map<string, TreeEntry>[] = [];
  for (const [index, { root }] of parts.entries()) {
    const read = entryReader(root, (path) => found?.get(bytesOfPath(root, path).toString('latin1')));
    const entries = new Map<string, TreeEntry>();
    for (const { path, status } of there[index] ?? []) {
      if (entries.size % pauseAfter === 0) {
        await setImmediate();
        context.signal.throwIfAborted();
      }
      entries.set(path, read(path, status));
    }
    trees.push(entries);
  }
  return trees;
}

/**
 * Those entries of the tree at `root` that have one of these paths, as `readParts` reads them.
 * @param paths in the order of a tree
 */
export async function readSome(
  root: string,
  paths: Iterable<string>,
  context: Context,
): Promise<Map<string, TreeEntry>> {
  const [entries] = await readParts([{ root, paths }], context);
  return entries ?? new Map<string, TreeEntry>();
}

export interface TreeDigest {
  readonly digest: string;
  /** What the content of its files takes, in blocks of a page. */
  readonly bytes: number;
}

const page = 4096;

/** Adds up the digest of a tree, entry by entry in the order of `readTree`. */
class TreeHash {
  readonly #hash = createHash('sha256');
  #bytes = 0;

  add({ path, type, mode, uid, gid, attributes, size, content }: TreeEntry): void {
    // Of a file with several names the later ones say "same as".
    if (content.length === 1) this.#bytes += Math.ceil(size / page) * page;
    // Lengths first: no content can be mistaken for a field's end.
    for (const field of [path, type, mode, uid, gid, attributes, ...content])
      this.#hash.update(`${Buffer.byteLength(String(field), 'latin1')}:${field},`, 'latin1');
    this.#hash.update('\n');
  }

  result(): TreeDigest {
    return { digest: this.#hash.digest('hex'), bytes: this.#bytes };
  }
}

/** The digest of a tree that has been read (`readEntries`): what `digestTree` gives for it. */
export function digestEntries(entries: ReadonlyMap<string, TreeEntry>): TreeDigest {
  const hash = new TreeHash();
  for (const entry of entries.values()) hash.add(entry);
  return hash.result();
}

/**
 * The SHA-256 of a whole tree: path, type, mode, owner, content, link target, device number, extended attributes and
 * which names are one file, for every entry in order; not times. Two trees with one digest are the same system.
 */
export async function digestTree(root: string, context: Context): Promise<TreeDigest> {
  const hash = new TreeHash();
  await readTree(root, (entry) => hash.add(entry), context);
  return hash.result();
}
