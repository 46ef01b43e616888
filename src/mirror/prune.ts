import { lstatSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { visibleNames } from './list.ts';
import { listedFiles } from './listed.ts';
import { PathTable } from './path-table.ts';
import { type Layout, layoutOf, lockMirror, type Repository } from './repository.ts';
import { poolDirectories } from './repository-tree.ts';
import { readSnapshot } from './snapshot-state.ts';
import { readSuiteState } from './state.ts';
import { readUnneeded, type Unneeded, writeUnneeded } from './unneeded.ts';
import { entriesOf, walk } from './walk.ts';

const dayMilliseconds = 86_400_000;
const defaultDays = 7;
const defaultLimit = 40;
/** A pool of fewer files may lose any share. */
const smallPool = 20;

export interface PruneOptions {
  /** Days that a file stays after nothing needed it any more; that of the repository unless given. */
  readonly graceDays?: number | undefined;
  /** The share of the pool's files, in percent, that may go; that of the repository unless given. */
  readonly limit?: number | undefined;
  /** Nothing is removed, only told. */
  readonly dryRun?: boolean;
  /** Paths of pool files that are needed though no index lists them any more: those of locks. */
  readonly locked?: Iterable<string>;
  /** Asked whether more than the limit may go; without it, that is an error. */
  readonly confirm?: (question: string) => Promise<boolean>;
  readonly now?: Date;
}

export interface Pruned {
  /** Files that were removed, or would be. */
  readonly removed: readonly string[];
  readonly bytes: number;
  /** Files that nothing needs, and whose grace period is not over. */
  readonly waiting: number;
  readonly kept: number;
}

/** The paths of all pool files that a published suite or a snapshot lists, or a lock names. */
async function needed(
  layout: Layout,
  repository: Repository,
  locked: Iterable<string>,
  context: Context,
): Promise<PathTable> {
  const table = new PathTable();
  for (const path of locked) table.add(path, '');
  for (const suite of repository.suites) {
    const state = await readSuiteState(layout, suite);
    if (state === undefined) continue;
    await listedFiles(
      layout,
      { generation: state.generation, suite, files: state.files },
      (path) => table.add(path, ''),
      context,
    );
  }
  for (const id of await visibleNames(layout.snapshots)) {
    const { suites } = await readSnapshot(layout, id);
    for (const { suite } of suites) {
      await listedFiles(layout, { snapshot: id, suite }, (path) => table.add(path, ''), context);
    }
  }
  return table;
}

/**
 * Removes pool files that neither a published suite nor a snapshot lists, once their grace period is over. Takes the
 * mirror's lock.
 * @throws ReliveError `usage` when more than the limit would go: nothing is removed then; `locked`, `corrupt`
 */
export async function pruneRepository(
  mirrorDirectory: string,
  repository: Repository,
  options: PruneOptions,
  context: Context,
): Promise<Pruned> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const lock = await lockMirror(layout, context);
  try {
    return await prune(layout, repository, options, context);
  } finally {
    await lock.release();
  }
}

/** Every file of the pool, by the path that indices call it, and where it is. */
function* poolFiles(layout: Layout): Generator<{ readonly path: string; readonly place: string }> {
  for (const name of poolDirectories(layout)) {
    const info = lstatSync(join(layout.root, name), { throwIfNoEntry: false });
    if (info?.isFile() === true) yield { path: name, place: join(layout.root, name) };
    if (info?.isDirectory() !== true) continue;
    for (const { path, entry } of walk(join(layout.root, name), `${name}/`)) {
      if (entry.isFile()) yield { path, place: join(layout.root, path) };
    }
  }
  for (const { path, entry } of walk(layout.below, 'dists/')) {
    if (entry.isFile()) yield { path, place: join(layout.below, path.slice('dists/'.length)) };
  }
}

async function prune(
  layout: Layout,
  repository: Repository,
  options: PruneOptions,
  context: Context,
): Promise<Pruned> {
  const now = options.now ?? new Date();
  const days = options.graceDays ?? repository.keep?.pool ?? defaultDays;
  const limit = options.limit ?? repository.keep?.limit ?? defaultLimit;
  const table = await needed(layout, repository, options.locked ?? [], context);
  const before = readUnneeded(layout);
  const since: Unneeded = {};
  const due: { readonly path: string; readonly place: string; readonly size: number }[] = [];
  let total = 0;
  for (const { path, place } of poolFiles(layout)) {
    context.signal.throwIfAborted();
    total += 1;
    if (table.has(path)) continue;
    const first = before[path] ?? now.toISOString();
    if (now.getTime() - Date.parse(first) >= days * dayMilliseconds) {
      due.push({ path, place, size: lstatSync(place, { throwIfNoEntry: false })?.size ?? 0 });
    }
    since[path] = first;
  }
  const waiting = Object.keys(since).length - due.length;
  const share = total === 0 ? 0 : (due.length / total) * 100;
  if (share > limit && total > smallPool && options.dryRun !== true) {
    await writeUnneeded(layout, since);
    const told = `${due.length} of the ${total} files of ${repository.name} would be removed, more than ${limit} %`;
    const confirmed = (await options.confirm?.(`${told}: remove them?`)) ?? false;
    if (!confirmed) {
      throw new ReliveError('usage', `${told}: nothing was`, {
        hint: `look at them: relive mirror prune --dry-run ${repository.name}; if that is what you want: --limit ${Math.ceil(share)}`,
      });
    }
  }
  if (options.dryRun !== true) {
    for (const { path, place } of due) {
      rmSync(place, { force: true });
      removeEmpty(dirname(place), layout.root);
      delete since[path];
    }
    await writeUnneeded(layout, since);
  }
  return {
    removed: due.map(({ path }) => path),
    bytes: due.reduce((sum, { size }) => sum + size, 0),
    waiting,
    kept: total - due.length,
  };
}

/** Removes directories that became empty, up to the root. */
function removeEmpty(directory: string, root: string): void {
  for (let at = directory; at.startsWith(`${root}/`) && entriesOf(at).length === 0; at = dirname(at)) {
    try {
      rmdirSync(at);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') continue;
      return;
    }
  }
}

/**
 * What a sync that published something removes; with `select: closure` nothing, because what builds fetched stays: it is
 * only noted since when a file is not needed. Too many files are a warning: the sync itself is done.
 * @returns the number of files
 */
export async function pruneAfterSync(
  mirrorDirectory: string,
  repository: Repository,
  { locked, confirm }: Required<Pick<PruneOptions, 'locked' | 'confirm'>>,
  context: Context,
): Promise<number> {
  const stays = (repository.select ?? 'closure') === 'closure';
  const options = { locked, confirm, ...(stays ? { graceDays: Number.POSITIVE_INFINITY } : {}) };
  try {
    return (await pruneRepository(mirrorDirectory, repository, options, context)).removed.length;
  } catch (error) {
    if (!(error instanceof ReliveError) || error.code !== 'usage') throw error;
    context.emit({
      event: 'warning',
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
    return 0;
  }
}
