import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { packagesReader } from '../debian/packages.ts';
import { sourcesReader } from '../debian/sources.ts';
import { readIndexFile } from './read-index.ts';
import { type Layout, suiteDirectory } from './repository.ts';
import { kindOf, splitCompression } from './select.ts';
import { snapshotPoolList } from './snapshot-state.ts';
import { walk } from './walk.ts';
import { poolListPath, readPoolList } from './wanted.ts';

/** A suite of which the pool files are asked for: a generation with its indices, or one in a snapshot. */
export type ListedSuite =
  | {
      readonly suite: string;
      readonly generation: string;
      readonly files: readonly { readonly path: string }[];
    }
  | { readonly suite: string; readonly snapshot: string };

/** Where the indices of a suite are, and their names. */
function indicesOf(
  layout: Layout,
  suite: ListedSuite,
): { readonly directory: string; readonly names: readonly string[] } {
  if ('generation' in suite) {
    return { directory: join(layout.suites, suite.generation), names: suite.files.map(({ path }) => path) };
  }
  const directory = join(layout.snapshots, suite.snapshot, suiteDirectory(suite.suite));
  return { directory, names: [...walk(directory)].map(({ path }) => path) };
}

/** The indices of packages and sources of a suite: one form of each. */
export function listingsOf(
  layout: Layout,
  suite: ListedSuite,
): {
  readonly kind: 'packages' | 'udebs' | 'sources';
  readonly plain: string;
  readonly path: string;
  readonly ending: string;
}[] {
  const { directory, names } = indicesOf(layout, suite);
  const found = new Map<string, ReturnType<typeof listingsOf>[number]>();
  for (const name of names) {
    const { plain, ending } = splitCompression(name);
    const kind = kindOf(plain)?.kind;
    if (kind !== 'packages' && kind !== 'udebs' && kind !== 'sources') continue;
    if (!found.has(plain)) found.set(plain, { kind, plain, path: join(directory, name), ending });
  }
  return [...found.values()];
}

/**
 * Calls `onPath` with each pool file that a suite needs: from the list that was kept when it was published, else (of
 * `select: closure`) from its indices.
 * @throws ReliveError `corrupt`, `unsafe-path`, `tool-missing`
 */
export async function listedFiles(
  layout: Layout,
  suite: ListedSuite,
  onPath: (path: string) => void,
  context: Context,
): Promise<void> {
  const list =
    'generation' in suite
      ? poolListPath(layout, suite.generation)
      : snapshotPoolList(layout, suite.snapshot, suite.suite);
  if (readPoolList(list, ({ path }) => onPath(path))) return;
  for (const { kind, path, ending } of listingsOf(layout, suite)) {
    const reader =
      kind === 'sources'
        ? sourcesReader(path, ({ files }) => {
            for (const file of files) onPath(file.path);
          })
        : packagesReader(path, ({ filename }) => onPath(filename));
    await readIndexFile({ path, ending, expected: undefined }, reader, context);
  }
}
