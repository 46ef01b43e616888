import { ReliveError } from '../core/error.ts';
import { channelPattern, setChannel } from '../image/channel.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';
import { countOption } from './medium.ts';

/** A channel's name from the command line. @throws ReliveError `usage` */
export function channelName(text: string): string {
  if (channelPattern.test(text)) return text;
  throw new ReliveError('usage', `${JSON.stringify(text)} is no name for a channel`, {
    hint: 'small letters, digits and "-", at most 32 of them: stable, testing',
  });
}

export async function run(call: Call): Promise<CommandResult> {
  const name = channelName(requiredArgument(call, 0));
  const days = countOption(call, 'days');
  if (days === undefined) throw new TypeError(`--days has a default: ${optionValue(call, 'days') ?? ''}`);
  const site = await loadSite(call.siteDirectory);
  const channel = await setChannel(site, name, requiredArgument(call, 1), { days }, call.context);
  return {
    ok: true,
    data: { channel },
    text: `${channel.profile}: ${name} is ${channel.image} (serial ${channel.serial}), believed until ${channel.expires}`,
  };
}
