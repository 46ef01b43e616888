import { lstat } from 'node:fs/promises';
import { isReliveError } from '../core/error.ts';
import type { Context, Finding } from '../core/event.ts';
import { relationNames } from '../debian/relations.ts';
import { readPackages } from '../mirror/read-packages.ts';
import { wantedPackages } from '../rootfs/base.ts';
import { type OverlayEntry, readOverlay } from '../rootfs/overlay.ts';
import { liveFiles } from '../rootfs/stages/live.ts';
import { readLock } from '../site/lock.ts';
import { nearest } from '../site/nearest.ts';
import type { Position } from '../site/position.ts';
import { findingOf } from '../site/problem.ts';
import type { Profile, ResolvedProfile } from '../site/profile.ts';
import { serviceStates } from '../site/schema.ts';
import { type Site, suitesFor } from '../site/site.ts';
import { wholeUnitName } from '../site/syntax.ts';
import { valueAt } from '../site/yaml.ts';
import { lockServes } from './lock.ts';
import { type PackageContents, packageContents, throughMergedUsr } from './package-files.ts';

/**
 * Finds what would go wrong, or otherwise than meant, when a profile is built: packages that no repository has, overlays
 * that cannot enter a system or hide files of packages, units that nothing brings, users that packages make. Works on
 * the mirror as it is, without a network; warns of what it could not look at.
 */
export async function checkSystem(
  site: Site,
  resolved: ResolvedProfile,
  context: Context,
): Promise<Finding[]> {
  const { profile } = resolved;
  if (profile.boot.secureBoot === 'debian') {
    context.emit({
      event: 'warning',
      message: `${profile.name}: with "secureBoot: debian" only the kernel is sure to be what was signed: whoever can write the medium decides what it starts`,
      hint: '"secureBoot: shim" checks all of it, and wants one enrolment at each machine',
    });
  }
  const findings = await unknownPackages(site, profile, context);
  const overlays: OverlayEntry[] = [];
  for (const overlay of profile.overlays) {
    const { entries, faults } = await readOverlay(overlay);
    overlays.push(...entries);
    findings.push(
      ...faults.map(({ source, detail, hint }) => finding('unsafe-path', source, detail, hint)),
      ...(await foreignOwners(overlay, entries)),
    );
  }
  const lock = await readLock(site, profile);
  if (lock === undefined || !lockServes(lock, profile)) {
    context.emit({
      event: 'warning',
      message: `${profile.name}: units, users and overlays were not compared with the packages: ${lock === undefined ? 'it has no lock' : 'it asks for other packages than its lock'}`,
      hint: `relive lock ${profile.name}`,
    });
    return findings;
  }
  const { contents, missing } = await packageContents(site, lock, context);
  if (missing.length > 0) {
    context.emit({
      event: 'warning',
      message: `${profile.name}: ${missing.length} of ${lock.packages.length} packages are not in the mirror; units, users and overlays were compared with the others only`,
      hint: `relive build ${profile.name} brings them`,
    });
  }
  findings.push(
    ...shadowed(overlays, contents),
    ...(missing.length > 0 ? [] : unknownUnits(resolved, overlays, contents)),
    ...(missing.length > 0 ? [] : unknownProgram(resolved, overlays, contents)),
    ...clashes(resolved, contents),
    ...frozen(resolved, contents),
  );
  return findings;
}

function finding(kind: Finding['kind'], path: string, detail: string, hint?: string): Finding {
  return { event: 'finding', kind, path, detail, ...(hint === undefined ? {} : { hint }) };
}

