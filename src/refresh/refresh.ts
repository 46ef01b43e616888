import { join } from 'node:path';
import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { inParallel } from '../core/parallel.ts';
import { version } from '../core/version.ts';
import { takeLock } from '../host/lock.ts';
import { decideImages, removeDecided } from '../image/prune.ts';
import { listProfiles, loadProfile, type Profile } from '../site/profile.ts';
import type { Repository, Site } from '../site/site.ts';
import { refreshMedium } from './media.ts';
import { refreshMirror } from './mirrors.ts';
import { refreshProfile, type TestText } from './profiles.ts';
import { type Failure, failureOf, type ProfileReport, type RefreshReport } from './report.ts';
import { readReported } from './state.ts';

export interface RefreshOptions {
  /** Use what the mirrors have, and no network. */
  readonly offline: boolean;
  /** How many profiles are built at a time. */
  readonly jobs: number;
  /** What is told of an image that does not pass its test; undefined: images are published without one. */
  readonly test: TestText | undefined;
}

/** The profiles of a refresh. */
export interface ChosenProfiles {
  readonly good: readonly Profile[];
  /** Those whose files have a fault, and which fault. */
  readonly broken: readonly string[];
  readonly failures: readonly Failure[];
}

/**
 * Reads the profiles that are wanted: those that are named, else all of the site that can be built. What is wrong with
 * one keeps no other from being taken.
 * @throws ReliveError `not-found` for a name that no profile has
 */
export async function chooseProfiles(
  site: Site,
  names: readonly string[],
  context: Context,
): Promise<ChosenProfiles> {
  // Those that are there for others to extend are incomplete without a fault.
  const all =
    names.length > 0
      ? []
      : (await listProfiles(site)).filter(({ complete, problems }) => complete || problems.length > 0);
  const good: Profile[] = [];
  const broken: string[] = [];
  const failures: Failure[] = [];
  for (const name of names.length > 0 ? new Set(names) : all.map((each) => each.name)) {
    try {
      good.push(await loadProfile(site, name));
    } catch (error) {
      if (isReliveError(error, 'not-found')) throw error;
      broken.push(name);
      failures.push(failureOf(`profile ${name}`, error, context));
    }
  }
  return { good, broken, failures };
}

/** The repositories that profiles take packages from, each once. */
export function repositoriesOf(profiles: readonly Profile[]): Repository[] {
  const byName = new Map(
    profiles.flatMap(({ repositories }) => repositories.map((each) => [each.name, each])),
  );
  return [...byName.values()];
}

function failedProfile(profile: string): ProfileReport {
  const nothing = { image: undefined, since: undefined, gained: undefined, tests: [], seconds: 0 };
  return { profile, outcome: 'failed', ...nothing };
}

async function prune(
  site: Site,
  profiles: readonly Profile[],
  context: Context,
): Promise<Pick<RefreshReport, 'pruned'> & { readonly failure?: Failure }> {
  const nothing = { images: [], layers: 0, bytes: 0 };
  if (profiles.length === 0) return { pruned: nothing };
  try {
    const names = profiles.map(({ name }) => name);
    return { pruned: await removeDecided(site, await decideImages(site, names), context) };
  } catch (error) {
    return { pruned: nothing, failure: failureOf('prune', error, context) };
  }
}

/**
 * Brings a site up to date: the mirrors that its profiles need, an image of each profile where anything changed, the media
 * that are attached, and away what retention lets go. What fails keeps nothing else from being done, and is told. What was
 * finished is not done again: a run that was cut off is finished by the next one. Must run inside the private namespaces.
 * @param names profiles; all that can be built where none is named
 * @throws ReliveError `not-found` for a name that no profile has; `locked` while another refresh of the site runs
 */
export async function refresh(
  site: Site,
  names: readonly string[],
  { offline, jobs, test }: RefreshOptions,
  context: Context,
): Promise<RefreshReport> {
  const started = Date.now();
  const lock = await takeLock(join(site.cache, '.refresh.lock'), `the site ${site.directory}`, context, {
    wait: false,
  });
  try {
    const chosen = await chooseProfiles(site, names, context);
    const failures = [...chosen.failures];
    const mirrors = [];
    for (const repository of repositoriesOf(chosen.good))
      mirrors.push(await refreshMirror(site, repository, offline, context));
    failures.push(...mirrors.flatMap((each) => each.failures));
    const behind = new Set(mirrors.filter(({ current }) => !current).map(({ report }) => report.repository));

    const reported = await readReported(site);
    const profiles = await inParallel(chosen.good, jobs, async (profile) => {
      const alone = offline || profile.repositories.some(({ name }) => behind.has(name));
      const wanted = { profile, reported: reported[profile.name], offline: alone, test };
      return await refreshProfile(site, wanted, context);
    });
    failures.push(...profiles.flatMap(({ failure }) => failure ?? []));

    const media = [];
    for (const medium of site.refresh.media) media.push(await refreshMedium(site, medium, context));
    failures.push(...media.flatMap(({ failure }) => failure ?? []));

    const { pruned, failure } = await prune(site, chosen.good, context);
    if (failure !== undefined) failures.push(failure);
    const reports = [...profiles.map(({ report }) => report), ...chosen.broken.map(failedProfile)].toSorted(
      (a, b) => (a.profile < b.profile ? -1 : 1),
    );
    const fine = reports.some(({ outcome }) => outcome === 'new') ? 'new' : 'unchanged';
    return {
      ...{ schema: 1, relive: version, site: site.directory },
      ...{ started: new Date(started).toISOString(), seconds: (Date.now() - started) / 1000 },
      outcome: failures.length > 0 ? 'failed' : fine,
      mirrors: mirrors.map(({ report }) => report),
      profiles: reports,
      media: media.map(({ report }) => report),
      ...{ pruned, failures },
    };
  } finally {
    await lock.release();
  }
}
