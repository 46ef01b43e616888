import { ReliveError } from '../core/error.ts';
import { exportContainer } from '../image/container.ts';
import { exportIso } from '../medium/export.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

/** Into what an image is made. */
const formats = ['iso', 'oci', 'tar'] as const;

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const [format, ...others] = formats.filter((one) => call.options[one] !== undefined);
  if (format === undefined || others.length > 0) {
    throw new ReliveError('usage', 'image export wants one of --iso, --oci and --tar', {
      hint: 'relive image export IMAGE --iso [FILE]',
    });
  }
  const site = await loadSite(call.siteDirectory);
  const name = requiredArgument(call, 0);
  const value = call.options[format];
  const output = typeof value === 'string' ? value : undefined;
  const { image, file, bytes } =
    format === 'iso'
      ? await exportIso(site, name, output, context)
      : await exportContainer(site.store, name, { format, output: output ?? '' }, context);
  return { ok: true, data: { image, file, bytes }, text: `${file}: ${image}, ${formatBytes(bytes)}` };
}
