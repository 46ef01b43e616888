import { createMedium } from '../medium/create.ts';
import { parseSize, parseVolumes } from '../medium/layout.ts';
import { formatBytes, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';
import { listOption } from './medium.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const size = optionValue(call, 'size');
  const volumes = optionValue(call, 'volume');
  const sectorSize = optionValue(call, 'sectorSize');
  const made = await createMedium(
    site,
    requiredArgument(call, 0),
    {
      bytes: size === undefined ? undefined : parseSize(size, '--size'),
      volumes: volumes === undefined ? [] : parseVolumes(volumes),
      sectorSize: sectorSize === undefined ? undefined : sectorSize === '4096' ? 4096 : 512,
      storeType: optionValue(call, 'filesystem') === 'exfat' ? 'exfat' : 'ext4',
      images: listOption(call, 'image'),
      confirm: call.options['yes'] === true ? async () => await Promise.resolve(true) : call.confirm,
    },
    call.context,
  );
  const rows = made.partitions.map(({ number, name, bytes }) => [`  ${number}`, name, formatBytes(bytes)]);
  const images =
    made.images.length === 0 ? 'no images yet: relive medium sync brings them' : made.images.join(', ');
  return {
    ok: true,
    data: { ...made },
    text: `${made.target}: ${formatBytes(made.bytes)}, ${images}\n${formatTable(rows)}`,
  };
}
