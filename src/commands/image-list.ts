import { isReliveError } from '../core/error.ts';
import { failedCandidates } from '../image/candidate.ts';
import { pinnedImages } from '../image/remove.ts';
import { listImages, readManifest } from '../image/store.ts';
import { formatBytes, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';

async function candidates(store: string): Promise<CommandResult> {
  const failed = await failedCandidates(store);
  const text = failed.map(({ summary, directory }) => `${summary}\n  ${directory}`).join('\n');
  return {
    ok: true,
    data: { candidates: failed },
    text: failed.length === 0 ? `no image in ${store} has failed its test` : text,
  };
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  if (call.options['candidates'] === true) return await candidates(site.store);
  const rows: string[][] = [['IMAGE', 'KIND', 'SIZE', 'SUITE', 'KERNEL', 'PACKAGES', '']];
  const pinned = await pinnedImages(site.store);
  const images: object[] = [];
  for (const image of await listImages(site.store)) {
    try {
      const { kind, layers, suite, kernel, packages } = await readManifest(image);
      const size = layers.reduce((sum, layer) => sum + layer.size, 0);
      rows.push([
        image.name,
        kind,
        formatBytes(size),
        suite,
        kernel?.version ?? '-',
        String(packages.length),
        pinned.has(image.name) ? 'pinned' : '',
      ]);
      images.push({
        ...image,
        kind,
        size,
        suite,
        kernel: kernel?.version,
        packages: packages.length,
        pinned: pinned.has(image.name),
      });
    } catch (error) {
      if (!isReliveError(error, 'corrupt')) throw error;
      rows.push([image.name, 'damaged', '', '', '', '', '']);
      images.push({ ...image, damaged: true });
    }
  }
  return {
    ok: true,
    data: { images },
    text:
      images.length === 0 ? `no images in ${site.store}: relive build PROFILE makes one` : formatTable(rows),
  };
}
