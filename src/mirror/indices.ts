import { mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { type Release, type ReleaseFile, strongestDigest } from '../debian/release.ts';
import { type DownloadRequest, Transport } from '../host/download.ts';
import { digestFile, sha256 } from '../host/files.ts';
import { takeLock } from '../host/lock.ts';
import { keyringOf } from './keyring.ts';
import {
  byHashPaths,
  type FetchedIndex,
  isWhole,
  prepareSuite,
  publishSuite,
  removeGenerationsBut,
} from './publish.ts';
import {
  checkSuites,
  type Layout,
  layoutOf,
  type MirroredRepository,
  type MirroredSuite,
  type Repository,
} from './repository.ts';
import { type SelectedIndex, selectPackages } from './select.ts';
import { publishedGeneration, readSuiteState, type SuiteState } from './state.ts';
import {
  checkSuccession,
  checkTimes,
  fetchSignedRelease,
  type SignedRelease,
  suiteAddresses,
} from './upstream.ts';

/** An upstream that changes while we read it is begun anew this often. */
const restarts = 3;

export interface SyncOptions {
  /** Nothing is fetched: what was mirrored before is used. */
  readonly offline?: boolean;
  /** What is used to fetch; one is made, and closed again, where none is given. */
  readonly transport?: Transport;
  /** The time that the Release is judged by. */
  readonly now?: Date;
}

/** What all steps of one repository's synchronisation work with. */
interface Work {
  readonly layout: Layout;
  readonly repository: Repository;
  readonly transport: Transport;
  readonly selection: string;
  readonly now: Date;
  readonly context: Context;
}

/** One digest over all of the configuration that decides what a generation holds and who may sign it. */
function selectionDigest(repository: Repository, keyring: Buffer): string {
  const { components, architectures, fingerprints } = repository;
  return sha256(
    JSON.stringify([
      [...components].toSorted(),
      [...architectures].toSorted(),
      fingerprints ?? [],
      sha256(keyring),
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

/** Whether the file at `path` is the one that a Release lists. */
async function matches(path: string, file: ReleaseFile, context: Context): Promise<boolean> {
  try {
    if ((await stat(path)).size !== file.size) return false;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
  const { algorithm, value } = strongestDigest(file);
  return (await digestFile(path, algorithm, context.signal)).digest === value;
}

/** The addresses of an index: at each upstream by hash, where upstream offers that, then by name. */
function addressesOf(repository: Repository, suite: string, release: Release, file: ReleaseFile): string[] {
  const names = suiteAddresses(repository, suite, file.path);
  const [byHash] = release.acquireByHash ? byHashPaths(file) : [];
  if (byHash === undefined) return names;
  const hashes = suiteAddresses(repository, suite, byHash);
  return names.flatMap((name, index) => [hashes[index] ?? name, name]);
}

/**
 * Brings the selected indices: each from the published generation, from what an earlier run left, or from upstream, in
 * the first of its forms that upstream really has.
 * @throws ReliveError `download-failed` when an index cannot be had in any form, `no-network`, ...
 */
async function fetchIndices(
  { layout, repository, transport, context }: Work,
  suite: string,
  release: Release,
  selected: readonly SelectedIndex[],
  before: SuiteState | undefined,
): Promise<FetchedIndex[]> {
  const fetched: FetchedIndex[] = [];
  let wanted = selected.map(({ forms, uncompressed }) => ({ forms, uncompressed }));
  while (wanted.length > 0) {
    const requests: DownloadRequest[] = [];
    const round = new Map<DownloadRequest, (typeof wanted)[number]>();
    for (const { forms, uncompressed } of wanted) {
      const [file, ...others] = forms;
      if (file === undefined) throw new TypeError('an index without forms was selected');
      const { algorithm, value } = strongestDigest(file);
      const target = join(layout.incoming, value);
      const published = before && join(layout.suites, before.generation, file.path);
      let source = target;
      if (published !== undefined && (await matches(published, file, context))) source = published;
      else if (!(await matches(target, file, context))) {
        const request: DownloadRequest = {
          sources: addressesOf(repository, suite, release, file),
          target,
          expected: { size: file.size, algorithm, digest: value },
        };
        // Two indices with the same content (empty ones) are fetched once.
        if (!requests.some((other) => other.target === target)) requests.push(request);
        round.set(request, { forms: others, uncompressed });
      }
      fetched.push({ file, source, uncompressed: file === uncompressed ? undefined : uncompressed });
    }
    const { failures } = await transport.downloadAll(
      requests,
      `${repository.name} ${suite}: indices`,
      context,
    );
    wanted = [];
    for (const { request: failed, error } of failures) {
      for (const [request, rest] of round) {
        if (request.target !== failed.target) continue;
        if (rest.forms.length === 0) throw error;
        wanted.push(rest);
      }
      for (let index = fetched.length - 1; index >= 0; index -= 1) {
        if (fetched[index]?.source === failed.target) fetched.splice(index, 1);
      }
    }
  }
  return fetched;
}

/** Fetches, checks and publishes one suite, if it changed. */
async function syncSuite(work: Work, suite: string): Promise<MirroredSuite> {
  const { layout, repository, transport, now, context, selection } = work;
  const what = `${suite} of ${repository.name}`;
  const state = await readSuiteState(layout, suite);
  await removeGenerationsBut(layout, suite, state?.generation);
  const reusable = state !== undefined && state.selection === selection && (await isWhole(layout, state));
  const fetch = async (known: SuiteState | undefined): Promise<SignedRelease | undefined> =>
    await fetchSignedRelease(transport, layout, repository, suite, known, context);
  let signed = await fetch(reusable ? state : undefined);
  if (signed === undefined && state !== undefined) {
    const validUntil = state.validUntil === undefined ? undefined : new Date(state.validUntil);
    checkTimes({ date: new Date(state.date), validUntil }, what, repository, now, context);
    return mirrored(state);
  }
  for (let attempt = 1; ; attempt += 1) {
    if (signed === undefined) throw new TypeError('an unknown suite cannot be unchanged');
    checkTimes(signed.release, what, repository, now, context);
    if (state !== undefined) checkSuccession(signed.release, state, what, repository, context);
    try {
      const selected = selectPackages(signed.release, repository, what);
      const indices = await fetchIndices(work, suite, signed.release, selected, state);
      const prepared = await prepareSuite(layout, suite, signed, indices, selection, state, now);
      await publishSuite(layout, prepared, context);
      return mirrored(prepared.state);
    } catch (error) {
      if (!isReliveError(error, 'download-failed') || attempt >= restarts) throw error;
      const again = await fetch(undefined);
      // The same Release with other indices is upstream's fault, and lasting.
      if (again === undefined || again.digest === signed.digest) throw error;
      context.emit({ event: 'note', message: `${what} changed while it was read: begun anew` });
      signed = again;
    }
  }
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
 * Brings the indices of a repository's suites up to date. For each suite: its signed Release (one conditional request), the
 * signature, the rules of apt about its dates and its identity, the Packages indices of the configured components and
 * architectures, each checked; then the suite is published by switching one symbolic link. An unchanged suite costs the
 * one request. Takes the mirror's lock; calls for repositories of one mirror are to follow one another.
 * @param mirrorDirectory where the mirrors of a site are
 * @throws ReliveError `not-authentic`, `no-network`, `download-failed`, `corrupt`, `unsafe-path`, `configuration`,
 *   `not-found` (keyring), `disk-full`, or the abort reason of the context. What was published before stays.
 */
export async function syncIndices(
  mirrorDirectory: string,
  repository: Repository,
  options: SyncOptions,
  context: Context,
): Promise<MirroredRepository> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  checkSuites(repository);
  const lock = await takeLock(layout.lock, `the mirror ${resolve(mirrorDirectory)}`, context);
  try {
    const keyring = await keyringOf(layout, repository);
    const selection = selectionDigest(repository, keyring.content);
    const suites: MirroredSuite[] = [];
    if (options.offline === true) {
      for (const suite of repository.suites)
        suites.push(await offlineSuite(layout, repository, selection, suite));
    } else {
      const transport = options.transport ?? new Transport();
      try {
        await mkdir(layout.suites, { recursive: true });
        await mkdir(layout.state, { recursive: true });
        const now = options.now ?? new Date();
        const work = { layout, repository, transport, selection, now, context };
        for (const suite of repository.suites) suites.push(await syncSuite(work, suite));
        await rm(layout.incoming, { recursive: true, force: true });
      } finally {
        if (options.transport === undefined) await transport.close();
      }
    }
    const { name, components, architectures } = repository;
    return { name, root: layout.root, suites, components, architectures, keyring: keyring.path };
  } finally {
    await lock.release();
  }
}

/**
 * The directory of a suite as it is published now, and what is remembered of it.
 * @throws ReliveError `not-found` when the suite was never published
 */
export async function publishedSuite(
  mirrorDirectory: string,
  repository: Pick<Repository, 'name'>,
  suite: string,
): Promise<{ readonly directory: string; readonly state: SuiteState }> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const generation = await publishedGeneration(layout, suite);
  const state = await readSuiteState(layout, suite);
  if (generation === undefined || state === undefined) {
    throw new ReliveError(
      'not-found',
      `the suite ${suite} of ${repository.name} is not in the mirror ${dirname(layout.root)}`,
      {
        hint: 'relive mirror sync brings it',
      },
    );
  }
  return { directory: join(layout.suites, generation), state };
}
