import { ReliveError } from '../core/error.ts';
import { exportIso } from '../medium/export.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const iso = call.options['iso'];
  if (iso === undefined) {
    throw new ReliveError('usage', 'image export does not know what to write', {
      hint: 'relive image export IMAGE --iso [FILE]',
    });
  }
  const { image, file, bytes } = await exportIso(
    await loadSite(call.siteDirectory),
    requiredArgument(call, 0),
    typeof iso === 'string' ? iso : undefined,
    call.context,
  );
  return { ok: true, data: { image, file, bytes }, text: `${file}: ${image}, ${formatBytes(bytes)}` };
}
