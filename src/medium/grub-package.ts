import { mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import type { PackageEntry } from '../debian/packages.ts';
import { compareVersions } from '../debian/version.ts';
import { digestFile, exists, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { packageFile } from '../image/lock.ts';
import type { Manifest } from '../image/manifest.ts';
import { syncIndices } from '../mirror/indices.ts';
import { fetchPool } from '../mirror/pool.ts';
import { readPackages } from '../mirror/read-packages.ts';
import type { Repository, Site } from '../site/site.ts';
import type { DebianChain } from './debian-grub.ts';
import { efiNames, type GrubPlatform, grubDirectory, grubPlatforms, hasGrub } from './grub.ts';
import type { Shim } from './shim.ts';

/** What packages are taken from: a site's repositories, by way of its mirror; unpacked into its cache. */
export type PackageSource = Pick<Site, 'mirror' | 'cache' | 'repositories'>;

/** The system that a GRUB is to start: it comes from the same repositories. */
type Target = Pick<Manifest, 'image' | 'architecture' | 'repositories' | 'boot'>;

/** Directories with a platform's folder. */
export interface GrubFiles {
  readonly modules: string;
  /** Whole GRUBs of Debian's, of the same version; where the system is for Secure Boot. */
  readonly whole: string | undefined;
  /** What firmware with Microsoft's keys starts; where the system is to start behind it. */
  readonly shim: Shim | undefined;
  /** Debian's own signed GRUB behind it; where the system is to start by Debian's chain alone. */
  readonly debian?: DebianChain;
}

function wantsSecureBoot({ boot }: Target): boolean {
  return boot?.secureBoot !== undefined;
}

/** The newest package of a name in some suites. */
interface Found {
  readonly repository: Repository;
  readonly entry: PackageEntry & { readonly sha256: string };
}

/**
 * Finds GRUB's modules for a platform: on this host, else in the package of the repositories which the image is made
 * from. Debian offers the modules for ARM on ARM alone, but their files serve any host's grub-mkimage (tried: version
 * 2.06 with modules of 2.12).
 *
 * For Secure Boot it is always the one of the repositories: GRUB 2.06 of Debian 12 starts kernels only behind shim.
 *
 * The package is what the mirror's signed indices list; it is unpacked into the cache, by its SHA-256.
 * @throws ReliveError `tool-missing` where neither has them; as `syncIndices` and `fetchPool`
 */
export async function findGrub(
  platform: GrubPlatform,
  source: Partial<PackageSource>,
  target: Target,
  context: Context,
): Promise<GrubFiles> {
  const secure = wantsSecureBoot(target);
  if (!secure && (await hasGrub(platform, grubDirectory)))
    return { modules: grubDirectory, whole: undefined, shim: undefined };
  return await grubOfRepositories(platform, source, target, context);
}

async function grubOfRepositories(
  platform: GrubPlatform,
  { mirror, cache, repositories }: Partial<PackageSource>,
  target: Target,
  context: Context,
): Promise<GrubFiles> {
  const { folder, brings } = grubPlatforms[platform];
  const secure = wantsSecureBoot(target);
  const byDebian = target.boot?.secureBoot === 'debian';
  const behindShim = target.boot?.secureBoot === 'shim' || byDebian;
  const unsigned = brings.replace(/-bin$/, '-unsigned');
  const helpers = `shim-helpers-${target.architecture}-signed`;
  const signed = brings.replace(/-bin$/, '-signed');
  const own = byDebian ? [signed] : [brings, ...(secure ? [unsigned] : [])];
  const needed = [...own, ...(behindShim ? ['shim-signed', helpers] : [])];
  const missing = (cause?: unknown): ReliveError =>
    new ReliveError(
      'tool-missing',
      secure
        ? `the repositories that ${target.image} is from have no GRUB for Secure Boot (${folder})`
        : `GRUB's ${folder} modules are neither on this host nor in the repositories that ${target.image} is from`,
      {
        hint: `relive.yaml must have a repository with ${needed.join(', ')} for ${target.architecture}, by the name that the image knows`,
        cause,
      },
    );
  if (mirror === undefined || cache === undefined || repositories === undefined) throw missing();
  const suites = target.repositories.flatMap(({ name, suite }) => {
    const repository = repositories[name];
    return repository?.suites.includes(suite) === true ? [{ repository, suite }] : [];
  });
  const find = async (name: string): Promise<Found | undefined> =>
    await newest(mirror, suites, name, target.architecture, context);
  const unpack = async (found: Found, file: string): Promise<string> =>
    join(await unpacked({ mirror, cache }, found, join('grub', folder, file), context), 'grub');
  const take = async (found: Found, file: string): Promise<string> =>
    join(await unpacked({ mirror, cache }, found, file, context), file);
  const bringShim = async (): Promise<Shim | undefined> => {
    const [first, second] = [await find('shim-signed'), await find(helpers)];
    const name = efiNames[platform];
    if (first === undefined || second === undefined || name === undefined) return undefined;
    return {
      shim: await take(first, `shim/shim${name}.efi.signed`),
      manager: await take(second, `shim/mm${name}.efi.signed`),
    };
  };
  /** @param again whether to ask upstream for the indices of today */
  const bring = async (again: boolean): Promise<GrubFiles | undefined> => {
    if (again) {
      for (const repository of new Set(suites.map((each) => each.repository)))
        await syncIndices(mirror, repository, {}, context);
    }
    if (byDebian) {
      const [grub, shim] = [await find(signed), await bringShim()];
      const name = efiNames[platform];
      if (grub === undefined || shim === undefined || name === undefined) return undefined;
      const debian = { grub: await take(grub, `grub/${folder}-signed/grub${name}.efi.signed`), shim };
      return { modules: grubDirectory, whole: undefined, shim: undefined, debian };
    }
    const modules = await find(brings);
    if (modules === undefined) return undefined;
    const directory = await unpack(modules, 'kernel.img');
    if (!secure) return { modules: directory, whole: undefined, shim: undefined };
    // Debian 12 has them in the package of the modules.
    const other = await find(unsigned);
    if (other !== undefined && other.entry.version !== modules.entry.version) return undefined;
    const whole = await unpack(other ?? modules, 'monolithic');
    if (!behindShim) return { modules: directory, whole, shim: undefined };
    const shim = await bringShim();
    return shim === undefined ? undefined : { modules: directory, whole, shim };
  };
  try {
    const there = await bring(false);
    if (there !== undefined) return there;
  } catch (error) {
    // Never mirrored here; or listed by indices of yesterday, and replaced upstream since.
    if (!isReliveError(error, 'not-found', 'download-failed')) throw error;
    const now = await bring(true);
    if (now !== undefined) return now;
  }
  throw missing();
}

async function newest(
  mirror: string,
  suites: readonly { readonly repository: Repository; readonly suite: string }[],
  name: string,
  architecture: string,
  context: Context,
): Promise<Found | undefined> {
  let found: Found | undefined;
  for (const { repository, suite } of suites) {
    const take = (entry: PackageEntry): void => {
      const { sha256 } = entry;
      if (entry.package !== name || sha256 === undefined) return;
      if (found === undefined || compareVersions(entry.version, found.entry.version) > 0)
        found = { repository, entry: { ...entry, sha256 } };
    };
    for (const component of repository.components)
      await readPackages(mirror, repository, suite, { component, architecture }, take, context);
  }
  return found;
}

/**
 * Brings a package into the mirror and unpacks it, unless that was done before.
 * @param wanted what it must have below usr/lib
 * @returns its usr/lib
 */
async function unpacked(
  { mirror, cache }: Pick<PackageSource, 'mirror' | 'cache'>,
  { repository, entry }: Found,
  wanted: string,
  context: Context,
): Promise<string> {
  const { filename: path, size, sha256 } = entry;
  const home = join(cache, 'grub');
  const directory = join(home, `${entry.package}-${sha256}`);
  const library = join(directory, 'usr/lib');
  if (await exists(directory)) return library;
  await fetchPool(mirror, repository, [{ path, size, sha256 }], { offline: false }, context);
  const file = packageFile({ mirror }, { repository: repository.name, path });
  // What the mirror took note of may have changed since.
  if ((await digestFile(file, 'sha256', context.signal)).digest !== sha256) {
    throw new ReliveError('corrupt', `${file} is not what the index of ${repository.name} lists`, {
      hint: `relive mirror repair ${repository.name}`,
    });
  }
  await makeDirectories(home);
  const made = await mkdtemp(join(home, '.tmp-'));
  try {
    await run('dpkg-deb', ['--extract', file, made], context);
    if (!(await exists(join(made, 'usr/lib', wanted))))
      throw new ReliveError('corrupt', `${file} has no usr/lib/${wanted}`);
    await rename(made, directory);
  } catch (error) {
    // Another relive was as fast.
    if (systemCode(error) !== 'ENOTEMPTY' && systemCode(error) !== 'EEXIST') throw error;
  } finally {
    await rm(made, { recursive: true, force: true });
  }
  return library;
}
