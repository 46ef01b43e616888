import { type BigIntStats, lstatSync } from 'node:fs';
import { link } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { megabytes } from '../core/megabytes.ts';
import { addressOf, type DownloadRequest, Transport } from '../host/download.ts';
import { digestFile, freeBytes, isAbsent, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { linkOrCopy } from './publish.ts';
import { type Layout, layoutOf, lockMirror, matchesPattern, type Repository } from './repository.ts';
import { publishedGeneration } from './state.ts';
import { transportFor } from './upstream.ts';
import { appearanceOf, readVerified, type VerifiedRecord } from './verified.ts';
import { type PoolFile, poolDigest, poolPath, poolPlace } from './wanted.ts';

export type { PoolFile } from './wanted.ts';

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

/** What decides where pool files come from. */
export type PoolSource = Pick<Repository, 'name' | 'url' | 'missing' | 'transport'>;

/**
 * The files by their checked paths.
 * @throws ReliveError `unsafe-path`; `corrupt` when one path is to have two contents
 */
function checkedFiles(
  repository: Pick<Repository, 'name'>,
  files: readonly PoolFile[],
): Map<string, PoolFile> {
  const byPath = new Map<string, PoolFile>();
  for (const file of files) {
    const path = poolPath(file.path, `an index of ${repository.name}`);
    const other = byPath.get(path);
    if (
      other !== undefined &&
      (poolDigest(other).digest !== poolDigest(file).digest || other.size !== file.size)
    ) {
      throw new ReliveError('corrupt', `${repository.name} lists ${path} with two different contents`, {
        hint: 'its indices contradict each other: tell those who run the repository',
      });
    }
    byPath.set(path, file);
  }
  return byPath;
}

export function infoOf(path: string): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Tells what is missing or damaged; remembers what was read and is right. */
async function lacking(
  layout: Layout,
  files: ReadonlyMap<string, PoolFile>,
  record: VerifiedRecord,
  context: Context,
): Promise<string[]> {
  const missing: string[] = [];
  for (const [path, file] of files) {
    context.signal.throwIfAborted();
    const place = poolPlace(layout, path);
    const info = infoOf(place);
    const plausible = info?.isFile() === true && info.size === BigInt(file.size);
    if (!plausible) {
      missing.push(path);
      continue;
    }
    const { algorithm, digest } = poolDigest(file);
    if (record.isStill(path, digest, appearanceOf(info))) continue;
    const found = await digestFile(place, algorithm, context.signal);
    if (found.digest === digest) record.add(path, digest, appearanceOf(info));
    else missing.push(path);
  }
  return missing;
}

/** What `bringFiles` could not bring although it is tolerated. */
export interface Brought extends FetchedPool {
  readonly tolerated: readonly string[];
}

/**
 * Brings pool files which are missing or damaged into a mirror whose lock is held.
 * @param prefer the upstream to ask first
 * @throws as `fetchPool`
 */
export async function bringFiles(
  layout: Layout,
  repository: PoolSource,
  wanted: ReadonlyMap<string, PoolFile>,
  options: FetchPoolOptions & { readonly prefer?: string | undefined; readonly staging?: string | undefined },
  context: Context,
): Promise<Brought> {
  await makeDirectories(layout.state);
  const record = await readVerified(verifiedPath(layout));
  let missing = await lacking(layout, wanted, record, context);
  if (missing.length > 0 && options.offline === true) throw offlineError(repository, missing);
  if (options.staging !== undefined) {
    missing = await takeFromStaging(layout, options.staging, missing, wanted, context);
  }
  const { prefer } = options;
  const bases =
    prefer === undefined ? repository.url : [prefer, ...repository.url.filter((url) => url !== prefer)];
  const requests = missing.flatMap((path): DownloadRequest[] => {
    const file = wanted.get(path);
    if (file === undefined) return [];
    return [
      {
        sources: bases.map((base) => addressOf(base, path)),
        target: poolPlace(layout, path),
        expected: { size: file.size, ...poolDigest(file) },
      },
    ];
  });
  await checkSpace(layout, requests);
  const paths = new Map(requests.map((request, index) => [request, missing[index] ?? '']));
  const fetched = await fetchAll(layout, repository, requests, paths, options, record, context);
  await linkBelow(layout, wanted);
  return fetched;
}

/**
 * Takes files over that another program of ours has fetched, by a second name for the same content: the pool's files never
 * change. Each is checked first.
 * @returns the files which are still missing
 */
async function takeFromStaging(
  layout: Layout,
  staging: string,
  missing: readonly string[],
  wanted: ReadonlyMap<string, PoolFile>,
  context: Context,
): Promise<string[]> {
  const left: string[] = [];
  for (const path of missing) {
    const file = wanted.get(path);
    const from = join(staging, path);
    const info = infoOf(from);
    if (file === undefined || info?.isFile() !== true || info.size !== BigInt(file.size)) {
      left.push(path);
      continue;
    }
    const { algorithm, digest } = poolDigest(file);
    const to = poolPlace(layout, path);
    if ((await digestFile(from, algorithm, context.signal)).digest !== digest || infoOf(to) !== undefined) {
      left.push(path);
      continue;
    }
    await makeDirectories(dirname(to));
    try {
      await link(from, to);
    } catch {
      // Another file system: it is copied like any other upstream's file.
      left.push(path);
    }
  }
  return left;
}

/** Gives pool files below `dists` their names in the published generations. */
async function linkBelow(layout: Layout, files: ReadonlyMap<string, PoolFile>): Promise<void> {
  for (const path of files.keys()) {
    if (!path.startsWith('dists/')) continue;
    const names = path.split('/').slice(1);
    for (let length = names.length - 1; length > 0; length -= 1) {
      const suite = names.slice(0, length).join('/');
      const generation = await publishedGeneration(layout, suite).catch(() => undefined);
      if (generation === undefined) continue;
      const name = join(layout.suites, generation, ...names.slice(length));
      if (infoOf(poolPlace(layout, path)) !== undefined && infoOf(name) === undefined) {
        await linkOrCopy(poolPlace(layout, path), name);
      }
      break;
    }
  }
}

/** Where it is remembered which pool files were verified. */
export function verifiedPath(layout: Pick<Layout, 'state'>): string {
  return join(layout.state, 'verified');
}

/**
 * Brings files of a repository's pool which are missing or damaged, in parallel. Each appears only when its size and
 * SHA-256 are right. A file that is there, and has the inode, size and times with which it was verified before, is not
 * read again. Takes the mirror's lock.
 * @throws ReliveError `download-failed` naming the files that cannot be had (the others are there), `no-network`,
 *   `unsafe-path`, `corrupt` (one path, two contents), `disk-full`, or the abort reason of the context
 */
export async function fetchPool(
  mirrorDirectory: string,
  repository: PoolSource,
  files: readonly PoolFile[],
  options: FetchPoolOptions,
  context: Context,
): Promise<FetchedPool> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const wanted = checkedFiles(repository, files);
  const lock = await lockMirror(layout, context);
  try {
    // Whoever asks for these very files cannot do without one: nothing is tolerated.
    const strict = { name: repository.name, url: repository.url, transport: repository.transport };
    const { downloaded, bytes } = await bringFiles(layout, strict, wanted, options, context);
    return { downloaded, bytes };
  } finally {
    await lock.release();
  }
}

