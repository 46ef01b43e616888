import type { BigIntStats } from 'node:fs';
import { lstat, mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { safePath } from '../debian/path.ts';
import { addressOf, type DownloadRequest, Transport } from '../host/download.ts';
import { digestFile, freeBytes } from '../host/files.ts';
import { takeLock } from '../host/lock.ts';
import { run } from '../host/process.ts';
import { type Layout, layoutOf, type Repository } from './repository.ts';
import { addVerified, isStill, readVerified, type Verified, verifiedNow } from './verified.ts';

/** A file of a repository's pool, as an index lists it. */
export interface PoolFile {
  /** Relative to the repository's base address. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal, lower case. */
  readonly sha256: string;
}

export interface FetchPoolOptions {
  /** Nothing is fetched: a file that is missing or damaged is an error. */
  readonly offline?: boolean;
  readonly transport?: Transport;
  /** How many files are fetched at a time. */
  readonly parallel?: number;
}

export interface FetchedPool {
  /** Files that were missing or damaged and are there now. */
  readonly downloaded: number;
  /** Bytes that came over the line. */
  readonly bytes: number;
}

/** How many missing files an error names. */
const named = 10;

/**
 * The files by their checked paths.
 * @throws ReliveError `unsafe-path`, also for what would reach into relive's own directories; `corrupt` when one path
 *   is to have two contents
 */
function checkedFiles(
  repository: Pick<Repository, 'name'>,
  files: readonly PoolFile[],
): Map<string, PoolFile> {
  const where = `an index of ${repository.name}`;
  const byPath = new Map<string, PoolFile>();
  for (const file of files) {
    const path = safePath(file.path, where);
    if (/^(?:dists|snapshots)(?:\/|$)|^\.|\/\.(?:part|tmp)-/.test(path)) {
      throw new ReliveError(
        'unsafe-path',
        `${where} names ${path} as a package, which lies where packages must not be`,
        {
          hint: 'dists, snapshots and hidden directories belong to the mirror itself',
        },
      );
    }
    const other = byPath.get(path);
    if (other !== undefined && (other.sha256 !== file.sha256 || other.size !== file.size)) {
      throw new ReliveError('corrupt', `${repository.name} lists ${path} with two different contents`, {
        hint: 'its indices contradict each other: tell those who run the repository',
      });
    }
    byPath.set(path, file);
  }
  return byPath;
}

async function infoOf(path: string): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Tells what is missing or damaged; adds to `found` what was read and is right. */
async function lacking(
  layout: Layout,
  files: ReadonlyMap<string, PoolFile>,
  record: ReadonlyMap<string, Verified>,
  found: Map<string, Verified>,
  context: Context,
): Promise<string[]> {
  const missing: string[] = [];
  for (const [path, { size, sha256 }] of files) {
    context.signal.throwIfAborted();
    const info = await infoOf(join(layout.root, path));
    const plausible = info?.isFile() === true && info.size === BigInt(size);
    if (!plausible) missing.push(path);
    else if (!isStill(record.get(path), info, sha256)) {
      const { digest } = await digestFile(join(layout.root, path), 'sha256', context.signal);
      if (digest === sha256) found.set(path, verifiedNow(info, sha256));
      else missing.push(path);
    }
  }
  return missing;
}

/**
 * Brings files of a repository's pool which are missing or damaged, in parallel. Each appears only when its size and
 * SHA-256 are right. A file that is there, and has the inode, size and time with which it was verified before, is not
 * read again. Takes the mirror's lock.
 * @throws ReliveError `download-failed` naming the files that cannot be had (the others are there), `no-network`,
 *   `unsafe-path`, `corrupt` (one path, two contents), `disk-full`, or the abort reason of the context
 */
export async function fetchPool(
  mirrorDirectory: string,
  repository: Pick<Repository, 'name' | 'url'>,
  files: readonly PoolFile[],
  options: FetchPoolOptions,
  context: Context,
): Promise<FetchedPool> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const wanted = checkedFiles(repository, files);
  const lock = await takeLock(layout.lock, `the mirror ${resolve(mirrorDirectory)}`, context);
  try {
    await mkdir(layout.state, { recursive: true });
    const found = new Map<string, Verified>();
    const missing = await lacking(layout, wanted, await readVerified(layout), found, context);
    if (missing.length > 0 && options.offline === true) throw offlineError(repository, missing);
    const requests = missing.flatMap((path): DownloadRequest[] => {
      const file = wanted.get(path);
      if (file === undefined) return [];
      return [
        {
          sources: repository.url.map((base) => addressOf(base, path)),
          target: join(layout.root, path),
          expected: { size: file.size, algorithm: 'sha256', digest: file.sha256 },
        },
      ];
    });
    await checkSpace(layout, requests);
    const fetched = await fetchAll(layout, repository, requests, options, found, context);
    return fetched;
  } finally {
    await lock.release();
  }
}

/** Fetches, and records what is right now: also of a run that is cut off by an error. */
async function fetchAll(
  layout: Layout,
  repository: Pick<Repository, 'name'>,
  requests: readonly DownloadRequest[],
  options: FetchPoolOptions,
  found: Map<string, Verified>,
  context: Context,
): Promise<FetchedPool> {
  const transport = options.transport ?? new Transport();
  try {
    const { parallel } = options;
    const { bytes, failures, files } = await transport.downloadAll(
      requests,
      `${repository.name}: packages`,
      context,
      parallel === undefined ? {} : { parallel },
    );
    const failed = new Set(failures.map(({ request }) => request.target));
    for (const { target, expected } of requests) {
      const info = failed.has(target) ? undefined : await infoOf(target);
      if (info !== undefined)
        found.set(target.slice(layout.root.length + 1), verifiedNow(info, expected.digest));
    }
    if (requests.length > 0) await run('sync', ['--file-system', layout.root], context);
    await addVerified(layout, found);
    const [first, second] = failures;
    if (first !== undefined && second === undefined) throw first.error;
    if (first !== undefined) {
      const told = failures.slice(0, named).map(({ error }) => error.message);
      if (failures.length > named) told.push(`... and ${failures.length - named} more`);
      throw new ReliveError(
        'download-failed',
        `${failures.length} files of ${repository.name} cannot be fetched\n${told.join('\n')}`,
        { hint: first.error.hint },
      );
    }
    return { downloaded: files, bytes };
  } finally {
    if (options.transport === undefined) await transport.close();
  }
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 1024 / 1024)} MiB`;
}

async function checkSpace(layout: Layout, requests: readonly DownloadRequest[]): Promise<void> {
  const needed = requests.reduce((sum, { expected }) => sum + expected.size, 0);
  const free = await freeBytes(layout.root);
  if (needed <= free) return;
  throw new ReliveError(
    'disk-full',
    `${layout.root} has ${mib(free)} free where ${mib(needed)} are to be fetched`,
    {
      hint: 'make room on that file system, or put the mirror on another one (mirror in relive.yaml)',
    },
  );
}

function offlineError(repository: Pick<Repository, 'name'>, missing: readonly string[]): ReliveError {
  const told = missing.slice(0, named).map((path) => `    ${path}`);
  if (missing.length > named) told.push(`    ... and ${missing.length - named} more`);
  return new ReliveError(
    'no-network',
    `${missing.length} files of ${repository.name} are not in the mirror\n${told.join('\n')}`,
    { hint: 'run it once with a network (without --offline)' },
  );
}
