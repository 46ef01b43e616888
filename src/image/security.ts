import { lstat, mkdir, readFile, readlink, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { type ChangelogEntry, changelogEntries, fixedBetween } from '../debian/changelog.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { digestFile, exists } from '../host/files.ts';
import { run } from '../host/process.ts';
import { readPackages } from '../mirror/read-packages.ts';
import type { LockChanges, LockedPackage, PackageVersion } from '../site/lock.ts';
import type { Profile } from '../site/profile.ts';
import { type Site, suitesFor } from '../site/site.ts';
import { packageFile } from './lock.ts';

/** What a changed package brings for security. */
export interface SecurityChange {
  readonly name: string;
  /** CVE identifiers that its changelog names since the version before; null where that is not known. */
  readonly fixes: readonly string[] | null;
  /** Whether the new version stands in a suite for security updates. */
  readonly fromSecurity: boolean;
}

/** No changelog is as long; a longer one is not read. */
const longestChangelog = 64 * 2 ** 20;

/** A changelog, or the name of the package whose documents a package shares. */
type Changelog = readonly ChangelogEntry[] | string | undefined;

/**
 * The changelog in a package: changelog.Debian.gz, or changelog.gz of a package that is Debian's own (Debian Policy, 12.7).
 * The directory may be a link to that of another package of the same source.
 */
async function changelogOf(file: string, name: string, context: Context): Promise<Changelog> {
  return await withScratchDirectory(tmpdir(), async (scratch) => {
    const tree = join(scratch, 'tree');
    await mkdir(tree);
    await run('dpkg-deb', ['--extract', file, tree], context);
    const directory = join(tree, 'usr/share/doc', name);
    if ((await lstat(directory).catch(() => undefined))?.isSymbolicLink() === true) {
      return basename(await readlink(directory));
    }
    for (const candidate of ['changelog.Debian.gz', 'changelog.gz']) {
      const status = await lstat(join(directory, candidate)).catch(() => undefined);
      if (status?.isFile() !== true) continue;
      const packed = await readFile(join(directory, candidate));
      try {
        return changelogEntries(gunzipSync(packed, { maxOutputLength: longestChangelog }).toString('utf8'));
      } catch (error) {
        // Not gzip, or longer than any: it tells nothing.
        if (!(error instanceof Error && 'code' in error)) throw error;
      }
    }
    return undefined;
  });
}

/** The package's file in the mirror, if it is there and is the one that is locked. */
async function mirrored(site: Site, each: LockedPackage, context: Context): Promise<string | undefined> {
  const file = packageFile(site, each);
  if (!(await exists(file)) || (await stat(file)).size !== each.size) return undefined;
  return (await digestFile(file, 'sha256', context.signal)).digest === each.sha256 ? file : undefined;
}

/** Of these packages the names of those whose version a suite for security updates has. */
async function inSecuritySuites(
  site: Site,
  { repositories, suite, architecture }: Profile,
  packages: readonly LockedPackage[],
  context: Context,
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (const repository of repositories) {
    const ours = packages.filter((each) => each.repository === repository.name);
    const wanted = new Map(ours.map(({ name, version }) => [name, version]));
    const suites = suitesFor(repository, suite).filter((each) => /[-/]security$/.test(each));
    if (wanted.size === 0) continue;
    for (const each of suites) {
      for (const component of repository.components) {
        try {
          await readPackages(
            site.mirror,
            repository,
            each,
            { component, architecture },
            ({ package: name, version }) => {
              if (wanted.get(name) === version) found.add(name);
            },
            context,
          );
        } catch (error) {
          if (!isReliveError(error, 'not-found')) throw error;
        }
      }
    }
  }
  return found;
}

/**
 * What changed packages bring for security, out of the changelogs of those that the mirror has: no network is asked.
 */
export async function securityChanges(
  site: Site,
  profile: Profile,
  { changed }: Pick<LockChanges<PackageVersion>, 'changed'>,
  context: Context,
): Promise<SecurityChange[]> {
  const security = await inSecuritySuites(
    site,
    profile,
    changed.map(({ to }) => to),
    context,
  );
  const changelogs = new Map<string, Changelog>();
  for (const { to } of changed) {
    const file = await mirrored(site, to, context);
    if (file !== undefined) changelogs.set(to.name, await changelogOf(file, to.name, context));
  }
  return changed.map(({ from, to }) => {
    const own = changelogs.get(to.name);
    const entries = typeof own === 'string' ? changelogs.get(own) : own;
    return {
      name: to.name,
      fixes:
        entries === undefined || typeof entries === 'string'
          ? null
          : fixedBetween(entries, from.version, to.version),
      fromSecurity: security.has(to.name),
    };
  });
}
