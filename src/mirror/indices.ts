import { lstatSync } from 'node:fs';
import { readFile, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { parsePdiffIndex, parseSha256Sums } from '../debian/listing.ts';
import { type ReleaseFile, strongestDigest } from '../debian/release.ts';
import { addressOf, type DownloadRequest, type Transport } from '../host/download.ts';
import { digestFile, ifThere, makeDirectories, sha256 } from '../host/files.ts';
import { keyringOf } from './keyring.ts';
import { bringFiles } from './pool.ts';
import {
  type FetchedIndex,
  graceDays,
  isWhole,
  prepareSuite,
  publishSuite,
  removeGenerationsBut,
} from './publish.ts';
import {
  checkSuites,
  type Layout,
  layoutOf,
  lockMirror,
  type MirroredRepository,
  type MirroredSuite,
  type Repository,
  suiteDirectory,
} from './repository.ts';
import { byHashPaths, kindOf, type SelectedIndex, selectIndices, splitCompression } from './select.ts';
import { readSuiteState, type SuiteState, writeSuiteState } from './state.ts';
import { acceptRelease, type SignedRelease, suiteAddresses, transportFor } from './upstream.ts';
import {
  type ListingIndex,
  type PoolFile,
  poolListPath,
  poolPlace,
  readPoolList,
  wantedFiles,
} from './wanted.ts';

/** An upstream that changes while we read it is begun anew this often. */
const restarts = 3;

export interface SyncOptions {
  /** Nothing is fetched: what was mirrored before is used. */
  readonly offline?: boolean;
  /** What is used to fetch; one is made, and closed again, where none is given. */
  readonly transport?: Transport;
  /** Threads that fetch when there is much to fetch. Unless given: one */
  readonly threads?: number;
  /** The time that the Release is judged by. */
  readonly now?: Date;
  /** Where another program has laid out the repository: pool files are taken from there. */
  readonly staging?: string;
}

/** What became of one suite. */
export interface SuiteReport {
  readonly suite: string;
  readonly changed: boolean;
  /** Whether another generation was there before. */
  readonly replaced: boolean;
  readonly downloaded: number;
  readonly bytes: number;
  /** Pool files that upstream lacks, and that are tolerated. */
  readonly missing: readonly string[];
}

/** A mirrored repository, and what was done for it. */
export interface SyncedRepository {
  readonly mirrored: MirroredRepository;
  readonly reports: readonly SuiteReport[];
}

/** What all steps of one repository's synchronisation work with. */
interface Work {
  readonly layout: Layout;
  readonly repository: Repository;
  readonly transport: Transport;
  readonly selection: string;
  readonly now: Date;
  readonly staging: string | undefined;
  readonly context: Context;
}

/** One digest over all of the configuration that decides what a generation holds and who may sign it. */
function selectionDigest(repository: Repository, keyring: Buffer): string {
  const { components, architectures, fingerprints, kinds, optional, languages, compressions } = repository;
  const { select, filters } = repository;
  return sha256(
    JSON.stringify([
      [...components].toSorted(),
      [...architectures].toSorted(),
      fingerprints ?? [],
      sha256(keyring),
      [...(kinds ?? ['packages'])].toSorted(),
      optional ?? null,
      languages ?? ['en'],
      compressions ?? 'best',
      select ?? 'closure',
      select === 'filters' ? filters : null,
    ]),
  );
}

function mirrored(state: SuiteState): MirroredSuite {
  return {
    suite: state.suite,
    codename: state.codename,
    date: new Date(state.date),
    releaseDigest: state.releaseDigest,
  };
}

/** Whether the file at `path` is the one that is listed. */
async function matches(path: string, file: ReleaseFile, context: Context): Promise<boolean> {
  if ((await ifThere(stat(path)))?.size !== file.size) return false;
  const { algorithm, value } = strongestDigest(file);
  return (await digestFile(path, algorithm, context.signal)).digest === value;
}

/** The upstreams, the one first that has the Release which is being followed. */
function basesOf(repository: Repository, base: string): readonly string[] {
  return [base, ...repository.url.filter((url) => url !== base)];
}

/** The addresses of an index: at each upstream by hash, where upstream offers that, then by name. */
function addressesOf(
  repository: Repository,
  suite: string,
  { release, base }: SignedRelease,
  file: ReleaseFile,
): string[] {
  const ordered = { ...repository, url: basesOf(repository, base) };
  const names = suiteAddresses(ordered, suite, file.path);
  const [byHash] = release.acquireByHash ? byHashPaths(file) : [];
  if (byHash === undefined) return names;
  const hashes = suiteAddresses(ordered, suite, byHash);
  return names.flatMap((name, index) => [hashes[index] ?? name, name]);
}

/** An index that is on its way: the forms that were not tried yet. */
interface Pending {
  readonly index: SelectedIndex;
  readonly left: readonly ReleaseFile[];
  /** Why the first of its forms cannot be had: the one that upstream has if it has any, so it tells most. */
  readonly failure: ReliveError | undefined;
}

/**
 * Brings the selected indices: each from the published generation, from what an earlier run left, or from upstream, in
 * the first of its forms that upstream really has, or in all that it has.
 * @throws ReliveError `download-failed` when a required index cannot be had in any form, `no-network`, ...
 */
async function fetchIndices(
  work: Work,
  suite: string,
  signed: SignedRelease,
  selected: readonly SelectedIndex[],
  before: SuiteState | undefined,
): Promise<FetchedIndex[]> {
  const { layout, repository, transport, context } = work;
  const every = repository.compressions === 'all';
  const fetched: FetchedIndex[] = [];
  const have = new Set<string>();
  let pending: Pending[] = selected.map((index) => ({ index, left: index.forms, failure: undefined }));
  while (pending.length > 0) {
    const requests = new Map<string, DownloadRequest>();
    const asked: { readonly index: SelectedIndex; readonly file: ReleaseFile; readonly target: string }[] =
      [];
    const take = ({ plain, uncompressed }: SelectedIndex, file: ReleaseFile, source: string): void => {
      have.add(plain);
      fetched.push({
        file,
        source,
        uncompressed: file === uncompressed ? undefined : uncompressed,
        listed: true,
      });
    };
    for (const { index, left } of pending) {
      const compressed = left.filter((file) => file !== index.uncompressed);
      const forms = every && compressed.length > 0 ? compressed : left.slice(0, 1);
      for (const file of forms) {
        const { algorithm, value } = strongestDigest(file);
        const target = join(layout.incoming, value);
        const published = before && join(layout.suites, before.generation, file.path);
        if (published !== undefined && (await matches(published, file, context)))
          take(index, file, published);
        else if (await matches(target, file, context)) take(index, file, target);
        else {
          // Two indices with the same content (empty ones) are fetched once.
          requests.set(target, {
            sources: addressesOf(repository, suite, signed, file),
            target,
            expected: { size: file.size, algorithm, digest: value },
          });
          asked.push({ index, file, target });
        }
      }
    }
    const stage = `${repository.name} ${suite}: indices`;
    const { failures } = await transport.downloadAll([...requests.values()], stage, context);
    const failed = new Map(failures.map(({ request, error }) => [request.target, error]));
    for (const { index, file, target } of asked) if (!failed.has(target)) take(index, file, target);
    const lacking: Pending[] = [];
    for (const { index, left, failure } of pending) {
      if (have.has(index.plain)) continue;
      const mine = asked.filter((one) => one.index === index);
      const error =
        failure ?? mine.map(({ target }) => failed.get(target)).find((each) => each !== undefined);
      const tried = new Set(mine.map(({ file }) => file));
      const others = left.filter((file) => !tried.has(file));
      if (others.length > 0) {
        lacking.push({ index, left: others, failure: error });
        continue;
      }
      if (error === undefined) continue;
      if (index.required) throw error;
      context.emit({
        event: 'warning',
        message: `${suite} of ${repository.name} is published without ${index.plain}, which upstream lists and does not have`,
        hint: `"optional" in relive.yaml says which kinds may be missing; this one is of the kind ${index.kind}`,
      });
    }
    pending = lacking;
  }
  return fetched;
}

/**
 * Brings the files which a signed list among the indices leads to: installer images through their SHA256SUMS, patches
 * through the Index of a pdiff directory.
 */
async function fetchListed(
  { layout, repository, transport, context }: Work,
  suite: string,
  { base }: SignedRelease,
  indices: readonly FetchedIndex[],
  before: SuiteState | undefined,
): Promise<FetchedIndex[]> {
  const found: { readonly path: string; readonly size: number | undefined; readonly sha256: string }[] = [];
  for (const { file, source } of indices) {
    const { plain, ending } = splitCompression(file.path);
    const kind = kindOf(plain)?.kind;
    if (ending !== '' || (kind !== 'installer' && kind !== 'pdiff')) continue;
    const content = await readFile(source);
    if (kind === 'installer') {
      for (const [path, digest] of parseSha256Sums(content, file.path)) {
        found.push({ path: join(dirname(file.path), path), size: undefined, sha256: digest });
      }
    } else {
      for (const patch of parsePdiffIndex(content, file.path)) {
        if (patch.sha256 === undefined) continue;
        found.push({ path: join(dirname(file.path), patch.path), size: patch.size, sha256: patch.sha256 });
      }
    }
  }
  const sources = new Map<string, string>();
  const requests = new Map<string, DownloadRequest>();
  const known = new Map((before?.extra ?? []).map((file) => [file.path, file]));
  for (const { path, size, sha256: digest } of found) {
    const old = known.get(path);
    const published = before && join(layout.suites, before.generation, path);
    const target = join(layout.incoming, digest);
    if (published !== undefined && old?.sha256 === digest && (await hasDigest(published, digest, context))) {
      sources.set(path, published);
      continue;
    }
    sources.set(path, target);
    if (await hasDigest(target, digest, context)) continue;
    requests.set(target, {
      sources: basesOf(repository, base).map((url) => addressOf(url, `${suiteDirectory(suite)}${path}`)),
      target,
      expected: { size, algorithm: 'sha256', digest },
    });
  }
  const stage = `${repository.name} ${suite}: installer and patches`;
  const { failures } = await transport.downloadAll([...requests.values()], stage, context);
  const failed = new Set(failures.map(({ request }) => request.target));
  const fetched: FetchedIndex[] = [];
  for (const { path, sha256: digest } of found) {
    const source = sources.get(path) ?? '';
    if (failed.has(source)) {
      const error = failures.find(({ request }) => request.target === source)?.error;
      if (!path.includes('.diff/') && error !== undefined) throw error;
      context.emit({ event: 'warning', message: `${repository.name} lists ${path} and does not have it` });
      continue;
    }
    const { size } = await stat(source);
    fetched.push({
      file: { path, size, sha256: digest, sha512: undefined },
      source,
      uncompressed: undefined,
      listed: false,
    });
  }
  return fetched;
}

async function hasDigest(path: string, digest: string, context: Context): Promise<boolean> {
  return (await ifThere(digestFile(path, 'sha256', context.signal)))?.digest === digest;
}

/** The indices that list pool files, each once. */
export function listingIndices(
  indices: readonly {
    readonly file: ReleaseFile;
    readonly source: string;
    readonly uncompressed: ReleaseFile | undefined;
  }[],
): ListingIndex[] {
  const listing = new Map<string, ListingIndex>();
  for (const { file, source, uncompressed } of indices) {
    const { plain } = splitCompression(file.path);
    const kind = kindOf(plain)?.kind;
    if (kind !== 'packages' && kind !== 'udebs' && kind !== 'sources') continue;
    if (!listing.has(plain)) listing.set(plain, { kind, path: source, name: file.path, uncompressed });
  }
  return [...listing.values()];
}

/** Fetches, checks and publishes one suite, if it changed. */
async function syncSuite(work: Work, suite: string): Promise<{ state: SuiteState; report: SuiteReport }> {
  const { layout, repository, transport, now, context, selection } = work;
  const what = `${suite} of ${repository.name}`;
  const state = await readSuiteState(layout, suite);
  await removeGenerationsBut(layout, suite, state?.generation);
  const reusable = state !== undefined && state.selection === selection && (await isWhole(layout, state));
  const accept = async (again: boolean): Promise<SignedRelease | undefined> =>
    await acceptRelease(transport, layout, repository, suite, state, reusable && !again, now, context);
  let signed = await accept(false);
  if (signed === undefined && state !== undefined) return await mendPool(work, state);
  for (let attempt = 1; ; attempt += 1) {
    if (signed === undefined) throw new TypeError('an unknown suite cannot be unchanged');
    try {
      return await makeGeneration(work, suite, signed, state);
    } catch (error) {
      if (!isReliveError(error, 'download-failed') || attempt >= restarts) throw error;
      const again = await accept(true);
      // The same Release with other indices is upstream's fault, and lasting.
      if (again === undefined || again.digest === signed.digest) throw error;
      context.emit({ event: 'note', message: `${what} changed while it was read: begun anew` });
      signed = again;
    }
  }
}

/** Brings all that a Release needs, then publishes it. */
async function makeGeneration(
  work: Work,
  suite: string,
  signed: SignedRelease,
  state: SuiteState | undefined,
): Promise<{ state: SuiteState; report: SuiteReport }> {
  const { layout, repository, transport, now, context, selection } = work;
  const selected = selectIndices(signed.release, repository, suite, `${suite} of ${repository.name}`);
  const listed = await fetchIndices(work, suite, signed, selected, state);
  const indices = [...listed, ...(await fetchListed(work, suite, signed, listed, state))];
  let pool: Map<string, PoolFile> | undefined;
  let brought = { downloaded: 0, bytes: 0, tolerated: [] as readonly string[] };
  if ((repository.select ?? 'closure') !== 'closure') {
    pool = await wantedFiles(listingIndices(indices), repository, context);
    const options = { transport, prefer: signed.base, staging: work.staging };
    brought = await bringFiles(layout, repository, pool, options, context);
    tellMissing(repository, suite, brought.tolerated, context);
  }
  const prepared = await prepareSuite(layout, {
    suite,
    signed,
    indices,
    selection,
    before: state,
    now,
    graceDays: repository.keep?.indices ?? graceDays,
    pool,
    missing: brought.tolerated,
  });
  await publishSuite(layout, prepared, context);
  const { downloaded, bytes, tolerated } = brought;
  return {
    state: prepared.state,
    report: { suite, changed: true, replaced: state !== undefined, downloaded, bytes, missing: tolerated },
  };
}

function tellMissing(
  repository: Repository,
  suite: string,
  missing: readonly string[],
  context: Context,
): void {
  for (const path of missing) {
    context.emit({
      event: 'warning',
      message: `${suite} of ${repository.name} is published without ${path}: no upstream has it, and "missing: tolerate" names it`,
    });
  }
}

/** Looks, without a request, whether the pool files of an unchanged suite are there, and brings those that are not. */
async function mendPool(work: Work, state: SuiteState): Promise<{ state: SuiteState; report: SuiteReport }> {
  const { layout, repository, transport, context } = work;
  const lacking = new Map<string, PoolFile>();
  readPoolList(poolListPath(layout, state.generation), (file) => {
    const info = lstatSync(poolPlace(layout, file.path), { throwIfNoEntry: false });
    if (info?.isFile() !== true || info.size !== file.size) lacking.set(file.path, file);
  });
  const { suite } = state;
  if (lacking.size === 0)
    return {
      state,
      report: { suite, changed: false, replaced: false, downloaded: 0, bytes: 0, missing: [] },
    };
  const { downloaded, bytes, tolerated } = await bringFiles(
    layout,
    repository,
    lacking,
    { transport },
    context,
  );
  tellMissing(repository, suite, tolerated, context);
  const mended = { ...state, missing: [...tolerated] };
  if (JSON.stringify(mended.missing) !== JSON.stringify(state.missing)) await writeSuiteState(layout, mended);
  return {
    state: mended,
    report: { suite, changed: false, replaced: false, downloaded, bytes, missing: tolerated },
  };
}

/** What is published of a suite, for work without a network. */
async function offlineSuite(
  layout: Layout,
  repository: Repository,
  selection: string,
  suite: string,
): Promise<MirroredSuite> {
  const state = await readSuiteState(layout, suite);
  const hint = 'run it once with a network (without --offline)';
  if (state === undefined || !(await isWhole(layout, state))) {
    const incomplete = state === undefined ? 'is not in the mirror yet' : 'is incomplete in the mirror';
    throw new ReliveError('no-network', `the suite ${suite} of ${repository.name} ${incomplete}`, { hint });
  }
  if (state.selection !== selection) {
    throw new ReliveError(
      'no-network',
      `the suite ${suite} of ${repository.name} was mirrored with other components, architectures or keys than are configured now`,
      { hint },
    );
  }
  return mirrored(state);
}

/**
 * Brings a repository's suites up to date. For each suite: its signed Release (one conditional request), the
 * signature, the rules of apt about its dates and its identity, the indices that are configured, each checked, and the
 * pool files that `select` asks for (none with `closure`: builds fetch theirs); then the suite is published by switching one
 * symbolic link. An unchanged suite costs the one request. Takes the mirror's lock; calls for repositories of one mirror are to follow one another.
 * @param mirrorDirectory where the mirrors of a site are
 * @throws ReliveError `not-authentic`, `no-network`, `download-failed`, `corrupt`, `unsafe-path`, `configuration`,
 *   `not-found` (keyring), `disk-full`, or the abort reason of the context. What was published before stays.
 */
export async function syncRepository(
  mirrorDirectory: string,
  repository: Repository,
  options: SyncOptions,
  context: Context,
): Promise<SyncedRepository> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  checkSuites(repository);
  const lock = await lockMirror(layout, context);
  try {
    const keyring = await keyringOf(layout, repository);
    const selection = selectionDigest(repository, keyring.content);
    const suites: MirroredSuite[] = [];
    const reports: SuiteReport[] = [];
    if (options.offline === true) {
      for (const suite of repository.suites)
        suites.push(await offlineSuite(layout, repository, selection, suite));
    } else {
      const transport = options.transport ?? (await transportFor(repository, options.threads));
      try {
        await makeDirectories(layout.suites);
        await makeDirectories(layout.state);
        const now = options.now ?? new Date();
        const { staging } = options;
        const work = { layout, repository, transport, selection, now, staging, context };
        for (const suite of repository.suites) {
          const { state, report } = await syncSuite(work, suite);
          suites.push(mirrored(state));
          reports.push(report);
        }
        await rm(layout.incoming, { recursive: true, force: true });
      } finally {
        if (options.transport === undefined) await transport.close();
      }
    }
    const { name, components, architectures } = repository;
    return {
      mirrored: { name, root: layout.root, suites, components, architectures, keyring: keyring.path },
      reports,
    };
  } finally {
    await lock.release();
  }
}

/** As `syncRepository`, for those who want to use the mirror and not to report on it. */
export async function syncIndices(
  mirrorDirectory: string,
  repository: Repository,
  options: SyncOptions,
  context: Context,
): Promise<MirroredRepository> {
  return (await syncRepository(mirrorDirectory, repository, options, context)).mirrored;
}
