import { bootedImage, pinnedImages, removeImages } from '../image/remove.ts';
import { type Decision, decide, retentionOf } from '../image/retention.ts';
import { listImages } from '../image/store.ts';
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
  const images = (await listImages(site.store)).filter(
    ({ profile }) => named.length === 0 || named.includes(profile),
  );
  const untouchable = { pinned: await pinnedImages(site.store), booted: await bootedImage() };
  const decisions: Decision[] = [];
  for (const profile of new Set(images.map((image) => image.profile))) {
    const own = images.filter((image) => image.profile === profile);
    decisions.push(...decide(own, await retentionOf(site, profile), untouchable));
  }
  const going = decisions.filter(({ keeps }) => !keeps).map(({ image }) => image);
  const data = decisions.map(({ image, keeps, reasons }) => ({ image: image.name, keeps, reasons }));
  if (call.options['plan'] === true) {
    const rows = decisions.map(({ image, keeps, reasons }) => [
      image.name,
      keeps ? 'stays' : 'goes',
      reasons.join(', '),
    ]);
    return { ok: true, data: { decisions: data }, text: formatTable([['IMAGE', '', 'WHY'], ...rows]) };
  }
  const removed = await removeImages(site.store, going, call.context);
  const kept = decisions.length - going.length;
  return {
    ok: true,
    data: { decisions: data, removed },
    text: [
      ...removed.images.map((name) => `${name} removed`),
      `${counted(removed.images.length, 'image')} and ${counted(removed.layers, 'layer')} removed: ${formatBytes(removed.bytes)}; ${kept} kept`,
    ].join('\n'),
  };
}
