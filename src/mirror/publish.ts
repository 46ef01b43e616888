import { randomBytes } from 'node:crypto';
import { copyFile, link, lstat, mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import type { ReleaseFile } from '../debian/release.ts';
import { syncDirectory, temporaryBeside, writeFileAtomic } from '../host/files.ts';
import { run } from '../host/process.ts';
import { type Layout, suiteFileName } from './repository.ts';
import { type SuiteState, suiteStatePath, writeSuiteState } from './state.ts';
import type { SignedRelease } from './upstream.ts';

/** Clients that hold an older InRelease find its indices by hash for this long after they were replaced. */
const graceDays = 14;
const dayMilliseconds = 86_400_000;

/** An index, and where its checked content is. */
export interface FetchedIndex {
  readonly file: ReleaseFile;
  readonly source: string;
  /** What it is when it is decompressed, where the Release tells. */
  readonly uncompressed: ReleaseFile | undefined;
}

/** A generation of a suite that is complete on disk and not yet visible. */
export interface PreparedSuite {
  readonly directory: string;
  readonly state: SuiteState;
}

/** One name more for a file that never changes. File systems without hard links get a copy. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  try {
    await link(from, to);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') return;
    if (code !== 'EXDEV' && code !== 'EPERM' && code !== 'EMLINK' && code !== 'EOPNOTSUPP') throw error;
    await copyFile(from, to);
  }
}

/** The by-hash names of an index, relative to the suite. */
export function byHashPaths(file: {
  readonly path: string;
  readonly sha256?: string | undefined;
  readonly sha512?: string | undefined;
}): string[] {
  const directory = dirname(file.path);
  return [
    ...(file.sha256 === undefined ? [] : [join(directory, 'by-hash/SHA256', file.sha256)]),
    ...(file.sha512 === undefined ? [] : [join(directory, 'by-hash/SHA512', file.sha512)]),
  ];
}

/** The name of a new generation: names sort by age, and no two are the same. */
function newGeneration(suite: string, now: Date): string {
  const stamp = now.toISOString().replace(/[-:]|\.\d+/g, '');
  return `${suiteFileName(suite)}.${stamp}-${randomBytes(3).toString('hex')}`;
}

/**
 * Lays out a new generation of a suite beside the published one: signed files, indices by name and by hash, and
 * the by-hash files of earlier generations whose grace period is not over.
 * @param indices what the generation holds
 * @param selection what this generation was asked for, as `selectionDigest` gives it
 */
export async function prepareSuite(
  layout: Layout,
  suite: string,
  signed: SignedRelease,
  indices: readonly FetchedIndex[],
  selection: string,
  before: SuiteState | undefined,
  now: Date,
): Promise<PreparedSuite> {
  const generation = newGeneration(suite, now);
  const directory = temporaryBeside(join(layout.suites, generation));
  const current = new Set<string>();
  for (const { file, source } of indices) {
    for (const path of [file.path, ...byHashPaths(file)]) {
      current.add(path);
      await linkOrCopy(source, join(directory, path));
    }
  }
  await mkdir(directory, { recursive: true });
  for (const [name, content] of signed.files) await writeFileAtomic(join(directory, name), content);
  const { release } = signed;
  const superseded = before === undefined ? [] : await carryOver(layout, before, directory, current, now);
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
      signers: [...signed.signers],
      release: signed.name,
      releaseDigest: signed.digest,
      validators: { ...signed.validators },
      selection,
      files: indices.map(({ file, uncompressed }) => ({ ...file, ...(uncompressed && { uncompressed }) })),
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
  now: Date,
): Promise<SuiteState['superseded']> {
  const replaced = before.files
    .flatMap((file) => byHashPaths(file))
    .map((path) => ({ path, since: now.toISOString() }));
  const kept: SuiteState['superseded'] = [];
  for (const old of [...before.superseded, ...replaced]) {
    if (current.has(old.path) || now.getTime() - Date.parse(old.since) > graceDays * dayMilliseconds)
      continue;
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
  const visible = join(layout.dists, state.suite);
  await run('sync', ['--file-system', directory], context);
  await rename(directory, place);
  await syncDirectory(layout.suites);
  await writeSuiteState(layout, state);
  await mkdir(dirname(visible), { recursive: true });
  const temporary = temporaryBeside(visible);
  await symlink(relative(dirname(visible), place), temporary);
  await rename(temporary, visible);
  await syncDirectory(dirname(visible));
  await removeGenerationsBut(layout, state.suite, state.generation);
}

/** Removes the generations of a suite which are not published, whole or half made. */
export async function removeGenerationsBut(
  layout: Layout,
  suite: string,
  generation: string | undefined,
): Promise<void> {
  // The whole pattern: "trixie.1" may be a suite too.
  const rest = /^\d{8}T\d{6}Z-[0-9a-f]{6}(?:-[0-9a-f]{8})?$/;
  for (const name of await namesIn(layout.suites)) {
    const plain = name.replace(/^\.tmp-/, '');
    const prefix = `${suiteFileName(suite)}.`;
    if (!plain.startsWith(prefix) || !rest.test(plain.slice(prefix.length)) || name === generation) continue;
    await rm(join(layout.suites, name), { recursive: true, force: true });
    await rm(suiteStatePath(layout, name), { force: true });
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Whether every file of a published generation is there with its size. */
export async function isWhole(layout: Layout, state: SuiteState): Promise<boolean> {
  try {
    for (const file of state.files) {
      for (const path of [file.path, ...byHashPaths(file)]) {
        const info = await lstat(join(layout.suites, state.generation, path));
        if (!info.isFile() || info.size !== file.size) return false;
      }
    }
    return (await lstat(join(layout.suites, state.generation, state.release))).isFile();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}
