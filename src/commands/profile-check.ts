import type { CommandResult } from '../report/reporter.ts';
import { findingOf } from '../site/problem.ts';
import { checkProfiles } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const names = call.arguments[0];
  const site = await loadSite(call.siteDirectory);
  const { checked, problems } = await checkProfiles(site, Array.isArray(names) ? names : []);
  for (const problem of problems) call.context.emit(findingOf(problem));
  const profiles = checked.length === 1 ? '1 profile' : `${checked.length} profiles`;
  const found = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
  return {
    ok: problems.length === 0,
    data: { checked, problems: problems.length },
    text:
      problems.length === 0 ? `${profiles} checked, nothing found.` : `${profiles} checked, ${found} found.`,
  };
}
