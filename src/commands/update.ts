import { tmpdir } from 'node:os';
import { withScratchDirectory } from '../host/anonymous.ts';
import { planUpdate, updateImage } from '../image/update.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadProfile } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { makeImage } from './build.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';
import { changesText } from './lock.ts';

const asks = {
  nothing: 'nothing of a running machine',
  services: 'that services start anew',
  switch: 'that all of user space starts anew',
  reboot: 'a reboot',
} as const;

async function plan(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const profile = await loadProfile(site, requiredArgument(call, 0));
  const options = { offline: call.options['offline'] === true, from: optionValue(call, 'from') };
  const planned = await withScratchDirectory(
    tmpdir(),
    async (scratch) => await planUpdate(site, profile, options, scratch, call.context),
  );
  const { parent, packages, disturbance, profileChanged } = planned;
  const count = packages.added.length + packages.removed.length + packages.changed.length;
  const lines = [
    parent === undefined
      ? `${profile.name} has no image yet: the first one is full`
      : `on ${parent}: ${count === 0 ? 'no package changes' : `${count} packages change`}${profileChanged ? ', the profile is another one' : ''}`,
    ...(parent === undefined || count === 0 ? [] : [changesText(packages)]),
    ...(parent === undefined ? [] : [`the packages ask for ${asks[disturbance]}`]),
  ];
  return { ok: true, data: { plan: planned }, text: lines.join('\n') };
}

export async function run(call: Call): Promise<CommandResult> {
  if (call.options['plan'] === true) return await plan(call);
  const options = {
    offline: call.options['offline'] === true,
    full: call.options['full'] === true,
    from: optionValue(call, 'from'),
  };
  return await makeImage(
    call,
    async (site, profile, context) => await updateImage(site, profile, options, context),
  );
}
