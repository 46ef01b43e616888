import { removeChannel } from '../image/channel.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadProfile } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { channelName } from './channel-set.ts';
import { type Call, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const name = channelName(requiredArgument(call, 0));
  const profile = requiredArgument(call, 1);
  const site = await loadSite(call.siteDirectory);
  await loadProfile(site, profile);
  await removeChannel(site.store, profile, name);
  return { ok: true, data: { channel: name, profile }, text: `${profile}: the channel ${name} is removed` };
}
