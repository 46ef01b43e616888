import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { syncIndices } from '../mirror/indices.ts';
import { fetchPool } from '../mirror/pool.ts';
import type { MirroredRepository } from '../mirror/repository.ts';
import type { AptSource } from '../rootfs/apt.ts';
import { wantedPackages } from '../rootfs/base.ts';
import { newestPackageTime } from '../rootfs/epoch.ts';
import { fileUri } from '../rootfs/local-repository.ts';
import { type Resolution, type ResolvedPackage, resolvePackages } from '../rootfs/resolve.ts';
import type { Profile } from '../site/profile.ts';
import { type Repository, type Site, suitesFor } from '../site/site.ts';
import { cachedResolution } from './resolution-cache.ts';

/** All that a build works with, brought to this machine and checked. */
export interface Ingredients {
  /** Where each repository lies on the mirror, by name. */
  readonly roots: ReadonlyMap<string, string>;
  /** The repositories at their own addresses, for the finished system. */
  readonly upstream: readonly AptSource[];
  readonly resolution: Resolution;
  readonly suites: readonly {
    readonly name: string;
    readonly suite: string;
    /** ISO 8601. */
    readonly date: string;
    /** SHA-256 of the signed Release. */
    readonly release: string;
  }[];
  /** Seconds since 1970. */
  readonly sourceDateEpoch: number;
}

/**
 * Mirrors the indices of a profile's repositories, resolves its packages and brings them into the mirror.
 * @param options.scratch a directory for files that are needed during the build only
 */
export async function gatherIngredients(
  site: Site,
  profile: Profile,
  options: { readonly offline: boolean; readonly scratch: string },
  context: Context,
): Promise<Ingredients> {
  const mirrored: {
    readonly repository: Repository;
    readonly copy: MirroredRepository;
    readonly keyring: string;
  }[] = [];
  for (const repository of profile.repositories) {
    const copy = await syncIndices(site.mirror, repository, { offline: options.offline }, context);
    mirrored.push({ repository, copy, keyring: await keyringFile(repository, options.scratch) });
  }
  const suites = mirrored.flatMap(({ copy }) =>
    copy.suites.map(({ suite, date, releaseDigest }) => ({
      name: copy.name,
      suite,
      date: date.toISOString(),
      release: releaseDigest,
    })),
  );
  const sources = mirrored.flatMap(({ repository, copy, keyring }) =>
    aptSources(repository, profile.suite, fileUri(copy.root), keyring),
  );
  requireSuite(profile, sources);

  const resolution = await resolve(site, profile, sources, suites, options.scratch, context);
  for (const { repository } of mirrored) {
    const files = resolution.all.filter((each) => each.repository === repository.name);
    await fetchPool(site.mirror, repository, files, { offline: options.offline }, context);
  }
  const roots = new Map(mirrored.map(({ repository, copy }) => [repository.name, copy.root]));
  const files = resolution.all.map((each) => packageFile(roots, each));
  return {
    roots,
    upstream: mirrored.flatMap(({ repository, keyring }) =>
      aptSources(repository, profile.suite, repository.url[0] ?? '', keyring),
    ),
    resolution,
    suites,
    sourceDateEpoch: epochOverride() ?? (await newestPackageTime(files)),
  };
}

/** Where a package's file is on the mirror. */
export function packageFile(
  roots: Ingredients['roots'],
  { repository, path }: Pick<ResolvedPackage, 'repository' | 'path'>,
): string {
  const root = roots.get(repository);
  if (root === undefined) throw new TypeError(`no repository ${repository}`);
  return join(root, path);
}

/** Asks the solver, unless the same was asked before of the same indices. */
async function resolve(
  site: Site,
  profile: Profile,
  sources: readonly AptSource[],
  suites: Ingredients['suites'],
  scratch: string,
  context: Context,
): Promise<Resolution> {
  const started = performance.now();
  const { architecture, recommends } = profile;
  const wanted = wantedPackages(profile);
  const names = wanted.map(({ name }) => name);
  const releases = suites.map(({ name, suite, release }) => [name, suite, release]);
  context.emit({ event: 'stage', stage: 'resolve', state: 'start' });
  const { resolution, cached } = await cachedResolution(
    site.cache,
    { releases, sources, architecture, recommends, names },
    async () =>
      await resolvePackages(
        {
          sources,
          architecture,
          recommends,
          wanted,
          directory: join(scratch, 'apt'),
        },
        context,
      ),
  );
  const seconds = (performance.now() - started) / 1000;
  context.emit({ event: 'stage', stage: 'resolve', state: cached ? 'cached' : 'done', seconds });
  return resolution;
}

function aptSources(repository: Repository, release: string, uri: string, keyring: string): AptSource[] {
  const { name, components } = repository;
  return suitesFor(repository, release).map((suite) => ({
    repository: name,
    uri,
    suite,
    components,
    keyring,
  }));
}

/** apt wants keyrings as files: keys that stand in relive.yaml are written to one. */
async function keyringFile({ name, signedBy }: Repository, scratch: string): Promise<string> {
  if (!signedBy.startsWith('-----BEGIN')) return signedBy;
  const file = join(scratch, `${name}.asc`);
  await writeFile(file, signedBy);
  return file;
}

function requireSuite(profile: Profile, sources: readonly AptSource[]): void {
  if (sources.some(({ suite }) => suite === profile.suite)) return;
  throw new ReliveError(
    'configuration',
    `no repository of the profile ${profile.name} has its suite, ${profile.suite}`,
    {
      hint: `add ${profile.suite} to the suites of a repository in relive.yaml, and the repository to the profile`,
    },
  );
}

/** SOURCE_DATE_EPOCH of the caller (reproducible-builds.org/specs/source-date-epoch), if it is a number. */
function epochOverride(): number | undefined {
  const value = process.env['SOURCE_DATE_EPOCH'];
  if (value === undefined || value === '') return undefined;
  if (/^\d{1,12}$/.test(value)) return Number(value);
  throw new ReliveError('usage', `SOURCE_DATE_EPOCH is not a number of seconds: ${JSON.stringify(value)}`);
}
