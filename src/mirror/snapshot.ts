import { copyFile, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { packagesReader } from '../debian/packages.ts';
import { compareVersions } from '../debian/version.ts';
import { exists, makeDirectories, syncDirectory, temporaryBeside } from '../host/files.ts';
import { visibleNames } from './list.ts';
import { type ListedSuite, listedFiles, listingsOf } from './listed.ts';
import { linkOrCopy } from './publish.ts';
import { readIndexFile } from './read-index.ts';
import { isFlat, type Layout, layoutOf, lockMirror, type Repository, suiteDirectory } from './repository.ts';
import { byHashPaths } from './select.ts';
import {
  readSnapshot,
  type Snapshot,
  snapshotPoolList,
  snapshotStatePath,
  writeSnapshot,
} from './snapshot-state.ts';
import { readSuiteState, type SuiteState } from './state.ts';
import { poolListPath } from './wanted.ts';

export type { Snapshot } from './snapshot-state.ts';

/** How a snapshot may be called. */
function checkId(id: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(id) && id !== 'current') return;
  throw new ReliveError('usage', `${JSON.stringify(id)} cannot be the name of a snapshot`, {
    hint: 'letters, digits, ".", "_" and "-" are allowed, the first one a letter or a digit; "current" means what is published',
  });
}

function newId(now: Date): string {
  return now.toISOString().replace(/[-:]|\.\d+/g, '');
}

/**
 * Freezes the published suites of a repository: their indices get one more name each, the pool is shared. The snapshot is a
 * repository that apt takes, under upstream's own signatures.
 * @param id its name; the time unless given
 * @throws ReliveError `usage` (name), `exists`, `not-found` (nothing mirrored)
 */
export async function createSnapshot(
  mirrorDirectory: string,
  repository: Repository,
  id: string | undefined,
  context: Context,
  now = new Date(),
): Promise<Snapshot> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const name = id ?? newId(now);
  checkId(name);
  const lock = await lockMirror(layout, context);
  try {
    const place = join(layout.snapshots, name);
    if (await exists(place)) {
      throw new ReliveError('exists', `${repository.name} has a snapshot ${name} already`, {
        hint: 'choose another name, or remove it first',
      });
    }
    const states: SuiteState[] = [];
    for (const suite of repository.suites) {
      const state = await readSuiteState(layout, suite);
      if (state !== undefined) states.push(state);
    }
    if (states.length === 0) {
      throw new ReliveError('not-found', `nothing of ${repository.name} is mirrored yet`, {
        hint: `relive mirror sync ${repository.name} brings it`,
      });
    }
    const directory = temporaryBeside(place);
    await makeDirectories(directory);
    for (const state of states) await freeze(layout, state, directory, name, place, context);
    const snapshot = {
      id: name,
      created: now.toISOString(),
      suites: states.map(({ suite, date, releaseDigest, missing }) => ({
        suite,
        date,
        releaseDigest,
        missing,
      })),
    };
    await writeSnapshot(layout, snapshot);
    await rename(directory, place);
    await syncDirectory(layout.snapshots);
    return snapshot;
  } finally {
    await lock.release();
  }
}

/** Gives the files of a generation their names in a snapshot, and links to what they need of the pool. */
async function freeze(
  layout: Layout,
  state: SuiteState,
  directory: string,
  id: string,
  place: string,
  context: Context,
): Promise<void> {
  const { suite, generation, files, extra } = state;
  const from = join(layout.suites, generation);
  const to = join(directory, suiteDirectory(suite));
  const signed = state.release === 'InRelease' ? ['InRelease'] : ['Release', 'Release.gpg'];
  const paths = [
    ...signed,
    ...files.flatMap((file) => [file.path, ...byHashPaths(file)]),
    ...extra.map(({ path }) => path),
  ];
  for (const path of paths) await linkOrCopy(join(from, path), join(to, path));
  const prefix = `dists/${suite}/`;
  const links = new Set<string>();
  const inSuite: string[] = [];
  await listedFiles(
    layout,
    { suite, generation, files },
    (path) => {
      if (path.startsWith(prefix)) inSuite.push(path.slice(prefix.length));
      // In a flat repository indices and packages share directories: each package gets a link of its own.
      else if (isFlat(suite)) links.add(path);
      else links.add(path.split('/')[0] ?? path);
    },
    context,
  );
  for (const path of inSuite) {
    if (await exists(join(from, path))) await linkOrCopy(join(from, path), join(to, path));
  }
  for (const path of links) {
    const at = join(directory, path);
    await makeDirectories(dirname(at));
    const target = relative(dirname(join(place, path)), join(layout.root, path));
    await symlink(target, at).catch((error: unknown) => {
      if (systemCode(error) !== 'EEXIST') throw error;
    });
  }
  const list = poolListPath(layout, generation);
  if (await exists(list)) {
    await makeDirectories(dirname(snapshotPoolList(layout, id, suite)));
    await copyFile(list, snapshotPoolList(layout, id, suite));
  }
}