async function unknownPackages(site: Site, profile: Profile, context: Context): Promise<Finding[]> {
  const names = new Set<string>();
  try {
    for (const repository of profile.repositories) {
      for (const suite of suitesFor(repository, profile.suite)) {
        const components = repository.components.length === 0 ? [''] : repository.components;
        for (const component of components) {
          await readPackages(
            site.mirror,
            repository,
            suite,
            { component, architecture: profile.architecture },
            ({ package: name, more: [provides] }) => {
              names.add(name);
              for (const [virtual] of relationNames(provides ?? '')) {
                if (virtual !== undefined) names.add(virtual);
              }
            },
            context,
            ['Provides'],
          );
        }
      }
    }
  } catch (error) {
    if (!isReliveError(error, 'not-found')) throw error;
    context.emit({
      event: 'warning',
      message: `${profile.name}: the names of its packages were not checked: ${error.message}`,
      hint: error.hint ?? 'relive mirror sync',
    });
    return [];
  }
  return wantedPackages(profile)
    .filter(({ name }) => !names.has(name))
    .map(({ name, from }) => {
      const near = nearest(name, names);
      return finding(
        'unknown',
        from,
        `no repository of the profile has a package ${JSON.stringify(name)}${near === undefined ? '' : `; did you mean ${near}?`}`,
      );
    });
}

/** Entries whose owner says something that would be lost: neither root's nor of whoever has the overlay. */
async function foreignOwners(overlay: string, entries: readonly OverlayEntry[]): Promise<Finding[]> {
  const { uid, gid } = await lstat(overlay);
  return entries
    .filter((entry) => ![0, uid].includes(entry.uid) || ![0, gid].includes(entry.gid))
    .map((entry) =>
      finding(
        'unsuitable',
        entry.source,
        `is owned by ${entry.uid}:${entry.gid}, but everything of an overlay enters the system as root's`,
        'a script after "files", or tmpfiles.d(5) at boot, gives it to somebody else',
      ),
    );
}

/** Files of packages that an overlay replaces: an update of the package would be hidden. Those in /etc are made for it. */
function shadowed(
  overlays: readonly OverlayEntry[],
  contents: ReadonlyMap<string, PackageContents>,
): Finding[] {
  const places = new Map(
    overlays
      .filter(({ kind, path }) => kind !== 'directory' && !path.startsWith('etc/'))
      .map(({ path, source }) => [throughMergedUsr(path), source]),
  );
  return [...contents].flatMap(([name, { files }]) =>
    files.flatMap((path) => {
      const source = places.get(path);
      const detail = `hides /${path} of the package ${name}, and its updates`;
      return source === undefined
        ? []
        : [
            finding(
              'unsuitable',
              source,
              detail,
              'put a drop-in or a file in /etc beside it, or divert it in a script',
            ),
          ];
    }),
  );
}

const unitPlaces = /^(?:usr\/lib|etc)\/systemd\/system\/([^/]+)$|^etc\/init\.d\/([^/]+)$/;

function unknownUnits(
  { profile, located }: ResolvedProfile,
  overlays: readonly OverlayEntry[],
  contents: ReadonlyMap<string, PackageContents>,
): Finding[] {
  // A script may bring any.
  if (profile.scripts.some(({ after }) => after !== 'configure' && after !== 'live')) return [];
  const paths = [
    ...[...contents.values()].flatMap(({ files }) => files),
    ...overlays.filter(({ kind }) => kind !== 'directory').map(({ path }) => throughMergedUsr(path)),
    ...(profile.host === 'container' ? [] : liveFiles),
  ];
  const units = new Set(
    paths.flatMap((path) => {
      const [, unit, script] = unitPlaces.exec(path) ?? [];
      return unit ?? (script === undefined ? [] : `${script}.service`);
    }),
  );
  const wanted: readonly (readonly [readonly string[], readonly string[]])[] = [
    ...serviceStates
      .filter((state) => state !== 'mask')
      .map((state) => [['services', state], profile.services[state]] as const),
    [['boot', 'health', 'units'], profile.boot.health?.units ?? []],
  ];
  return wanted.flatMap(([list, names]) =>
    names.flatMap((unit, index) => {
      const name = wholeUnitName(unit);
      // An instance comes from its template.
      if (units.has(name) || units.has(name.replace(/@[^.]*\./, '@.'))) return [];
      const at = valueAt(located, [...list, index])?.at ?? located.at;
      const text = `no package and no overlay brings ${name}`;
      const path = `${list.join('.')}[${index}]`;
      return [findingOf({ at, path, text, suggestion: nearest(name, units) }, 'missing')];
    }),
  );
}

