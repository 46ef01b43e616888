import { inStage } from '../core/event.ts';
import { trustedKeys } from '../image/keys.ts';
import { findImage, listImages } from '../image/store.ts';
import { verifyImage, verifyStage } from '../image/verify.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionalArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const keys = await trustedKeys(site);
  const wanted = optionalArgument(call, 0);
  const images = wanted === undefined ? await listImages(site.store) : [await findImage(site.store, wanted)];
  const lines: string[] = [];
  const read = new Map<string, string>();
  const faults: Record<string, number> = {};
  for (const image of images) {
    const findings = await inStage(
      call.context,
      verifyStage(image),
      async () => await verifyImage(site.store, image, keys, call.context, read),
    );
    faults[image.name] = findings.length;
    lines.push(`${image.name}: ${findings.length === 0 ? 'ok' : `${findings.length} found`}`);
  }
  const ok = Object.values(faults).every((count) => count === 0);
  return { ok, data: { images: faults }, text: lines.join('\n') || `no images in ${site.store}` };
}
