import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { parseStanzas } from '../debian/control.ts';

/*
 * Runs in a worker thread: reads files and says whether they are what they should be. All reading is synchronous, with one
 * large buffer: with a thread for each core nothing is faster.
 */

/** One file to look at. */
export interface Job {
  readonly id: number;
  readonly path: string;
  /** The real path of the directory that it must not lead out of. */
  readonly root: string;
  /** Bytes; -1 where nobody says. */
  readonly size: number;
  readonly algorithm: 'sha256' | 'sha512';
  readonly digest: string;
  /** The fields that the package's control data must have (--deep), by name. */
  readonly control?: Readonly<Record<string, string>> | undefined;
}

/** What a file is. `appearance` is there for good ones: size, inode, times of modification and change. */
export interface Answer {
  readonly id: number;
  readonly kind: 'ok' | 'missing' | 'truncated' | 'corrupt' | 'unsafe-path' | 'inconsistent';
  readonly detail: string;
  readonly bytes: number;
  readonly appearance?: readonly [bigint, bigint, bigint, bigint];
}

/** Small enough to stay in the cache of a core between reading and hashing. */
const buffer = Buffer.allocUnsafe(256 * 1024);
/** The directory that was looked at last, and the root that it is in: files come directory by directory. */
let checked = { directory: '', root: '', inside: false };

function isInside(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith('/') ? root : `${root}/`);
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'error';
}

function directoryInside(directory: string, root: string): boolean {
  if (checked.directory !== directory || checked.root !== root) {
    checked = { directory, root, inside: isInside(realpathSync(directory), root) };
  }
  return checked.inside;
}

function look({ id, path, root, size, algorithm, digest, control }: Job): Answer {
  const say = (kind: Answer['kind'], detail: string, bytes = 0): Answer => ({ id, kind, detail, bytes });
  let descriptor: number;
  try {
    if (!directoryInside(dirname(path), root))
      return say('unsafe-path', 'its directory leads out of the tree');
    const info = lstatSync(path);
    if (info.isSymbolicLink()) {
      const target = realpathSync(path);
      if (!isInside(target, root))
        return say('unsafe-path', `a symbolic link that leads out of the tree, to ${target}`);
      descriptor = openSync(target, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } else {
      descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    }
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return say('missing', 'it is not there');
    return say('corrupt', `it cannot be opened (${code})`);
  }
  try {
    const info = fstatSync(descriptor, { bigint: true });
    if (!info.isFile()) return say('unsafe-path', 'it is no regular file');
    const there = Number(info.size);
    if (size >= 0 && there < size) return say('truncated', `it has ${there} of ${size} bytes`);
    if (size >= 0 && there > size) return say('corrupt', `it has ${there} bytes where ${size} are listed`);
    const hash = createHash(algorithm);
    let bytes = 0;
    for (;;) {
      const read = readSync(descriptor, buffer, 0, buffer.length, null);
      if (read === 0) break;
      bytes += read;
      hash.update(read === buffer.length ? buffer : buffer.subarray(0, read));
    }
    const found = hash.digest('hex');
    if (found !== digest) {
      return say('corrupt', `its ${algorithm.toUpperCase()} is ${found} where ${digest} is listed`, bytes);
    }
    const differs = control === undefined ? undefined : compareControl(path, control);
    if (differs !== undefined) return say('inconsistent', differs, bytes);
    return {
      id,
      kind: 'ok',
      detail: '',
      bytes,
      appearance: [info.size, info.ino, info.mtimeNs, info.ctimeNs],
    };
  } catch (error) {
    return say('corrupt', `it cannot be read (${codeOf(error)})`);
  } finally {
    closeSync(descriptor);
  }
}

function plain(text: string | undefined): string {
  return (text ?? '').replaceAll(/\s+/g, ' ').trim();
}

/** Where the control data of a package says something else than the index does, or undefined. */
function compareControl(path: string, control: Readonly<Record<string, string>>): string | undefined {
  const { status, stdout, stderr } = spawnSync('dpkg-deb', ['--field', '--', path], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
  });
  if (status !== 0) return `it cannot be opened as a package: ${stderr.trim()}`;
  let stanza: ReadonlyMap<string, string> | undefined;
  try {
    [stanza] = parseStanzas(stdout, path);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  for (const [name, listed] of Object.entries(control)) {
    const inside = plain(stanza?.get(name.toLowerCase()));
    if (inside === plain(listed)) continue;
    // An index names the source only where it is called otherwise than the package; so does the package itself.
    return `its ${name} is ${JSON.stringify(inside)} where the index has ${JSON.stringify(plain(listed))}`;
  }
  return undefined;
}

parentPort?.on('message', (jobs: readonly Job[]) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread, no window
  parentPort?.postMessage(jobs.map((job) => look(job)));
});
