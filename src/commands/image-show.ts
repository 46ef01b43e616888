import { boots, layerFile } from '../image/manifest.ts';
import { findImage, readManifest } from '../image/store.ts';
import { readTimings } from '../image/timings.ts';
import { formatBytes, formatSeconds, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

function row(what: string, is: string): [string, string] {
  return [what, is];
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const image = await findImage(site.store, requiredArgument(call, 0));
  const manifest = await readManifest(image);
  const timings = await readTimings(site.cache, image.name);
  const { profile, layers, repositories } = manifest;
  const rows: [string, string][] = [
    ['image', `${manifest.image} (${manifest.kind}, serial ${manifest.serial})`],
    ['directory', image.directory],
    [
      'profile',
      `${profile.name} version ${profile.version}${profile.commit === null ? '' : `, commit ${profile.commit}`}`,
    ],
    ['system', `Debian ${manifest.suite}, ${manifest.architecture}, ${manifest.host}`],
    ...(boots(manifest)
      ? [
          row(
            'kernel',
            `${manifest.kernel.version}, ${formatBytes(manifest.kernel.size)}; initrd ${formatBytes(manifest.initrd.size)}`,
          ),
          row('kernel line', manifest.boot.parameters.join(' ') || '(nothing beside what boots it)'),
          row('boot check', manifest.boot.verify),
        ]
      : []),
    ...layers.map((layer): [string, string] => [
      `${layer.role} layer`,
      `${layerFile(layer)}, ${formatBytes(layer.size)}, ${layer.compression}`,
    ]),
    ['tree', `sha256:${manifest.tree}`],
    ...repositories.map(({ name, suite, date }): [string, string] => [
      'repository',
      `${name} ${suite} of ${date}`,
    ]),
    ['times', `none later than ${new Date(manifest.sourceDateEpoch * 1000).toISOString()}`],
    ['made by', `relive ${manifest.relive}`],
    ['packages', String(manifest.packages.length)],
    ...(timings ?? []).map(({ stage, seconds, cached }): [string, string] => [
      stage === 'total' ? 'built in' : `  ${stage}`,
      cached ? 'cached' : formatSeconds(seconds),
    ]),
  ];
  const packages =
    call.options['packages'] === true
      ? `\n${formatTable(manifest.packages.map((each) => [each.name, each.version, each.architecture, each.repository]))}`
      : '';
  return {
    ok: true,
    data: { directory: image.directory, manifest, timings },
    text: `${formatTable(rows)}${packages}`,
  };
}
