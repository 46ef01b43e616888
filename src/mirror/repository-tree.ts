import { dirname, join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { visibleNames } from './list.ts';
import { PathTable } from './path-table.ts';
import { isFlat, type Layout, type Repository, suiteDirectory, suiteLink } from './repository.ts';
import { selectIndices } from './select.ts';
import { readSnapshot, snapshotPoolList } from './snapshot-state.ts';
import { readSuiteState } from './state.ts';
import type { ArchiveTree, SuiteTree } from './tree.ts';
import { readUnneeded } from './unneeded.ts';
import { entriesOf } from './walk.ts';
import { type PoolFile, poolListPath, readPoolList } from './wanted.ts';

/** Which pool files a kept list says must be there; every one where there is no list and all are selected. */
function expectation(
  repository: Repository,
  list: string,
  missing: readonly string[],
  locked: ReadonlySet<string>,
): (path: string) => boolean {
  if ((repository.select ?? 'closure') === 'closure') return (path) => locked.has(path);
  const table = new PathTable();
  const listed = readPoolList(list, ({ path }) => table.add(path, ''));
  const tolerated = new Set(missing);
  return (path) => !tolerated.has(path) && (!listed || table.has(path));
}

/**
 * The tree of a repository that relive mirrors, with its snapshots.
 * @param locked paths of pool files that locks name
 * @throws ReliveError `not-found` where nothing of it is mirrored, `corrupt` (state)
 */
export async function repositoryTree(
  layout: Layout,
  repository: Repository,
  locked: readonly PoolFile[],
): Promise<ArchiveTree> {
  const needed = new Set(locked.map(({ path }) => path));
  const suites: SuiteTree[] = [];
  for (const suite of repository.suites) {
    const state = await readSuiteState(layout, suite);
    if (state === undefined) continue;
    suites.push({
      name: suite,
      directory: suiteLink(layout, suite),
      prefix: suiteDirectory(suite),
      base: layout.root,
      flat: isFlat(suite),
      required: (release) => selectIndices(release, repository, suite, suite),
      expects: expectation(repository, poolListPath(layout, state.generation), state.missing, needed),
    });
  }
  for (const id of await visibleNames(layout.snapshots)) {
    const snapshot = await readSnapshot(layout, id);
    for (const { suite, missing } of snapshot.suites) {
      const directory = join(layout.snapshots, id, suiteDirectory(suite));
      suites.push({
        name: `${suite} in the snapshot ${id}`,
        directory,
        prefix: `snapshots/${id}/${suiteDirectory(suite)}`,
        base: layout.root,
        flat: isFlat(suite),
        required: undefined,
        expects: expectation(repository, snapshotPoolList(layout, id, suite), missing, new Set()),
      });
    }
  }
  if (suites.length === 0) {
    throw new ReliveError('not-found', `${repository.name} is not in the mirror ${dirname(layout.root)}`, {
      hint: `relive mirror sync ${repository.name} brings it`,
    });
  }
  const unneeded = readUnneeded(layout);
  return {
    name: repository.name,
    root: layout.root,
    suites,
    pools: poolDirectories(layout),
    locked: (repository.select ?? 'closure') === 'closure' ? locked : [],
    waits: (path) => Object.hasOwn(unneeded, path),
  };
}

/** The names below a repository's root that hold pool files. */
export function poolDirectories(layout: Layout): string[] {
  return entriesOf(layout.root)
    .filter(({ name }) => !name.startsWith('.') && name !== 'dists' && name !== 'snapshots')
    .filter((entry) => !entry.isSymbolicLink())
    .map(({ name }) => name);
}
