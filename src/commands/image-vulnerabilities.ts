import { readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import {
  knownVulnerabilities,
  parseTrackerData,
  type TrackerAnswer,
  type Vulnerability,
} from '../debian/security-tracker.ts';
import { type ImagePackage, packagesInImage } from '../image/installed.ts';
import { trustedKeys } from '../image/keys.ts';
import type { Manifest } from '../image/manifest.ts';
import { findImage, readManifest } from '../image/store.ts';
import { requireIntact } from '../image/verify.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';

/** The whole of Debian's is some 70 MB; what is larger than this no string of Node.js holds. */
const largest = 480 * 2 ** 20;
const download = 'https://security-tracker.debian.org/tracker/data/json';

/** The manifest of the image that the first argument names, and what is installed in it; a damaged image is refused. */
export async function inspectImage(
  call: Call,
): Promise<{ readonly manifest: Manifest; readonly packages: readonly ImagePackage[] }> {
  const site = await loadSite(call.siteDirectory);
  const image = await findImage(site.store, requiredArgument(call, 0));
  const hint = `relive image verify ${image.name} names every file that is wrong`;
  await requireIntact(site.store, image, await trustedKeys(site), hint, call.context);
  const manifest = await readManifest(image);
  return { manifest, packages: await packagesInImage(site.store, manifest, tmpdir(), call.context) };
}

/** What the tracker's data in a file say of the packages of an image. */
export async function askTracker(
  file: string,
  { suite, image }: Manifest,
  packages: readonly ImagePackage[],
): Promise<TrackerAnswer> {
  const path = resolve(file);
  if (packages.length === 0) {
    throw new ReliveError('usage', `${image} has no dpkg that would know its packages`);
  }
  try {
    if ((await stat(path)).size > largest) throw new ReliveError('corrupt', `${file} is too large`);
    return knownVulnerabilities(parseTrackerData(await readFile(path, 'utf8'), file), suite, packages, file);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError('not-found', `there is no ${file}`, { hint: `fetch it: ${download}` });
  }
}

/** One issue a line, those that no version of the release has fixed last. */
function rowOf({ name, source, version, fixed, urgency, note }: Vulnerability): string[] {
  return [name, source, version, fixed ?? '-', urgency, note ?? ''];
}

export async function run(call: Call): Promise<CommandResult> {
  const file = optionValue(call, 'tracker');
  if (file === undefined) {
    throw new ReliveError('usage', "--tracker is wanted: a file with the data of Debian's security tracker", {
      hint: `fetch it: ${download}`,
    });
  }
  const { manifest, packages } = await inspectImage(call);
  const { found, undetermined } = await askTracker(file, manifest, packages);
  const all = call.options['all'] === true;
  // Those that Debian calls unimportant harm nobody who uses its packages as they are.
  const important = found.filter(({ urgency }) => urgency !== 'unimportant');
  const fixable = found.filter(({ fixed }) => fixed !== undefined);
  const shown = (all ? found : important).toSorted(
    (a, b) => Number(a.fixed === undefined) - Number(b.fixed === undefined),
  );
  const summary = `${manifest.image}: ${important.length} known vulnerabilities, ${fixable.length} of them fixed by an update; besides ${found.length - important.length} unimportant, ${undetermined} undetermined`;
  const head = ['ISSUE', 'SOURCE', 'VERSION', 'FIXED IN', 'URGENCY', ''];
  return {
    ok: important.length === 0,
    data: { image: manifest.image, vulnerabilities: shown, fixable: fixable.length, undetermined },
    text: shown.length === 0 ? summary : `${formatTable([head, ...shown.map(rowOf)])}\n${summary}`,
  };
}