/** The snapshots of a repository, the oldest first. */
export async function listSnapshots(
  mirrorDirectory: string,
  repository: Pick<Repository, 'name'>,
): Promise<Snapshot[]> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const snapshots: Snapshot[] = [];
  for (const id of await visibleNames(layout.snapshots)) snapshots.push(await readSnapshot(layout, id));
  return snapshots.toSorted((a, b) => a.created.localeCompare(b.created));
}

async function requireSnapshot(
  layout: Layout,
  repository: Pick<Repository, 'name'>,
  id: string,
): Promise<void> {
  checkId(id);
  if (await exists(join(layout.snapshots, id))) return;
  const known = await visibleNames(layout.snapshots);
  throw new ReliveError('not-found', `${repository.name} has no snapshot ${id}`, {
    hint: known.length === 0 ? 'it has none' : `it has: ${known.join(', ')}`,
  });
}

/** Removes a snapshot; what it alone needed of the pool goes with the next prune. @throws ReliveError `not-found` */
export async function removeSnapshot(
  mirrorDirectory: string,
  repository: Pick<Repository, 'name'>,
  id: string,
  context: Context,
): Promise<void> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const lock = await lockMirror(layout, context);
  try {
    await requireSnapshot(layout, repository, id);
    const gone = temporaryBeside(join(layout.snapshots, id));
    await rename(join(layout.snapshots, id), gone);
    await rm(gone, { recursive: true, force: true });
    for (const { path } of await snapshotFiles(layout, id)) await rm(path, { force: true });
  } finally {
    await lock.release();
  }
}

async function snapshotFiles(layout: Layout, id: string): Promise<{ readonly path: string }[]> {
  const snapshot = await readSnapshot(layout, id).catch(() => undefined);
  const lists = (snapshot?.suites ?? []).map(({ suite }) => ({ path: snapshotPoolList(layout, id, suite) }));
  return [...lists, { path: snapshotStatePath(layout, id) }];
}

/** One package of one suite whose versions differ between two snapshots; versions sorted, the newest last. */
export interface PackageChange {
  readonly package: string;
  readonly architecture: string;
  readonly suite: string;
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly kind: 'added' | 'removed' | 'upgraded' | 'downgraded' | 'changed';
}

/** Versions by "suite package architecture". */
async function versionsOf(
  layout: Layout,
  repository: Repository,
  id: string,
  context: Context,
): Promise<Map<string, Set<string>>> {
  const suites: ListedSuite[] = [];
  if (id === 'current') {
    for (const suite of repository.suites) {
      const state = await readSuiteState(layout, suite);
      if (state !== undefined) suites.push({ suite, generation: state.generation, files: state.files });
    }
  } else {
    await requireSnapshot(layout, repository, id);
    for (const { suite } of (await readSnapshot(layout, id)).suites) suites.push({ suite, snapshot: id });
  }
  const versions = new Map<string, Set<string>>();
  for (const suite of suites) {
    for (const { kind, path, ending } of listingsOf(layout, suite)) {
      if (kind !== 'packages') continue;
      const reader = packagesReader(path, (entry) => {
        const key = `${suite.suite} ${entry.package} ${entry.architecture}`;
        const known = versions.get(key);
        if (known === undefined) versions.set(key, new Set([entry.version]));
        else known.add(entry.version);
      });
      await readIndexFile({ path, ending, expected: undefined }, reader, context);
    }
  }
  return versions;
}

function changeKind(before: readonly string[], after: readonly string[]): PackageChange['kind'] {
  const [oldest, newest] = [before.at(-1), after.at(-1)];
  if (oldest === undefined) return 'added';
  if (newest === undefined) return 'removed';
  const order = compareVersions(oldest, newest);
  return order < 0 ? 'upgraded' : order > 0 ? 'downgraded' : 'changed';
}

/**
 * The packages that differ between two snapshots; `current` is what is published.
 * @throws ReliveError `not-found`, `corrupt`
 */
export async function diffSnapshots(
  mirrorDirectory: string,
  repository: Repository,
  ids: readonly [string, string],
  context: Context,
): Promise<PackageChange[]> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const before = await versionsOf(layout, repository, ids[0], context);
  const after = await versionsOf(layout, repository, ids[1], context);
  const changes: PackageChange[] = [];
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const [suite = '', name = '', architecture = ''] = key.split(' ');
    const [old, current] = [before, after].map((versions) =>
      [...(versions.get(key) ?? [])].toSorted(compareVersions),
    );
    if (old === undefined || current === undefined || old.join(' ') === current.join(' ')) continue;
    changes.push({
      package: name,
      architecture,
      suite,
      before: old,
      after: current,
      kind: changeKind(old, current),
    });
  }
  return changes.toSorted(
    (a, b) => a.package.localeCompare(b.package, 'en') || a.suite.localeCompare(b.suite, 'en'),
  );
}
