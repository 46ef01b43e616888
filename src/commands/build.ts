import type { Context } from '../core/event.ts';
import { type BuildResult, buildImage } from '../image/build.ts';
import { type Timing, withTimings } from '../image/timings.ts';
import { formatBytes, formatSeconds, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadProfile, type Profile } from '../site/profile.ts';
import { loadSite, type Site } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

function timingsText(timings: readonly Timing[]): string {
  return formatTable(
    timings.map(({ stage, seconds, cached }) => [stage, cached ? 'cached' : formatSeconds(seconds)]),
  );
}

/** Makes an image, and tells of it and of the time that it took. */
export async function makeImage(
  call: Call,
  make: (site: Site, profile: Profile, context: Context) => Promise<BuildResult>,
): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const profile = await loadProfile(site, requiredArgument(call, 0));
  const { image, manifest, unchanged, timings } = await withTimings(
    site,
    async (context) => await make(site, profile, context),
    call.context,
  );
  const size = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  const added = manifest.layers.findLast(({ role }) => role === 'delta');
  const upon =
    manifest.parent === null || added === undefined
      ? ''
      : `, ${formatBytes(added.size)} of them on ${manifest.parent.image}`;
  const text = unchanged
    ? `nothing changed since ${image.name}, which stays the newest image of ${profile.name}: ${image.directory}`
    : `${image.name}: ${formatBytes(size)} in ${manifest.layers.length} layers${upon}, ${manifest.packages.length} packages, ${manifest.kernel === null ? 'no kernel' : `kernel ${manifest.kernel.version}`}\n${image.directory}`;
  return {
    ok: true,
    data: {
      ...{ image: image.name, directory: image.directory, unchanged, size, layers: manifest.layers },
      ...{ kind: manifest.kind, parent: manifest.parent?.image },
      timings,
    },
    text: call.options['timings'] === true ? `${text}\n${timingsText(timings)}` : text,
  };
}

export async function run(call: Call): Promise<CommandResult> {
  const options = { offline: call.options['offline'] === true, locked: call.options['locked'] === true };
  return await makeImage(
    call,
    async (site, profile, context) => await buildImage(site, profile, options, context),
  );
}
