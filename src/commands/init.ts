import { resolve } from 'node:path';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { initSite, shippedProfiles } from '../site/init.ts';
import { shortPath } from '../site/position.ts';
import { type Call, optionalArgument, optionValue } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  if (call.options['list'] === true) {
    const profiles = await shippedProfiles();
    return {
      ok: true,
      data: { profiles },
      text: formatTable([
        ['NAME', 'DESCRIPTION'],
        ...profiles.map(({ name, description }) => [name, description]),
      ]),
    };
  }
  const named = optionalArgument(call, 0);
  const site = await initSite(
    {
      directory: named === undefined ? call.siteDirectory : resolve(named),
      profile: optionValue(call, 'profile') ?? 'demo',
      archive: optionValue(call, 'archive'),
      securityArchive: optionValue(call, 'securityArchive'),
    },
    call.context,
  );
  const enter =
    shortPath(site.directory) === process.cwd() ? [] : [`  cd ${shellWord(shortPath(site.directory))}`];
  return {
    ok: true,
    data: { ...site },
    text: [
      `A new site in ${site.directory}, with the profile ${site.profile}.`,
      `Packages come from ${[site.archive, ...(site.securityArchive === undefined ? [] : [site.securityArchive])].join(' and ')}.`,
      '',
      'Next:',
      ...enter,
      ...[
        [`relive profile show ${site.profile}`, 'what the system will be'],
        ['relive keys create', 'the key that images are signed with'],
        [`relive build ${site.profile}`, 'the first image (as root)'],
      ].map(([command = '', says = '']) => `  ${command.padEnd(30)} # ${says}`),
    ].join('\n'),
  };
}

/** A path as one word of a shell's command line. */
function shellWord(path: string): string {
  return /^[A-Za-z0-9_./+@:-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
