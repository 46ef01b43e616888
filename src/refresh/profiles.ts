import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { comparePackages } from '../image/diff.ts';
import type { Manifest } from '../image/manifest.ts';
import { findImage, newestImage, readManifest } from '../image/store.ts';
import { withTimings } from '../image/timings.ts';
import { updateImage } from '../image/update.ts';
import type { TestResult } from '../medium/test.ts';
import { updateTest } from '../medium/update-test.ts';
import type { Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import { namedContext } from './named.ts';
import { type Failure, failureOf, type ProfileReport } from './report.ts';

/** The manifest of an image, or undefined where it is gone or damaged: what it had nobody can tell then. */
async function manifestOf(site: Site, image: string): Promise<Manifest | undefined> {
  try {
    return await readManifest(await findImage(site.store, image));
  } catch (error) {
    if (isReliveError(error, 'not-found', 'corrupt')) return undefined;
    throw error;
  }
}

function bytesOf(layers: Manifest['layers']): number {
  return layers.reduce((sum, { size }) => sum + size, 0);
}

/** What an image has that another, or none, had not. */
function gainOf(from: Manifest | undefined, to: Manifest): NonNullable<ProfileReport['gained']> {
  const before = new Set(from?.layers.map(({ digest }) => digest));
  return {
    kind: to.kind,
    bytes: bytesOf(to.layers),
    newBytes: bytesOf(to.layers.filter(({ digest }) => !before.has(digest))),
    packages: to.packages.length,
    changes: from === undefined ? [] : comparePackages(from, to),
    kernel: to.kernel?.version,
  };
}

/** A profile, the image that the last report told of, and whether the mirror is to do without a network. */
export interface WantedProfile {
  readonly profile: Profile;
  readonly reported: string | undefined;
  readonly offline: boolean;
  /** What is told of an image that does not pass its test; undefined: images are published without one. */
  readonly test: TestText | undefined;
}

/** Says what a test found. */
export type TestText = (result: TestResult) => string;

/** Makes the next image of a profile, or its first one, where anything differs. */
export async function refreshProfile(
  site: Site,
  { profile, reported, offline, test: textOf }: WantedProfile,
  context: Context,
): Promise<{ readonly report: ProfileReport; readonly failure?: Failure }> {
  const started = performance.now();
  const { name } = profile;
  const newest = await newestImage(site.store, name);
  const base = reported === undefined ? undefined : await manifestOf(site, reported);
  const since = base?.image ?? newest?.name;
  const secondsSince = (): number => (performance.now() - started) / 1000;
  try {
    const before = base ?? (since === undefined ? undefined : await manifestOf(site, since));
    const tested = textOf === undefined ? undefined : await updateTest(site, profile, textOf);
    const options = { offline, full: false, from: undefined, test: tested?.test };
    const { image, manifest } = await withTimings(
      site,
      async (own) => await updateImage(site, profile, options, own),
      namedContext(context, name),
    );
    const isNew = image.name !== since;
    return {
      report: {
        ...{ profile: name, since, image: image.name, seconds: secondsSince() },
        outcome: isNew ? 'new' : 'unchanged',
        gained: isNew ? gainOf(before, manifest) : undefined,
        tests: (tested?.result()?.runs ?? []).map(({ firmware, seconds }) => ({ firmware, seconds })),
      },
    };
  } catch (error) {
    return {
      report: {
        ...{ profile: name, outcome: 'failed', since, gained: undefined, tests: [] },
        ...{ image: newest?.name, seconds: secondsSince() },
      },
      failure: failureOf(`profile ${name}`, error, context),
    };
  }
}
