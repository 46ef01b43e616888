import { listChannels } from '../image/channel.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const channels = await listChannels(site.store);
  const now = Date.now();
  const rows = channels.map(({ profile, channel, image, serial, expires }) => [
    ...[profile, channel, image, String(serial), expires],
    Date.parse(expires) <= now ? 'expired' : '',
  ]);
  return {
    ok: true,
    data: { channels },
    text:
      rows.length === 0
        ? `no channels in ${site.store}: relive channel set stable IMAGE makes one`
        : formatTable([['PROFILE', 'CHANNEL', 'IMAGE', 'SERIAL', 'EXPIRES', ''], ...rows]),
  };
}
