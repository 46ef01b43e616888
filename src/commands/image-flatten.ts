import { flattenImage } from '../image/flatten.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const { image, manifest, unchanged } = await flattenImage(site, requiredArgument(call, 0), call.context);
  const { layers } = manifest;
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  return {
    ok: true,
    data: { image: image.name, directory: image.directory, unchanged, size, layers },
    text: unchanged
      ? `${image.name} is flat: it has no deltas, so no image was made`
      : `${image.name}: ${formatBytes(size)} in ${layers.length} layers\n${image.directory}`,
  };
}
