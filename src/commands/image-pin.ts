import { pinImage } from '../image/remove.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

/** Pins an image, or takes its pin away. */
export async function setPin(call: Call, pinned: boolean): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const { name } = await pinImage(site.store, requiredArgument(call, 0), pinned);
  return { ok: true, data: { image: name, pinned }, text: `${name} ${pinned ? 'stays' : 'may go'}` };
}

export async function run(call: Call): Promise<CommandResult> {
  return await setPin(call, true);
}
