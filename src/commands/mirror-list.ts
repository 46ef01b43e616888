import { listRepository } from '../mirror/list.ts';
import { formatBytes, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { repositoriesOf } from './mirror.ts';

function age(from: string | undefined, now: number): string {
  if (from === undefined) return '-';
  const hours = Math.max(0, Math.floor((now - Date.parse(from)) / 3_600_000));
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const now = Date.now();
  const repositories = [];
  for (const repository of repositoriesOf(site, manyArguments(call, 0))) {
    repositories.push(await listRepository(site.mirror, repository));
  }
  const rows = repositories.flatMap(({ name, select, suites, snapshots, verification }) =>
    suites.map(({ suite, state, date, poolFiles, poolBytes, missing }) => [
      name,
      suite,
      missing.length > 0 ? `${state}, ${missing.length} missing` : state,
      age(date, now),
      select,
      poolFiles === undefined ? '-' : String(poolFiles),
      poolBytes === undefined ? '-' : formatBytes(poolBytes),
      String(snapshots.length),
      verification === undefined
        ? 'never'
        : `${age(verification.when, now)} ago, ${verification.findings === 0 ? 'ok' : `${verification.findings} findings`}`,
    ]),
  );
  return {
    ok: true,
    data: { repositories },
    text:
      rows.length === 0
        ? 'relive.yaml has no repositories.'
        : formatTable([
            ['REPOSITORY', 'SUITE', 'STATE', 'AGE', 'SELECT', 'FILES', 'SIZE', 'SNAPSHOTS', 'VERIFIED'],
            ...rows,
          ]),
  };
}
