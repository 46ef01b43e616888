import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { makeDirectories, sha256, writeFileAtomic } from '../host/files.ts';
import { syncIndices } from '../mirror/indices.ts';
import { layoutOf, type MirroredSuite } from '../mirror/repository.ts';
import type { AptSource } from '../rootfs/apt.ts';
import { wantedPackages } from '../rootfs/base.ts';
import { canonicalJson } from '../rootfs/layers.ts';
import { fileUri } from '../rootfs/local-repository.ts';
import { resolvePackages } from '../rootfs/resolve.ts';
import { formatLock, type Lock, lockFile, readLock } from '../site/lock.ts';
import type { Profile } from '../site/profile.ts';
import { type Repository, type Site, suitesFor } from '../site/site.ts';
import { isArmouredKey } from '../site/syntax.ts';

export interface LockOptions {
  readonly offline: boolean;
  /** A directory for files that are needed only meanwhile. */
  readonly scratch: string;
  /** Resolve only, and leave the lock as it is. */
  readonly keep?: boolean;
}

/** A digest of all that a profile asks of the solver, apart from the state of the repositories. */
function wishesOf(profile: Profile): string {
  const { architecture, suite, recommends, repositories } = profile;
  return sha256(
    canonicalJson({
      ...{ architecture, suite, recommends },
      wanted: wantedPackages(profile).map(({ name, why }) => [name, why]),
      repositories: repositories.map((each) => [each.name, suitesFor(each, suite), each.components]),
    }),
  );
}

/** Whether a lock is the answer to what the profile asks today. */
export function lockServes(lock: Lock, profile: Profile): boolean {
  return lock.wishes === wishesOf(profile);
}

/**
 * Resolves a profile against its repositories as they are now, and writes its lock where that changed it and it is not to be kept.
 * @returns the lock before, if there was one, and the lock now
 * @throws ReliveError as `syncIndices` and `resolvePackages`
 */
export async function lockProfile(
  site: Site,
  profile: Profile,
  options: LockOptions,
  context: Context,
): Promise<{ readonly before: Lock | undefined; readonly lock: Lock }> {
  const before = await readLock(site, profile);
  const repositories: Lock['repositories'] = [];
  const sources: AptSource[] = [];
  for (const repository of profile.repositories) {
    const copy = await syncIndices(site.mirror, repository, { offline: options.offline }, context);
    const keyring = await keyringFile(repository, options.scratch);
    sources.push(...aptSources(repository, profile.suite, fileUri(copy.root), keyring));
    repositories.push(...copy.suites.map((suite) => describeSuite(copy.name, suite)));
  }
  requireSuite(profile, sources);
  const wishes = wishesOf(profile);
  const same = canonicalJson(before?.repositories ?? []) === canonicalJson(repositories);
  // The same indices and the same wishes have the same answer.
  if (before !== undefined && same && before.wishes === wishes) return { before, lock: before };

  const started = performance.now();
  context.emit({ event: 'stage', stage: 'resolve', state: 'start' });
  const { architecture, recommends, suite, name } = profile;
  const wanted = wantedPackages(profile);
  const directory = join(options.scratch, `apt-${name}`);
  const { bootstrap, all, reasons } = await resolvePackages(
    { sources, architecture, recommends, wanted, directory },
    context,
  );
  const seconds = (performance.now() - started) / 1000;
  context.emit({ event: 'stage', stage: 'resolve', state: 'done', seconds });
  const lock: Lock = {
    schema: 1,
    profile: name,
    suite,
    architecture,
    wishes,
    repositories,
    bootstrap: bootstrap.map((each) => each.name),
    packages: all.map((each) => ({ ...each, why: reasons.get(each.name) ?? 'profile' })),
  };
  if (options.keep !== true) await writeFileAtomic(lockFile(site, profile), formatLock(lock));
  return { before, lock };
}

function describeSuite(
  name: string,
  { suite, date, releaseDigest }: MirroredSuite,
): Lock['repositories'][number] {
  return { name, suite, date: date.toISOString(), release: releaseDigest };
}

/** The suites of a repository that belong to a release, as sources of apt. */
export function aptSources(
  repository: Repository,
  release: string,
  uri: string,
  keyring: string,
): AptSource[] {
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
export async function keyringFile({ name, signedBy }: Repository, scratch: string): Promise<string> {
  if (!isArmouredKey(signedBy)) return signedBy;
  await makeDirectories(scratch, 0o700);
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

/** Where a package of a lock lies on the mirror. */
export function packageFile(
  site: Pick<Site, 'mirror'>,
  { repository, path }: { readonly repository: string; readonly path: string },
): string {
  return join(layoutOf(site.mirror, { name: repository }).root, path);
}
