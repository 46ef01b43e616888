import { tmpdir } from 'node:os';
import { withScratchDirectory } from '../host/anonymous.ts';
import { planUpdate, type UpdatePlan, updateImage } from '../image/update.ts';
import { type UpdateTest, updateTest } from '../medium/update-test.ts';
import { formatBytes, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadProfile } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { makeImage } from './build.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';
import { testText } from './image-test.ts';
import { changesText } from './lock.ts';

const asks = {
  nothing: 'nothing starts anew',
  services: 'services start anew',
  switch: 'all of user space starts anew',
  reboot: 'a reboot',
} as const;

/** What a plan says of security: the packages with fixes, and those of which nobody knows. */
function securityLines(security: UpdatePlan['security']): string[] {
  const known = security.filter(({ fixes, fromSecurity }) => fromSecurity || (fixes?.length ?? 0) > 0);
  // Packages of one source have one changelog.
  const together = new Map<string, string[]>();
  for (const { name, fixes, fromSecurity } of known) {
    const what = fixes === null ? 'fixes not known: it is not in the mirror' : fixes.join(' ');
    const key = `${fromSecurity ? 'security update' : ''}\t${what}`;
    together.set(key, [...(together.get(key) ?? []), name]);
  }
  const rows = [...together].map(([key, names]) => [`  ${names.join(', ')}`, ...key.split('\t')]);
  const unknown = security.filter(({ fixes, fromSecurity }) => fixes === null && !fromSecurity);
  return [
    ...(rows.length === 0 ? [] : [`security fixes, by the changelogs:\n${formatTable(rows)}`]),
    ...(unknown.length === 0
      ? []
      : [`fixes not known, not in the mirror: ${unknown.map(({ name }) => name).join(', ')}`]),
  ];
}

/** Why there is an image to be made although no package changes. */
function stagesLine(stages: readonly string[]): string {
  if (stages.length === 0) return 'something else than packages differs; all stages are in the cache';
  return `overlay, scripts or profile differ: ${stages.join(', ')} would be made anew`;
}

/** What an update of a profile would bring, in lines. */
export function planText(
  name: string,
  { parent, packages, disturbance, profileChanged, unchanged, stages, security, size }: UpdatePlan,
): string[] {
  if (unchanged) return [`nothing of ${name} changed since its newest image: none would be made`];
  const count = packages.added.length + packages.removed.length + packages.changed.length;
  return [
    parent === undefined
      ? `${name} has no image yet: the first one is full`
      : `on ${parent}: ${count === 0 ? 'no package changes' : `${count} ${count === 1 ? 'package changes' : 'packages change'}`}${profileChanged ? ', the profile is another one' : ''}`,
    ...(parent === undefined || count === 0 ? [] : [changesText(packages)]),
    ...securityLines(security),
    ...(stages === undefined ? [] : [stagesLine(stages)]),
    `at most about ${formatBytes(size.image)} in the store (${size.incremental ? 'a delta' : 'a full image'}, kernel and initrd); ${size.download === 0 ? 'nothing' : formatBytes(size.download)} to download`,
    ...(parent === undefined ? [] : [`on a running machine: ${asks[disturbance]}`]),
  ];
}

async function plan(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const profile = await loadProfile(site, requiredArgument(call, 0));
  const options = { offline: call.options['offline'] === true, from: optionValue(call, 'from') };
  const planned = await withScratchDirectory(
    tmpdir(),
    async (scratch) => await planUpdate(site, profile, options, scratch, call.context),
  );
  return { ok: true, data: { plan: planned }, text: planText(profile.name, planned).join('\n') };
}

export async function run(call: Call): Promise<CommandResult> {
  if (call.options['plan'] === true) return await plan(call);
  const options = {
    offline: call.options['offline'] === true,
    full: call.options['full'] === true,
    from: optionValue(call, 'from'),
  };
  let prepared: UpdateTest | undefined;
  const result = await makeImage(call, async (site, profile, context) => {
    if (call.options['test'] === false) return await updateImage(site, profile, options, context);
    prepared = await updateTest(site, profile, testText);
    return await updateImage(site, profile, { ...options, test: prepared.test }, context);
  });
  const tested = prepared?.result();
  if (tested === undefined) return result;
  // Their consoles went with the candidate.
  const boots = tested.runs.map(({ firmware, accelerator, seconds }) => ({ firmware, accelerator, seconds }));
  return { ...result, data: { ...result.data, test: boots }, text: `${result.text}\n${testText(tested)}` };
}
