import { lstatSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Release } from '../debian/release.ts';
import { isAbsent } from '../host/files.ts';
import type { SelectedIndex } from './select.ts';
import { entriesOf } from './walk.ts';
import type { PoolFile } from './wanted.ts';

/** A suite in a tree that any tool may have made. */
export interface SuiteTree {
  /** How it is called in messages. */
  readonly name: string;
  /** The directory of its Release. */
  readonly directory: string;
  /** The same, relative to the tree's root, with a slash at the end; empty for the root itself. */
  readonly prefix: string;
  /** What the paths of pool files are relative to. */
  readonly base: string;
  readonly flat: boolean;
  /** The indices that must be there; undefined where nobody knows what was selected. */
  readonly required: ((release: Release) => readonly SelectedIndex[]) | undefined;
  /** Whether a pool file that an index lists must be there. */
  readonly expects: (path: string) => boolean;
}

/** A tree with suites and a pool. */
export interface ArchiveTree {
  /** In front of the paths of findings. */
  readonly name: string;
  readonly root: string;
  readonly suites: readonly SuiteTree[];
  /** Directories below the root where each file must be listed by an index; `undefined`: those where listed files are. */
  readonly pools: readonly string[] | undefined;
  /** Files that must be there though no index may list them any more: those of locks. */
  readonly locked: readonly PoolFile[];
  /** Whether a file that nothing lists is known to be so, and waits for its removal. */
  readonly waits: (path: string) => boolean;
}

/** Whether something is a directory; links are followed. */
function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function isThere(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

function hasRelease(directory: string): boolean {
  return isThere(join(directory, 'InRelease')) || isThere(join(directory, 'Release'));
}

/** The suites below a `dists` directory: nested ones too (`trixie/updates`), each real directory once. */
function suitesBelow(dists: string): { readonly name: string; readonly directory: string }[] {
  const found: { readonly name: string; readonly directory: string }[] = [];
  const seen = new Set<string>();
  const look = (name: string, depth: number): void => {
    const directory = join(dists, name);
    if (!isDirectory(directory)) return;
    if (hasRelease(directory)) {
      const real = realpathSync(directory);
      if (seen.has(real)) return;
      seen.add(real);
      found.push({ name, directory });
      return;
    }
    if (depth === 0) return;
    for (const inner of entriesOf(directory)) {
      if (!inner.name.startsWith('.')) look(`${name}/${inner.name}`, depth - 1);
    }
  };
  // Real directories first: "stable" is a link to one of them.
  const entries = entriesOf(dists).filter(({ name }) => !name.startsWith('.'));
  for (const entry of [
    ...entries.filter((e) => !e.isSymbolicLink()),
    ...entries.filter((e) => e.isSymbolicLink()),
  ]) {
    look(entry.name, 2);
  }
  return found;
}

const deepest = 8;

/**
 * The archives below a path: directories with a `dists`, and directories of flat repositories.
 * @param partial nothing of what an index lists is expected to be there
 * @throws ReliveError `not-found` where there is none
 */
export function findTrees(path: string, partial: boolean): ArchiveTree[] {
  if (!isDirectory(path)) {
    throw new ReliveError('not-found', `${path} is no directory`, {
      hint: 'name a repository of relive.yaml, or the directory of a mirror: the one with dists in it, or one above',
    });
  }
  const trees: ArchiveTree[] = [];
  const expects = (): boolean => !partial;
  const look = (directory: string, depth: number): void => {
    const suites = isDirectory(join(directory, 'dists')) ? suitesBelow(join(directory, 'dists')) : [];
    if (suites.length > 0) {
      trees.push({
        name: directory,
        root: directory,
        suites: suites.map((suite) => ({
          name: suite.name,
          directory: suite.directory,
          prefix: `dists/${suite.name}/`,
          base: directory,
          flat: false,
          required: undefined,
          expects,
        })),
        pools: undefined,
        locked: [],
        waits: () => false,
      });
    } else if (hasRelease(directory)) {
      trees.push({
        name: directory,
        root: directory,
        suites: [
          { name: './', directory, prefix: '', base: directory, flat: true, required: undefined, expects },
        ],
        pools: undefined,
        locked: [],
        waits: () => false,
      });
      return;
    }
    if (depth === 0) return;
    for (const entry of entriesOf(directory)) {
      const skipped = entry.name.startsWith('.') || ['dists', 'pool'].includes(entry.name);
      if (entry.isDirectory() && !skipped) look(join(directory, entry.name), depth - 1);
    }
  };
  look(path.replace(/(.)\/+$/, '$1'), deepest);
  if (trees.length === 0) {
    throw new ReliveError('not-found', `${path} holds no archive: no dists directory, no Release`, {
      hint: 'name the directory of a mirror: the one with dists in it, or one above',
    });
  }
  return trees;
}
