import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { fetchPool } from '../mirror/pool.ts';
import type { AptSource } from '../rootfs/apt.ts';
import { newestPackageTime } from '../rootfs/epoch.ts';
import type { Lock } from '../site/lock.ts';
import { lockFile, readLock } from '../site/lock.ts';
import type { Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import { aptSources, keyringFile, lockProfile, lockServes, packageFile } from './lock.ts';

/** All that a build works with, brought to this machine and checked. */
export interface Ingredients {
  readonly lock: Lock;
  /** The repositories at their own addresses, for the finished system. */
  readonly upstream: readonly AptSource[];
  /** Seconds since 1970. */
  readonly sourceDateEpoch: number;
  /** The same of the packages that the bootstrap installs: profiles which share those share its layer. */
  readonly bootstrapEpoch: number;
}

export interface IngredientOptions {
  /** Use what the mirror has, and no network. */
  readonly offline: boolean;
  /** Insist on a lock that answers what the profile asks. */
  readonly locked: boolean;
  /** Resolve the packages anew, whatever the lock says. */
  readonly renew?: boolean;
  /** A directory for files that are needed during the build only. */
  readonly scratch: string;
}

/** Takes a profile's lock, or makes it, and brings its packages into the mirror. */
export async function gatherIngredients(
  site: Site,
  profile: Profile,
  options: IngredientOptions,
  context: Context,
): Promise<Ingredients> {
  const lock = await currentLock(site, profile, options, context);
  for (const repository of profile.repositories) {
    const files = lock.packages.filter((each) => each.repository === repository.name);
    await fetchPool(site.mirror, repository, files, { offline: options.offline }, context);
  }
  return await ingredientsOf(site, profile, lock, options.scratch);
}

/** What a build out of a lock works with, whose packages are in the mirror. @param scratch as `gatherIngredients` */
export async function ingredientsOf(
  site: Site,
  profile: Profile,
  lock: Lock,
  scratch: string,
): Promise<Ingredients> {
  const upstream: AptSource[] = [];
  for (const repository of profile.repositories) {
    const keyring = await keyringFile(repository, scratch);
    upstream.push(...aptSources(repository, profile.suite, repository.url[0] ?? '', keyring));
  }
  const epochOf = async (packages: Lock['packages']): Promise<number> =>
    epochOverride() ?? (await newestPackageTime(packages.map((each) => packageFile(site, each))));
  return {
    ...{ lock, upstream },
    sourceDateEpoch: await epochOf(lock.packages),
    bootstrapEpoch: await epochOf(lock.packages.filter(({ name }) => lock.bootstrap.includes(name))),
  };
}

/** The lock that is there, where it answers what the profile asks; else a new one. */
async function currentLock(
  site: Site,
  profile: Profile,
  options: IngredientOptions,
  context: Context,
): Promise<Lock> {
  const present = await readLock(site, profile);
  if (present !== undefined && options.renew !== true && lockServes(present, profile)) return present;
  if (options.locked) {
    const why = present === undefined ? 'there is no' : 'the profile asks for other packages than';
    throw new ReliveError('configuration', `${why} ${lockFile(site, profile)}`, {
      hint: `relive lock ${profile.name} resolves the packages and writes it`,
    });
  }
  return (await lockProfile(site, profile, options, context)).lock;
}

/** SOURCE_DATE_EPOCH of the caller (reproducible-builds.org/specs/source-date-epoch), if it is a number. */
function epochOverride(): number | undefined {
  const value = process.env['SOURCE_DATE_EPOCH'];
  if (value === undefined || value === '') return undefined;
  if (/^\d{1,12}$/.test(value)) return Number(value);
  throw new ReliveError('usage', `SOURCE_DATE_EPOCH is not a number of seconds: ${JSON.stringify(value)}`);
}