/** The program of boot.health.script must come from somewhere, or no image would ever be good. */
function unknownProgram(
  { profile, located }: ResolvedProfile,
  overlays: readonly OverlayEntry[],
  contents: ReadonlyMap<string, PackageContents>,
): Finding[] {
  const path = profile.boot.health?.script;
  // A script may bring any, and alternatives are links that maintainer scripts make.
  if (path === undefined || profile.scripts.length > 0) return [];
  const wanted = throughMergedUsr(path.slice(1));
  const at = valueAt(located, ['boot', 'health', 'script'])?.at ?? located.at;
  const say = (text: string): Finding[] => [findingOf({ at, path: 'boot.health.script', text }, 'missing')];
  const own = overlays.findLast((entry) => throughMergedUsr(entry.path) === wanted);
  if (own !== undefined) {
    return own.kind === 'file' && (own.mode & 0o111) === 0 ? say(`${own.source} is not executable`) : [];
  }
  if ([...contents.values()].some(({ files }) => files.includes(wanted))) return [];
  return say(`no package and no overlay brings ${path}`);
}

/** Files of packages below a persistent path: the volume's copies are what counts from the first boot on. Those in /etc are made for it. */
export function frozen(
  { profile, located }: Pick<ResolvedProfile, 'located'> & { readonly profile: Pick<Profile, 'persist'> },
  contents: ReadonlyMap<string, Pick<PackageContents, 'files'>>,
): Finding[] {
  return profile.persist.flatMap(({ path }, index) => {
    if (path.startsWith('/etc/')) return [];
    const below = `${throughMergedUsr(path.slice(1))}/`;
    const names = [...contents].filter(([, { files }]) => files.some((file) => `${file}/`.startsWith(below)));
    if (names.length === 0) return [];
    const at = valueAt(located, ['persist', index, 'path'])?.at ?? located.at;
    const whose = names.map(([name]) => name).join(', ');
    const text = `there are files of ${whose}, which updates of the image will not change any more`;
    return [findingOf({ at, path: `persist[${index}].path`, text }, 'unsuitable')];
  });
}

/** Users that packages make already, and numbers that they take. */
function clashes(
  { profile, located }: ResolvedProfile,
  contents: ReadonlyMap<string, PackageContents>,
): Finding[] {
  const users = owners(contents, ({ users: list }) => list.map(({ name, uid }) => [name, uid]));
  const groups = owners(contents, ({ groups: list }) => list.map(({ name, gid }) => [name, gid]));
  return profile.users.flatMap(({ name, uid }, index) => {
    if (name === 'root') return [];
    const at = (key: string): Position => valueAt(located, ['users', index, key])?.at ?? located.at;
    const say = (key: string, text: string): Finding =>
      findingOf({ at: at(key), path: `users[${index}].${key}`, text });
    const user = users.names.get(name);
    if (user !== undefined) {
      return [say('name', `found ${JSON.stringify(name)}, a user that the package ${user} makes`)];
    }
    const group = groups.names.get(name);
    if (group !== undefined) {
      const text = `found ${JSON.stringify(name)}, a group of the package ${group}: a user's own group bears its name`;
      return [say('name', text)];
    }
    const taken = uid === undefined ? undefined : (users.numbers.get(uid) ?? groups.numbers.get(uid));
    return taken === undefined
      ? []
      : [say('uid', `found ${String(uid)}, a number that the package ${taken} takes`)];
  });
}

/** Which package makes each name, and takes each number; of several the first. */
function owners(
  contents: ReadonlyMap<string, PackageContents>,
  list: (of: PackageContents) => readonly (readonly [string, number | undefined])[],
) {
  const names = new Map<string, string>();
  const numbers = new Map<number, string>();
  for (const [owner, of] of contents) {
    for (const [name, number] of list(of)) {
      if (!names.has(name)) names.set(name, owner);
      if (number !== undefined && !numbers.has(number)) numbers.set(number, owner);
    }
  }
  return { names, numbers };
}