/** Fetches, and records what is right now: also of a run that is cut off by an error. */
async function fetchAll(
  layout: Layout,
  repository: PoolSource,
  requests: readonly DownloadRequest[],
  paths: ReadonlyMap<DownloadRequest, string>,
  options: FetchPoolOptions,
  record: VerifiedRecord,
  context: Context,
): Promise<Brought> {
  if (requests.length === 0) {
    record.save();
    return { downloaded: 0, bytes: 0, tolerated: [] };
  }
  const transport = options.transport ?? (await transportFor(repository));
  try {
    const parallel = options.parallel ?? repository.transport?.parallel;
    const { bytes, failures, files } = await transport.downloadAll(
      requests,
      `${repository.name}: packages`,
      context,
      parallel === undefined ? {} : { parallel },
    );
    await run('sync', ['--file-system', layout.root], context);
    const failed = new Set(failures.map(({ request }) => request));
    for (const request of requests) {
      const info = failed.has(request) ? undefined : infoOf(request.target);
      if (info !== undefined) {
        record.add(paths.get(request) ?? '', request.expected.digest, appearanceOf(info));
      }
    }
    record.save();
    const patterns = repository.missing?.tolerate ?? [];
    const isTolerated = (request: DownloadRequest): boolean =>
      patterns.some((pattern) => matchesPattern(paths.get(request) ?? '', pattern));
    const serious = failures.filter(({ request }) => !isTolerated(request));
    const [first, second] = serious;
    if (first !== undefined && second === undefined) throw first.error;
    if (first !== undefined) {
      const told = serious.slice(0, named).map(({ error }) => error.message);
      if (serious.length > named) told.push(`... and ${serious.length - named} more`);
      throw new ReliveError(
        'download-failed',
        `${serious.length} files of ${repository.name} cannot be fetched\n${told.join('\n')}`,
        { hint: first.error.hint },
      );
    }
    return { downloaded: files, bytes, tolerated: failures.map(({ request }) => paths.get(request) ?? '') };
  } finally {
    if (options.transport === undefined) await transport.close();
  }
}

async function checkSpace(layout: Layout, requests: readonly DownloadRequest[]): Promise<void> {
  const needed = requests.reduce((sum, { expected }) => sum + (expected.size ?? 0), 0);
  const free = await freeBytes(layout.root);
  if (needed <= free) return;
  throw new ReliveError(
    'disk-full',
    `${layout.root} has ${megabytes(free)} free where ${megabytes(needed)} are to be fetched`,
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
