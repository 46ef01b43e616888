import { defaultJobs } from '../refresh/jobs.ts';
import { planRefresh, type RefreshPlan } from '../refresh/plan.ts';
import { refresh } from '../refresh/refresh.ts';
import type { Failure } from '../refresh/report.ts';
import { sendReport } from '../refresh/send.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite, type Site } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { testText } from './image-test.ts';
import { countOption } from './medium.ts';
import { failureLines, reportText } from './refresh-report.ts';
import { planText } from './update.ts';

/** The fields of the result that say whether all went well. */
function outcome(failures: readonly Failure[]): Pick<CommandResult, 'ok' | 'failed'> {
  return failures.length === 0 ? { ok: true } : { ok: false, failed: true };
}

function planLines({ mirrors, profiles, media, prune, failures }: RefreshPlan): string[] {
  return [
    ...(mirrors.length === 0 ? [] : [`mirrors to bring up to date and to verify: ${mirrors.join(', ')}`]),
    ...profiles.flatMap(({ profile, plan }) => [
      `${profile}:`,
      ...planText(profile, plan).flatMap((text) => text.split('\n').map((line) => `  ${line}`)),
    ]),
    ...media.map(
      ({ medium, target }) => `medium ${medium}: ${target === undefined ? 'not attached' : target}`,
    ),
    ...(prune.length === 0 ? [] : [`images that go already: ${prune.join(', ')}`]),
    ...failureLines(failures),
  ];
}

async function tellPlan(call: Call, site: Site, names: readonly string[]): Promise<CommandResult> {
  const planned = await planRefresh(site, names, call.options['offline'] === true, call.context);
  return {
    ...outcome(planned.failures),
    data: { plan: planned },
    text: planLines(planned).join('\n'),
  };
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const names = manyArguments(call, 0);
  if (call.options['plan'] === true) return await tellPlan(call, site, names);
  const jobs = countOption(call, 'jobs') ?? defaultJobs();
  const options = {
    ...{ jobs, offline: call.options['offline'] === true },
    test: call.options['test'] === false ? undefined : testText,
  };
  const done = await refresh(site, names, options, call.context);
  const told = await sendReport(site, done, reportText(done), call.context);
  return { ...outcome(told.failures), data: { report: told }, text: reportText(told) };
}
