import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { messageOf, ReliveError, systemCode } from '../core/error.ts';

const readBuffer = 1024 * 1024;

/**
 * A name in the same directory which nobody else uses, for making a file complete before it appears. Leftovers of
 * a run that was cut off begin with `.tmp-` and may be removed by whoever holds the directory's lock.
 */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `.tmp-${basename(path)}-${randomBytes(4).toString('hex')}`);
}

async function sync(path: string, flags: number): Promise<void> {
  const handle = await open(path, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the content of a file durable (fsync(2)). */
export async function syncFile(path: string): Promise<void> {
  await sync(path, constants.O_RDONLY);
}

/** Makes the entries of a directory durable (fsync(2) on the directory). */
export async function syncDirectory(path: string): Promise<void> {
  await sync(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

/** What the kernel says where somebody may not do something, or a path cannot be what it is used as. */
const refusals: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  ENOTDIR: 'a part of the path is no directory',
};

/**
 * The error for the user where a file operation was refused for a reason that lies in the path or in who runs relive;
 * undefined for any other error.
 */
export function explainRefusal(error: unknown): ReliveError | undefined {
  const reason = refusals[systemCode(error) ?? ''];
  if (reason === undefined || !(error instanceof Error) || !('path' in error)) return undefined;
  const operation = 'syscall' in error ? ` (${String(error.syscall)})` : '';
  return new ReliveError('usage', `${String(error.path)}: ${reason}${operation}`, {
    hint: 'ls -ld shows whose it is and what it is; name another, or run relive as a user who may',
    cause: error,
  });
}

/**
 * Makes a directory and what is missing above it. Not by the option `recursive` of Node.js, which tries for ever where the
 * kernel says ENOENT of a directory whose parent is there, as in /proc.
 * @throws ReliveError `usage` where no directory can be made
 */
export async function makeDirectories(path: string, mode?: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' && !(await exists(dirname(path)))) {
      await makeDirectories(dirname(path), mode);
      await makeDirectories(path, mode);
    } else if ((await ifThere(stat(path)))?.isDirectory() !== true) {
      if (code !== 'EEXIST' && code !== 'ENOENT') throw error;
      throw new ReliveError('usage', `cannot make the directory ${path}: ${messageOf(error)}`, {
        hint: 'name one that is there, or whose parent is',
        cause: error,
      });
    }
  }
}

/**
 * Writes a file so that it appears complete or not at all: temporary name, fsync, rename, fsync of the directory.
 * @throws ReliveError `disk-full`
 */
export async function writeFileAtomic(
  path: string,
  content: string | Uint8Array,
  options: { readonly mode?: number } = {},
): Promise<void> {
  const temporary = temporaryBeside(path);
  try {
    await makeDirectories(dirname(path));
    const handle = await open(temporary, 'wx', options.mode ?? 0o644);
    try {
      // Wanted exactly, whatever the umask.
      if (options.mode !== undefined) await handle.chmod(options.mode);
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw explainDiskFull(error, path);
  }
  await syncDirectory(dirname(path));
}

/** The error for the user where `error` says that a file system is full; any other error as it is. */
export function explainDiskFull(error: unknown, path: string): unknown {
  const code = systemCode(error);
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new ReliveError('disk-full', `no space left while writing ${path}`, {
    hint: 'make room on that file system and start again; nothing that was there before is lost',
    cause: error,
  });
}

/** Whether an error of the file system says that there is no such entry. */
export function isAbsent(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** What an operation on a file gives; undefined where there is no such file. Other errors are thrown. */
export async function ifThere<T>(operation: Promise<T>): Promise<T | undefined> {
  try {
    return await operation;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** The names in a directory, sorted; none where there is no directory. */
export async function directoryNames(path: string): Promise<string[]> {
  return ((await ifThere(readdir(path))) ?? []).toSorted();
}

/** The text of a regular file; undefined where none is, or something else: a link would lead elsewhere. */
export async function regularText(
  path: string,
  encoding: 'utf8' | 'latin1' = 'utf8',
): Promise<string | undefined> {
  return (await ifThere(lstat(path)))?.isFile() === true ? await readFile(path, encoding) : undefined;
}

/** Whether something is there, a dangling symbolic link not counted. */
export async function exists(path: string): Promise<boolean> {
  return (await ifThere(stat(path))) !== undefined;
}

/** Whether there is such an entry, also a symbolic link that leads nowhere, or nowhere on this host. */
export async function entryExists(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined;
}

/** Free bytes on the file system of `path` (or of the nearest directory above it which exists). */
export async function freeBytes(path: string): Promise<number> {
  let at = path;
  while (!(await exists(at)) && dirname(at) !== at) at = dirname(at);
  const { bavail, bsize } = await statfs(at);
  return bavail * bsize;
}

/** Whether a file is there, and is what it must be to the last byte: of this size in bytes, with this SHA-256. */
export async function isRight(
  path: string,
  { size, digest }: { readonly size: number; readonly digest: string },
  signal?: AbortSignal,
): Promise<boolean> {
  const status = await ifThere(stat(path));
  if (!status?.isFile() || status.size !== size) return false;
  return (await ifThere(digestFile(path, 'sha256', signal)))?.digest === digest;
}

/** The size of a file in bytes and its digest in hexadecimal. */
export async function digestFile(
  path: string,
  algorithm: 'sha256' | 'sha512',
  signal?: AbortSignal,
): Promise<{ readonly size: number; readonly digest: string }> {
  const hash = createHash(algorithm);
  const handle = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(readBuffer);
    for (let size = 0; ; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) return { size, digest: hash.digest('hex') };
      size += bytesRead;
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
}

/** The SHA-256 of bytes or of UTF-8 text, in hexadecimal. */
export function sha256(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
