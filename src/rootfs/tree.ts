import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import { unquoteName } from './acl.ts';

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
 * The extended attributes below `root`: for each path (relative, its bytes as latin1) its lines `name=0xvalue`. Those of
 * overlayfs itself are not part of a tree.
 */
async function readAttributes(root: string, context: Context): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  let current: string[] = [];
  const complaints: string[] = [];
  await run(
    'getfattr',
    ['--recursive', '--physical', '--no-dereference', '-m', '-', '-d', '-e', 'hex', '.'],
    {
      ...context,
      cwd: root,
      accept: [0, 1],
      encoding: 'latin1',
      onLine: (line, stream) => {
        if (stream === 'stderr') {
          // A SquashFS file in which nothing has an attribute says so of every entry.
          if (!line.endsWith(': Operation not supported')) complaints.push(line);
        } else if (line.startsWith('# file: ')) {
          current = [];
          found.set(unquoteName(line.slice('# file: '.length)), current);
        } else if (line !== '' && !line.startsWith('trusted.overlay.')) current.push(line);
      },
    },
  );
  if (complaints.length > 0) {
    throw new ReliveError('tool-failed', `getfattr could not read all of ${root}:\n${complaints.join('\n')}`);
  }
  return found;
}

/**
 * The SHA-256 of a whole tree: path, type, mode, owner, content, link target, device number, extended attributes and
 * which names are one file, for every entry in order; not times. Two trees with one digest are the same system.
 */
export async function digestTree(root: string, context: Context): Promise<string> {
  const attributes = await readAttributes(root, context);
  const hash = createHash('sha256');
  /** By device and inode, the first path of each file that has several. */
  const linked = new Map<string, string>();
  let count = 0;
  const record = (...fields: readonly (string | number)[]): void => {
    // Lengths first: no content can be mistaken for a field's end.
    for (const field of fields)
      hash.update(`${Buffer.byteLength(String(field), 'latin1')}:${field},`, 'latin1');
    hash.update('\n');
  };
  // Names are bytes, not text: as latin1 every name is kept as it is.
  const visit = async (path: string): Promise<void> => {
    if (++count % pauseAfter === 0) {
      await setImmediate();
      context.signal.throwIfAborted();
    }
    const bytes = Buffer.from(
      path === '' ? root : `${Buffer.from(root).toString('latin1')}/${path}`,
      'latin1',
    );
    const status = lstatSync(bytes);
    const type = status.mode & 0o170000;
    const extended = (attributes.get(path === '' ? '.' : path) ?? []).toSorted().join('\n');
    const common = [path, type, status.mode & 0o7777, status.uid, status.gid, extended] as const;
    if (status.isDirectory()) {
      record(...common);
      for (const name of readdirSync(bytes, 'latin1').toSorted())
        await visit(path === '' ? name : `${path}/${name}`);
    } else if (status.isSymbolicLink()) record(...common, readlinkSync(bytes, 'latin1'));
    else if (status.isFile()) {
      const identity = `${status.dev}:${status.ino}`;
      // The count may be of names that are not in the tree: a layer keeps those which the merged view no longer shows.
      const first = status.nlink > 1 ? linked.get(identity) : undefined;
      if (first !== undefined) record(...common, 'same as', first);
      else {
        if (status.nlink > 1) linked.set(identity, path);
        record(...common, digestContent(bytes));
      }
    } else record(...common, status.rdev);
  };
  await visit('');
  return hash.digest('hex');
}
