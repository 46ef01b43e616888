import { availableParallelism } from 'node:os';
import { isReliveError, type ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { lockedFiles } from '../mirror/closure.ts';
import { syncWithEngine } from '../mirror/engine.ts';
import type { SyncedRepository } from '../mirror/indices.ts';
import { fetchPool, type PoolFile } from '../mirror/pool.ts';
import { pruneAfterSync } from '../mirror/prune.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite, type Repository, type Site } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { counted, repositoriesOf } from './mirror.ts';

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

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const site = await loadSite(call.siteDirectory);
  const done: ({ readonly synced: SyncedRepository; readonly removed: number } & FetchedLocked)[] = [];
  const failed: { readonly name: string; readonly error: ReliveError }[] = [];
  const repositories = repositoriesOf(site, manyArguments(call, 0));
  for (const repository of repositories) {
    try {
      const locked = await lockedFiles(site.directory, repository.name);
      const synced = await syncWithEngine(
        site.mirror,
        repository,
        { threads: availableParallelism() },
        context,
      );
      const fetched = await fetchLocked(site, repository, locked, context);
      const removed = synced.reports.some(({ replaced }) => replaced)
        ? await pruneAfterSync(
            site.mirror,
            repository,
            { locked: locked.map(({ path }) => path), confirm: call.confirm },
            context,
          )
        : 0;
      done.push({ synced, removed, ...fetched });
    } catch (error) {
      // One repository whose upstream is in trouble does not keep the others from being brought up to date.
      if (!isReliveError(error) || ['interrupted', 'disk-full', 'locked'].includes(error.code)) throw error;
      if (repositories.length === 1) throw error;
      failed.push({ name: repository.name, error });
      context.emit({
        event: 'warning',
        message: `${repository.name} was not synchronised: ${error.message}`,
      });
    }
  }
  const lines = done.flatMap(
    ({ synced: { mirrored, reports }, removed, lockedDownloaded, lockedMissing }) => [
      ...reports.map(({ suite, changed, downloaded, bytes, missing }) => {
        const what = changed ? 'published' : 'unchanged';
        const brought =
          downloaded === 0 ? '' : `, ${counted(downloaded, 'file')} (${formatBytes(bytes)}) brought`;
        const lacking = missing.length === 0 ? '' : `, ${counted(missing.length, 'file')} missing upstream`;
        return `${mirrored.name} ${suite}: ${what}${brought}${lacking}`;
      }),
      ...(lockedDownloaded === 0
        ? []
        : [`${mirrored.name}: ${counted(lockedDownloaded, 'locked package')} brought`]),
      ...(lockedMissing === undefined ? [] : [`${mirrored.name}: not all that locks name is to be had`]),
      ...(removed === 0 ? [] : [`${mirrored.name}: ${counted(removed, 'file')} that nothing needs removed`]),
    ],
  );
  const [first] = failed;
  if (first !== undefined && done.length === 0) throw first.error;
  return {
    ok: failed.length === 0 && done.every(({ lockedMissing }) => lockedMissing === undefined),
    data: {
      repositories: done.map(({ synced, removed, lockedDownloaded, lockedMissing }) => ({
        name: synced.mirrored.name,
        root: synced.mirrored.root,
        suites: synced.reports,
        removed,
        lockedDownloaded,
        lockedMissing,
      })),
      failed: failed.map(({ name, error }) => ({ name, code: error.code, message: error.message })),
    },
    text: [
      ...lines,
      ...failed.map(({ name }) => `${name}: not synchronised, what was mirrored before is unchanged`),
    ].join('\n'),
  };
}
