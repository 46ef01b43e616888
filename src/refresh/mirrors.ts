import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { pruneUnneeded, syncMirror } from '../mirror/sync.ts';
import { verifyRepository } from '../mirror/verify-repository.ts';
import type { Repository, Site } from '../site/site.ts';
import { namedContext } from './named.ts';
import { type Failure, failureOf, type MirrorReport } from './report.ts';

export interface RefreshedMirror {
  readonly report: MirrorReport;
  readonly failures: readonly Failure[];
  /** Whether it could be brought up to date. */
  readonly current: boolean;
}

/** Nobody can be asked: what is more than the limit stays, with a warning. */
const refuse = async (): Promise<boolean> => await Promise.resolve(false);

/** Brings the mirror of a repository up to date, unless that is not wanted, and verifies what changed in it. */
export async function refreshMirror(
  site: Site,
  repository: Repository,
  offline: boolean,
  context: Context,
): Promise<RefreshedMirror> {
  const what = `mirror ${repository.name}`;
  const own = namedContext(context, repository.name);
  const failures: Failure[] = [];
  let report: MirrorReport = {
    ...{ repository: repository.name, published: undefined, verified: undefined },
    ...{ files: 0, bytes: 0, removed: 0 },
  };
  if (!offline) {
    try {
      const { synced, removed } = await syncMirror(site, repository, refuse, own);
      const { reports } = synced;
      report = {
        ...report,
        removed,
        published: reports.filter(({ changed }) => changed).map(({ suite }) => suite),
        files: reports.reduce((sum, each) => sum + each.downloaded, 0),
        bytes: reports.reduce((sum, each) => sum + each.bytes, 0),
      };
    } catch (error) {
      failures.push(failureOf(what, error, context));
    }
  }
  const current = failures.length === 0;
  try {
    // Locks that were made anew since may have let packages go. What was never published whole nobody may judge, unless
    // it is only noted.
    const mayJudge = report.published !== undefined || (repository.select ?? 'closure') === 'closure';
    const removed = mayJudge ? await pruneUnneeded(site, repository, refuse, own) : 0;
    const options = { deep: false, changed: true, sample: undefined, now: new Date() };
    const { ok, skipped, wrong } = await verifyRepository(site, repository, options, own);
    report = {
      ...report,
      removed: report.removed + removed,
      verified: { files: ok + skipped, findings: wrong },
    };
    if (wrong > 0) {
      const found = new ReliveError('corrupt', `${wrong} findings in the mirror of ${repository.name}`, {
        hint: `relive mirror repair ${repository.name}`,
      });
      failures.push(failureOf(what, found, context));
    }
  } catch (error) {
    // Where it could never be synchronised there is nothing to verify.
    if (current) failures.push(failureOf(what, error, context));
  }
  return { report, failures, current };
}
