import { randomBytes } from 'node:crypto';
import { copyFile, link, lstat, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import type { ReleaseFile } from '../debian/release.ts';
import {
  directoryNames,
  exists,
  makeDirectories,
  syncDirectory,
  temporaryBeside,
  writeFileAtomic,
} from '../host/files.ts';
import { run } from '../host/process.ts';
import { flatDirectory, isFlat, type Layout, suiteFileName, suiteLink } from './repository.ts';
import { byHashPaths } from './select.ts';
import { type SuiteState, suiteStatePath, writeSuiteState } from './state.ts';
import type { SignedRelease } from './upstream.ts';
import { type PoolFile, poolListPath, poolPlace, writePoolList } from './wanted.ts';

/** Clients that hold an older InRelease find its indices by hash for this many days after they were replaced. */
export const graceDays = 14;
const dayMilliseconds = 86_400_000;

/** An index, and where its checked content is. */
export interface FetchedIndex {
  readonly file: ReleaseFile;
  readonly source: string;
  /** What it is when it is decompressed, where the Release tells. */
  readonly uncompressed: ReleaseFile | undefined;
  /** Whether the Release itself lists it: such a file has names by hash too. */
  readonly listed: boolean;
}

/** What makes a generation, besides its indices. */
export interface GenerationPlan {
  readonly suite: string;
  readonly signed: SignedRelease;
  readonly indices: readonly FetchedIndex[];
  /** What was asked for, as `selectionDigest` gives it. */
  readonly selection: string;
  readonly before: SuiteState | undefined;
  readonly now: Date;
  readonly graceDays: number;
  /** The pool files that the generation needs; undefined where only builds fetch from the pool. */
  readonly pool: ReadonlyMap<string, PoolFile> | undefined;
  /** Paths of the pool which upstream lacks. */
  readonly missing: readonly string[];
}

/** A generation of a suite that is complete on disk and not yet visible. */
export interface PreparedSuite {
  readonly directory: string;
  readonly state: SuiteState;
}

/** One name more for a file that never changes. File systems without hard links get a copy. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  await makeDirectories(dirname(to));
  try {
    await link(from, to);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') return;
    if (code !== 'EXDEV' && code !== 'EPERM' && code !== 'EMLINK' && code !== 'EOPNOTSUPP') throw error;
    await copyFile(from, to);
  }
}

function entryOf({ path, size, sha256, sha512 }: ReleaseFile): ReleaseFile {
  return { path, size, sha256, sha512 };
}

/** The name of a new generation: names sort by age, and no two are the same. */
function newGeneration(suite: string, now: Date): string {
  const stamp = now.toISOString().replace(/[-:]|\.\d+/g, '');
  return `${suiteFileName(suite)}.${stamp}-${randomBytes(3).toString('hex')}`;
}

/**
 * Lays out a new generation of a suite beside the published one: signed files, indices by name and by hash, pool files
 * whose path lies in the suite, and the by-hash files of earlier generations whose grace period is not over.
 */
export async function prepareSuite(layout: Layout, plan: GenerationPlan): Promise<PreparedSuite> {
  const { suite, signed, indices, before, pool } = plan;
  const generation = newGeneration(suite, plan.now);
  const directory = temporaryBeside(join(layout.suites, generation));
  const current = new Set<string>();
  await makeDirectories(directory);
  for (const [name, content] of signed.files) await writeFileAtomic(join(directory, name), content);
  for (const { file, source, listed } of indices) {
    for (const path of [file.path, ...(listed ? byHashPaths(file) : [])]) {
      current.add(path);
      await linkOrCopy(source, join(directory, path));
    }
  }
  const missing = new Set(plan.missing);
  let bytes = 0;
  for (const { path, size } of pool?.values() ?? []) {
    bytes += size;
    const prefix = `dists/${suite}/`;
    if (!path.startsWith(prefix) || missing.has(path)) continue;
    await linkOrCopy(poolPlace(layout, path), join(directory, path.slice(prefix.length)));
  }
  if (pool !== undefined) await writePoolList(layout, generation, pool);
  const { release } = signed;
  const superseded = before === undefined ? [] : await carryOver(layout, before, directory, current, plan);
  return {
    directory,
    state: {
      suite,
      generation,
      date: release.date.toISOString(),
      validUntil: release.validUntil?.toISOString(),
      origin: release.origin,
      label: release.label,
      suiteName: release.suite,
      codename: release.codename,
      signers: signed.signers.flatMap((keys) => keys.slice(0, 1)),
      signedBy: release.signedBy,
      release: signed.name,
      releaseDigest: signed.digest,
      validators: { ...signed.validators },
      selection: plan.selection,
      files: indices
        .filter(({ listed }) => listed)
        .map(({ file, uncompressed }) => Object.assign(entryOf(file), uncompressed && { uncompressed })),
      extra: indices.filter(({ listed }) => !listed).map(({ file }) => entryOf(file)),
      ...(pool === undefined ? {} : { pool: { files: pool.size, bytes } }),
      missing: [...plan.missing],
      superseded,
    },
  };
}

/** Links the by-hash files of the published generation into the new one, as long as their grace period lasts. */
async function carryOver(
  layout: Layout,
  before: SuiteState,
  directory: string,
  current: ReadonlySet<string>,
  { now, graceDays: grace }: GenerationPlan,
): Promise<SuiteState['superseded']> {
  const replaced = before.files
    .flatMap((file) => byHashPaths(file))
    .map((path) => ({ path, since: now.toISOString() }));
  const kept: SuiteState['superseded'] = [];
  for (const old of [...before.superseded, ...replaced]) {
    if (current.has(old.path) || now.getTime() - Date.parse(old.since) > grace * dayMilliseconds) continue;
    try {
      await linkOrCopy(join(layout.suites, before.generation, old.path), join(directory, old.path));
    } catch (error) {
      // Whoever removed it did not want it: only the current generation must be whole.
      if (systemCode(error) === 'ENOENT') continue;
      throw error;
    }
    kept.push(old);
  }
  return kept;
}

/**
 * Makes a prepared generation the published one by switching one symbolic link, then removes the generations before it.
 * Everything it holds is on the disk before the switch.
 */
export async function publishSuite(layout: Layout, prepared: PreparedSuite, context: Context): Promise<void> {
  const { state, directory } = prepared;
  const place = join(layout.suites, state.generation);
  const visible = suiteLink(layout, state.suite);
  await run('sync', ['--file-system', directory], context);
  await rename(directory, place);
  await syncDirectory(layout.suites);
  await writeSuiteState(layout, state);
  await makeDirectories(dirname(visible));
  if (isFlat(state.suite)) await showFlat(layout, state.suite, await readdir(place));
  const temporary = temporaryBeside(visible);
  await symlink(relative(dirname(visible), place), temporary);
  await rename(temporary, visible);
  await syncDirectory(dirname(visible));
  if (isFlat(state.suite)) await hideFlat(layout, state.suite);
  await removeGenerationsBut(layout, state.suite, state.generation);
}

/** The directory of a flat suite, and where a name in it leads to. */
function flatPlace(layout: Layout, suite: string): { readonly directory: string; readonly target: string } {
  const directory = join(layout.root, flatDirectory(suite));
  return { directory, target: relative(directory, suiteLink(layout, suite)) };
}

/**
 * In a flat repository indices and packages share a directory, which therefore cannot be a link itself: each index is a
 * link through the one that is switched.
 * @throws ReliveError `exists` where something else bears the name of an index
 */
async function showFlat(layout: Layout, suite: string, names: readonly string[]): Promise<void> {
  const { directory, target } = flatPlace(layout, suite);
  await makeDirectories(directory);
  for (const name of names) {
    try {
      await symlink(join(target, name), join(directory, name));
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
      const info = await lstat(join(directory, name));
      if (info.isSymbolicLink()) continue;
      throw new ReliveError(
        'exists',
        `${join(directory, name)} is in the way: another tool made this mirror`,
        {
          hint: 'let relive mirror into a directory of its own',
        },
      );
    }
  }
}

/** Removes the links to indices which the published generation does not have any more. */
async function hideFlat(layout: Layout, suite: string): Promise<void> {
  const { directory, target } = flatPlace(layout, suite);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (!entry.isSymbolicLink() || (await readlink(path)) !== join(target, entry.name)) continue;
    if (!(await exists(path))) await rm(path);
  }
}

