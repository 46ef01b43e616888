import { decideImages, removeDecided } from '../image/prune.ts';
import { formatBytes, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadProfile } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { counted } from './mirror.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const named = manyArguments(call, 0);
  for (const name of named) await loadProfile(site, name);
  const decisions = await decideImages(site, named);
  const data = decisions.map(({ image, keeps, reasons }) => ({ image: image.name, keeps, reasons }));
  if (call.options['plan'] === true) {
    const rows = decisions.map(({ image, keeps, reasons }) => [
      image.name,
      keeps ? 'stays' : 'goes',
      reasons.join(', '),
    ]);
    return { ok: true, data: { decisions: data }, text: formatTable([['IMAGE', '', 'WHY'], ...rows]) };
  }
  const removed = await removeDecided(site, decisions, call.context);
  const kept = decisions.filter(({ keeps }) => keeps).length;
  return {
    ok: true,
    data: { decisions: data, removed },
    text: [
      ...removed.images.map((name) => `${name} removed`),
      `${counted(removed.images.length, 'image')} and ${counted(removed.layers, 'layer')} removed: ${formatBytes(removed.bytes)}; ${kept} kept`,
    ].join('\n'),
  };
}
