import type { Finding } from '../core/event.ts';
import { checkSystem } from '../image/check.ts';
import type { CommandResult } from '../report/reporter.ts';
import { findingOf } from '../site/problem.ts';
import { checkProfiles } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const names = call.arguments[0];
  const site = await loadSite(call.siteDirectory);
  const { checked, problems, good } = await checkProfiles(site, Array.isArray(names) ? names : []);
  for (const problem of problems) call.context.emit(findingOf(problem));
  const more: Finding[] = [];
  for (const resolved of good) more.push(...(await checkSystem(site, resolved, call.context)));
  // Several profiles may have one overlay or one parent.
  const findings = [...new Map(more.map((each) => [JSON.stringify(each), each])).values()];
  for (const finding of findings) call.context.emit(finding);
  const count = problems.length + findings.length;
  const profiles = checked.length === 1 ? '1 profile' : `${checked.length} profiles`;
  const found = count === 1 ? '1 problem' : `${count} problems`;
  return {
    ok: count === 0,
    data: { checked, problems: count },
    text: count === 0 ? `${profiles} checked, nothing found.` : `${profiles} checked, ${found} found.`,
  };
}