/** Removes the generations of a suite which are not published, whole or half made. */
export async function removeGenerationsBut(
  layout: Layout,
  suite: string,
  generation: string | undefined,
): Promise<void> {
  // The whole pattern: "trixie.1" may be a suite too.
  const rest = /^\d{8}T\d{6}Z-[0-9a-f]{6}(?:-[0-9a-f]{8})?$/;
  for (const name of await directoryNames(layout.suites)) {
    const plain = name.replace(/^\.tmp-/, '');
    const prefix = `${suiteFileName(suite)}.`;
    if (!plain.startsWith(prefix) || !rest.test(plain.slice(prefix.length)) || name === generation) continue;
    await rm(join(layout.suites, name), { recursive: true, force: true });
    await rm(suiteStatePath(layout, name), { force: true });
    await rm(poolListPath(layout, name), { force: true });
  }
}

/** Whether every file of a published generation is there with its size. */
export async function isWhole(layout: Layout, state: SuiteState): Promise<boolean> {
  try {
    const directory = join(layout.suites, state.generation);
    const isThere = async (path: string, size: number): Promise<boolean> => {
      const info = await lstat(join(directory, path));
      return info.isFile() && info.size === size;
    };
    for (const file of state.files) {
      for (const path of [file.path, ...byHashPaths(file)])
        if (!(await isThere(path, file.size))) return false;
    }
    for (const { path, size } of state.extra) if (!(await isThere(path, size))) return false;
    return (await lstat(join(layout.suites, state.generation, state.release))).isFile();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
