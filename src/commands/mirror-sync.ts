import { isReliveError, type ReliveError } from '../core/error.ts';
import { type SyncedMirror, syncMirror } from '../mirror/sync.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { counted, repositoriesOf } from './mirror.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const site = await loadSite(call.siteDirectory);
  const done: SyncedMirror[] = [];
  const failed: { readonly name: string; readonly error: ReliveError }[] = [];
  const repositories = repositoriesOf(site, manyArguments(call, 0));
  for (const repository of repositories) {
    try {
      done.push(await syncMirror(site, repository, call.confirm, context));
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
