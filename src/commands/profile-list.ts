import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { formatProblem } from '../site/problem.ts';
import { listProfiles, type ProfileSummary } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';

function describe({ description, problems, name }: ProfileSummary): string {
  if (problems.length === 0) return description ?? '';
  return `(not usable: relive profile check ${name})`;
}

function record(profile: ProfileSummary): object {
  return Object.assign({}, profile, { problems: profile.problems.map(formatProblem) });
}

export async function run(call: Call): Promise<CommandResult> {
  const profiles = await listProfiles(await loadSite(call.siteDirectory));
  const rows = profiles.map((profile) => [
    profile.name,
    profile.version === undefined ? '-' : String(profile.version),
    profile.suite ?? '-',
    profile.architecture ?? '-',
    profile.host ?? '-',
    profile.extends.length === 0 ? '-' : profile.extends.join(','),
    describe(profile),
  ]);
  return {
    ok: true,
    data: { profiles: profiles.map(record) },
    text:
      rows.length === 0
        ? 'The site has no profiles; a profile is a file profiles/NAME.yaml.'
        : formatTable([['NAME', 'VERSION', 'SUITE', 'ARCH', 'HOST', 'EXTENDS', 'DESCRIPTION'], ...rows]),
  };
}
