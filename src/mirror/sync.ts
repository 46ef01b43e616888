import { availableParallelism } from 'node:os';
import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import type { Repository, Site } from '../site/site.ts';
import { lockedFiles } from './closure.ts';
import { syncWithEngine } from './engine.ts';
import type { SyncedRepository } from './indices.ts';
import { fetchPool, type PoolFile } from './pool.ts';
import { pruneAfterSync } from './prune.ts';

/** What came of bringing the packages that locks name. */
interface FetchedLocked {
  readonly lockedDownloaded: number;
  /** Why some could not be had; undefined where all are there. */
  readonly lockedMissing: string | undefined;
}

/**
 * With "select: closure": the packages that the site's locks name. One that upstream has replaced since, and that was never
 * brought here, is told: a new lock takes its successor.
 */
async function fetchLocked(
  site: Site,
  repository: Repository,
  locked: readonly PoolFile[],
  context: Context,
): Promise<FetchedLocked> {
  if ((repository.select ?? 'closure') !== 'closure' || locked.length === 0) {
    return { lockedDownloaded: 0, lockedMissing: undefined };
  }
  try {
    const { downloaded } = await fetchPool(site.mirror, repository, locked, {}, context);
    return { lockedDownloaded: downloaded, lockedMissing: undefined };
  } catch (error) {
    if (!isReliveError(error, 'download-failed')) throw error;
    context.emit({
      event: 'warning',
      message: `packages that a lock names are not to be had: ${error.message}`,
      hint: 'upstream has replaced them: relive lock takes what it has now',
    });
    return { lockedDownloaded: 0, lockedMissing: error.message };
  }
}

/** What was done to bring one repository of a site up to date. */
export interface SyncedMirror extends FetchedLocked {
  readonly synced: SyncedRepository;
  /** Pool files that went, because nothing needs them any more. */
  readonly removed: number;
}

/**
 * Brings the mirror of one repository up to date: its suites, the packages that locks of the site name, and what goes.
 * @param confirm asked whether more of the pool may go than the limit of the repository
 * @throws ReliveError as `syncWithEngine`
 */
export async function syncMirror(
  site: Site,
  repository: Repository,
  confirm: (question: string) => Promise<boolean>,
  context: Context,
): Promise<SyncedMirror> {
  const locked = await lockedFiles(site.directory, repository.name);
  const threads = availableParallelism();
  const synced = await syncWithEngine(site.mirror, repository, { threads }, context);
  const fetched = await fetchLocked(site, repository, locked, context);
  const replaced = synced.reports.some((report) => report.replaced);
  const removed = replaced ? await pruneUnneeded(site, repository, confirm, context) : 0;
  return { synced, removed, ...fetched };
}

/**
 * Removes pool files of a repository that have not been needed for long enough, and notes since when others are not: what
 * locks named until they were made anew, say, which a verification would find to be nobody's.
 * @param confirm asked whether more of the pool may go than the limit of the repository
 * @returns the number of files
 */
export async function pruneUnneeded(
  site: Site,
  repository: Repository,
  confirm: (question: string) => Promise<boolean>,
  context: Context,
): Promise<number> {
  const locked = (await lockedFiles(site.directory, repository.name)).map(({ path }) => path);
  return await pruneAfterSync(site.mirror, repository, { locked, confirm }, context);
}
