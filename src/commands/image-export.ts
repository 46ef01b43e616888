import { ReliveError } from '../core/error.ts';
import { exportBundle } from '../image/bundle-export.ts';
import { exportContainer } from '../image/container.ts';
import { trustedKeys } from '../image/keys.ts';
import { exportIso } from '../medium/export.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite, type Site } from '../site/site.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';
import { counted } from './mirror.ts';

/** Into what an image is made. */
const formats = ['iso', 'oci', 'tar', 'bundle'] as const;

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const [format, ...others] = formats.filter((one) => call.options[one] !== undefined);
  if (format === undefined || others.length > 0) {
    throw new ReliveError('usage', 'image export wants one of --iso, --oci, --tar and --bundle', {
      hint: 'relive image export IMAGE --iso [FILE]',
    });
  }
  if (format !== 'bundle' && call.options['since'] !== undefined) {
    throw new ReliveError('usage', '--since is for bundles: other files need all layers');
  }
  const site = await loadSite(call.siteDirectory);
  const name = requiredArgument(call, 0);
  const value = call.options[format];
  const output = typeof value === 'string' ? value : undefined;
  if (format === 'bundle') return await bundle(call, site, name, output ?? '');
  const { image, file, bytes } =
    format === 'iso'
      ? await exportIso(site, name, output, context)
      : await exportContainer(site.store, name, { format, output: output ?? '' }, context);
  return { ok: true, data: { image, file, bytes }, text: `${file}: ${image}, ${formatBytes(bytes)}` };
}

async function bundle(call: Call, site: Site, name: string, output: string): Promise<CommandResult> {
  const piped = output === '-';
  if (piped && call.options['json'] === true) {
    throw new ReliveError('usage', 'standard output cannot have both the bundle and --json', {
      hint: 'write the bundle to a file',
    });
  }
  const options = { output, since: optionValue(call, 'since'), keyring: await trustedKeys(site) };
  const written = await exportBundle(site.store, name, options, call.context);
  const { image, file, bytes, since, layers } = written;
  const patches = layers.filter(({ as }) => as === 'patch').length;
  const text = [
    `${file}: ${image}`,
    ...(since === undefined ? [] : [`since ${since}`]),
    ...(patches === 0 ? [] : [`${counted(patches, 'layer')} as patches`]),
    formatBytes(bytes),
  ].join(', ');
  // Where the bundle went there is no place for words.
  return { ok: true, data: { ...written }, text: piped ? '' : text };
}
