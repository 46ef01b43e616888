import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { directoryNames, exists, sha256 } from '../host/files.ts';
import { idleExclusions, mergeProfiles } from './merge.ts';
import { nearest } from './nearest.ts';
import type { Position } from './position.ts';
import { type Checked, type Problem, sortedProblems, valueOrThrow } from './problem.ts';
import {
  effectiveSchema,
  type ProfileDocument,
  profileSchema,
  type scriptPlaces,
  type scriptPoints,
} from './schema.ts';
import { shippedOverlay, shippedProfile } from './shipped.ts';
import { type Repository, type Site, suitesFor } from './site.ts';
import { isArmouredKey, isProfileName, scriptName, timezones } from './syntax.ts';
import { validate } from './validate.ts';
import { entry, type Located, type LocatedMap, readYaml, textItems, valueAt } from './yaml.ts';

const extension = '.yaml';
/** So many exclusions of nothing are shown of one file. */
const mostIdle = 20;

/** A package that a profile asks for, and the line that does. */
export interface WantedPackage {
  readonly name: string;
  readonly at: Position;
}

/** A program of the site that a build runs between two stages. */
export interface Script {
  /** Below scripts/. */
  readonly name: string;
  readonly file: string;
  readonly after: (typeof scriptPoints)[number];
  readonly where: (typeof scriptPlaces)[number];
  readonly timeoutSeconds: number;
  /** The line of the profile that asks for it. */
  readonly at: Position;
}

/** Scripts without a time-out of their own get this one. */
const scriptSeconds = 600;

/** The description of a system, all that it inherits included. */
export interface Profile
  extends Omit<ProfileDocument, 'repositories' | 'packages' | 'overlay' | 'scripts' | 'hostname'> {
  readonly name: string;
  readonly repositories: readonly Repository[];
  readonly packages: readonly WantedPackage[];
  /** Absolute directories, in the order in which they are copied. */
  readonly overlays: readonly string[];
  /** In the order in which those of one point run. */
  readonly scripts: readonly Script[];
  readonly hostname: string;
  /**
   * SHA-256, in hexadecimal, of the effective profile's content as canonical JSON: the name and all values, defaults
   * included but retention, no places in files. Repositories, overlays and scripts count by their names, not by what is in them.
   */
  readonly digest: string;
}

/** An effective profile together with where each of its values comes from. */
export interface ResolvedProfile {
  readonly profile: Profile;
  /** The values, as `profile show` prints them. */
  readonly document: ProfileDocument & { readonly hostname: string };
  /** The same without defaults, each value with its place. */
  readonly located: LocatedMap;
}

/** What a list of profiles tells of one. */
export interface ProfileSummary {
  readonly name: string;
  readonly file: string;
  readonly version?: number | undefined;
  readonly description?: string | undefined;
  readonly suite?: string | undefined;
  readonly architecture?: string | undefined;
  readonly host?: string | undefined;
  readonly extends: readonly string[];
  /** Whether it has all that a build needs; a profile that others extend need not. */
  readonly complete: boolean;
  readonly problems: readonly Problem[];
}

function profileFile(site: Site, name: string): string {
  return join(site.directory, 'profiles', `${name}${extension}`);
}

/** The names of the profiles that a site has, sorted. */
export async function profileNames(site: Site): Promise<string[]> {
  const files = await directoryNames(join(site.directory, 'profiles'));
  return files
    .filter((file) => file.endsWith(extension))
    .map((file) => file.slice(0, -extension.length))
    .filter(isProfileName);
}

/** The files beside the profiles which somebody may take for profiles although their names make them none. */
async function strayFiles(site: Site): Promise<Problem[]> {
  const directory = join(site.directory, 'profiles');
  return (await directoryNames(directory))
    .filter((file) => /\.ya?ml$/i.test(file) && !file.startsWith('.'))
    .filter((file) => !file.endsWith(extension) || !isProfileName(file.slice(0, -extension.length)))
    .map((file) => ({
      at: { file: join(directory, file), line: 1, column: 1 },
      path: '',
      text: 'found a file that is no profile by its name; allowed: NAME.yaml, NAME of small letters and digits, "-" between them, at most 63 characters',
    }));
}

interface ReadProfile {
  readonly name: string;
  readonly file: string;
  /** Absent where the file cannot be read as a map. */
  readonly located?: LocatedMap;
  readonly problems: readonly Problem[];
}

/** A profile that another one extends: of the site, else one that ships with relive. */
async function readParent(site: Site, name: string): Promise<ReadProfile | undefined> {
  return (await readProfile(site, name)) ?? (await readProfile(site, name, shippedProfile(name)));
}

/** Reads one file and checks it against its schema, without what it extends. */
async function readProfile(
  site: Site,
  name: string,
  file = profileFile(site, name),
): Promise<ReadProfile | undefined> {
  const read = await readYaml(file);
  if (read === undefined) return undefined;
  if (!read.ok) return { name, file, problems: read.problems };
  const checked = validate(profileSchema, read.value, candidates);
  const problems = checked.ok ? [] : checked.problems;
  return read.value.kind === 'map' ? { name, file, located: read.value, problems } : { name, file, problems };
}

/** Right spellings of refused texts, where the schema does not know them. */
function candidates(path: readonly PropertyKey[]): readonly string[] {
  return path.at(-1) === 'timezone' ? timezones : [];
}

interface Chain {
  /** Oldest first, each once, the profile itself last. */
  readonly files: readonly ReadProfile[];
  readonly problems: readonly Problem[];
}

/** Follows `extends`, depth first: a profile comes after all that it extends. */
async function readChain(site: Site, name: string): Promise<Chain> {
  const known = await profileNames(site);
  const files = new Map<string, ReadProfile>();
  const problems: Problem[] = [];
  const visit = async (read: ReadProfile, below: readonly string[]): Promise<void> => {
    for (const [index, parent] of textItems(entry(read.located, 'extends')).entries()) {
      const problem = (text: string, suggestion?: string): void => {
        problems.push({ at: parent.at, path: `extends[${index}]`, text, suggestion });
      };
      if (!isProfileName(parent.text) || files.has(parent.text)) continue;
      const cycle = [...below, read.name];
      if (cycle.includes(parent.text)) {
        const around = [...cycle.slice(cycle.indexOf(parent.text)), parent.text].join(' -> ');
        problem(`found a circle: ${around}; allowed: a profile that does not extend this one`);
        continue;
      }
      const above = await readParent(site, parent.text);
      if (above === undefined) {
        problem(
          `found ${JSON.stringify(parent.text)}, which is no profile of this site; allowed: ${listed(known.filter((other) => other !== read.name))}`,
          nearest(
            parent.text,
            known.filter((other) => other !== read.name),
          ),
        );
      } else await visit(above, cycle);
    }
    files.set(read.name, read);
    problems.push(...read.problems);
  };
  const own = await readProfile(site, name);
  if (own === undefined) throw unknownProfile(site, name, known);
  await visit(own, []);
  return { files: [...files.values()], problems };
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? 'none, there are none' : names.join(', ');
}

function unknownProfile(site: Site, name: string, known: readonly string[]): ReliveError {
  const near = nearest(name, known);
  return new ReliveError(
    'not-found',
    `there is no profile ${JSON.stringify(name)} in ${join(site.directory, 'profiles')}${near === undefined ? '' : `; did you mean ${near}?`}`,
    { hint: `the site has: ${listed(known)}` },
  );
}

/** The ancestors of a profile of a chain. */
function ancestors(chain: Chain, of: ReadProfile): LocatedMap[] {
  const names = new Set<string>();
  const collect = (read: ReadProfile | undefined): void => {
    for (const { text } of textItems(entry(read?.located, 'extends'))) {
      if (text === of.name || names.has(text)) continue;
      names.add(text);
      collect(chain.files.find((file) => file.name === text));
    }
  };
  collect(of);
  return chain.files.flatMap(({ name, located }) => {
    return names.has(name) && located !== undefined ? [located] : [];
  });
}

function exclusionProblems(chain: Chain): Problem[] {
  return chain.files.flatMap((file) => {
    if (file.located === undefined) return [];
    const idle = idleExclusions(file.located, ancestors(chain, file)).slice(0, mostIdle);
    return idle.map(({ path, text, at, known }) => ({
      at,
      path,
      text: `found ${JSON.stringify(text)}, which no profile above this one has; allowed: what is inherited`,
      suggestion: nearest(text, known),
    }));
  });
}

/** What a merged profile refers to and the site does not have. */
async function referenceProblems(site: Site, located: LocatedMap): Promise<Problem[]> {
  const problems: Problem[] = [];
  const known = Object.keys(site.repositories);
  for (const [index, { text, at }] of textItems(entry(located, 'repositories')).entries()) {
    const path = `repositories[${index}]`;
    const repository = Object.hasOwn(site.repositories, text) ? site.repositories[text] : undefined;
    if (repository === undefined) {
      problems.push({
        at,
        path,
        text: `found ${JSON.stringify(text)}, which relive.yaml does not have; allowed: ${listed(known)}`,
        suggestion: nearest(text, known),
      });
    } else problems.push(...(await keyringProblems(repository)));
  }
  const overlays = await directoryNames(join(site.directory, 'overlays'));
  for (const [index, { text, at }] of textItems(entry(located, 'overlay')).entries()) {
    // A name that is none is the schema's business.
    if (!isProfileName(text) || (await isDirectory(await overlayDirectory(site, text)))) continue;
    problems.push({
      at,
      path: `overlay[${index}]`,
      text: `found ${JSON.stringify(text)}, but overlays/${text} is no directory; allowed: ${listed(overlays)}`,
      suggestion: nearest(text, overlays),
    });
  }
  return [
    ...problems,
    ...(await scriptProblems(site, located)),
    ...suiteProblems(site, located),
    ...machineProblems(site, located),
  ];
}

function scriptFile(site: Site, name: string): string {
  return join(site.directory, 'scripts', name);
}

/** The files below scripts/ and their modes. */
async function scriptProblems(site: Site, located: LocatedMap): Promise<Problem[]> {
  const list = entry(located, 'scripts');
  const problems: Problem[] = [];
  for (const [index, item] of (list?.kind === 'list' ? list.items : []).entries()) {
    const name = entry(item, 'name');
    if (name?.kind !== 'scalar' || !scriptName.safeParse(name.value).success) continue;
    const text = String(name.value);
    const file = scriptFile(site, text);
    const say = (what: string, suggestion?: string): void => {
      problems.push({ at: name.at, path: `scripts[${index}].name`, text: what, suggestion });
    };
    if (!(await exists(file)) || !(await stat(file)).isFile()) {
      const known = await directoryNames(join(site.directory, 'scripts'));
      say(
        `found ${JSON.stringify(text)}, but scripts/${text} is no file; allowed: ${listed(known)}`,
        nearest(text, known),
      );
    } else if (((await stat(file)).mode & 0o111) === 0) {
      say(`found ${JSON.stringify(text)}, but nobody may execute scripts/${text}: chmod +x ${file}`);
    }
  }
  return problems;
}

/** Where an overlay is: in the site, else with the shipped profile of its name. */
async function overlayDirectory(site: Site, name: string): Promise<string> {
  const own = join(site.directory, 'overlays', name);
  const shipped = shippedOverlay(name);
  return !(await exists(own)) && (await isDirectory(shipped)) ? shipped : own;
}

/** The suite must come from one of the repositories, and nothing may come from a repository in vain. */
function suiteProblems(site: Site, located: LocatedMap): Problem[] {
  const suite = valueAt(located, ['suite']);
  const architecture = valueAt(located, ['architecture']);
  if (suite?.kind !== 'scalar' || typeof suite.value !== 'string') return [];
  const release = suite.value;
  const named = textItems(entry(located, 'repositories')).flatMap(({ text, at }, index) => {
    const repository = Object.hasOwn(site.repositories, text) ? site.repositories[text] : undefined;
    return repository === undefined ? [] : [{ repository, at, index }];
  });
  const problems: Problem[] = [];
  if (named.length > 0 && !named.some(({ repository }) => repository.suites.includes(release))) {
    const offers = named
      .map(({ repository: { name, suites } }) => `${name} (${suites.join(', ')})`)
      .join('; ');
    problems.push({
      at: suite.at,
      path: 'suite',
      text: `found ${JSON.stringify(release)}, which none of the repositories of this profile has: ${offers}`,
    });
  }
  for (const { repository, at, index } of named) {
    const path = `repositories[${index}]`;
    if (suitesFor(repository, release).length === 0) {
      const text = `found ${JSON.stringify(repository.name)}, which has only suites of other releases than ${release}: ${repository.suites.join(', ')}`;
      problems.push({ at, path, text });
    }
    if (
      architecture?.kind === 'scalar' &&
      typeof architecture.value === 'string' &&
      !repository.architectures.includes(architecture.value)
    ) {
      const text = `found ${JSON.stringify(repository.name)}, which has no ${architecture.value} in relive.yaml: ${repository.architectures.join(', ')}`;
      problems.push({ at, path, text });
    }
  }
  return problems;
}

/** The component of Debian's archive with the firmware and the microcode that real machines want. */
const firmwareComponent = 'non-free-firmware';

/** What does not go together with the architecture and with the host. */
function machineProblems(site: Site, located: LocatedMap): Problem[] {
  const architecture = entry(located, 'architecture');
  const suite = entry(located, 'suite');
  const past = architecture?.kind === 'scalar' && architecture.value === 'i386';
  if (past && suite?.kind === 'scalar' && suite.value === 'trixie') {
    const text =
      'found "i386", for which Debian has no kernel any more in trixie; allowed: with "suite: bookworm"';
    return [{ at: architecture.at, path: 'architecture', text }, ...hostProblems(site, located)];
  }
  return hostProblems(site, located);
}

function hostProblems(site: Site, located: LocatedMap): Problem[] {
  const host = valueAt(located, ['host']);
  if (host?.kind !== 'scalar') return [];
  if (host.value === 'container') {
    return ['boot', 'keyboard', 'image.initrd', 'persist', 'luks', 'identity'].flatMap((path) => {
      const value = valueAt(located, path.split('.'));
      const text = `found settings for a machine, but the host is a container, which has no boot, no console and its volumes from outside`;
      return value === undefined ? [] : [{ at: value.at, path, text }];
    });
  }
  return [...lzmaProblems(located), ...firmwareProblems(site, located, host)];
}

/** Layers are mounted by the kernel that boots, which never could read these, unless they are unpacked into RAM. */
function lzmaProblems(located: LocatedMap): Problem[] {
  const path = ['image', 'compression', 'algorithm'];
  const algorithm = valueAt(located, path);
  const ram = valueAt(located, ['boot', 'ram']);
  const unpacked = ram?.kind === 'scalar' && ram.value === 'unpacked';
  if (algorithm?.kind !== 'scalar' || algorithm.value !== 'lzma' || unpacked) return [];
  const text =
    'found "lzma", which only unsquashfs reads: the kernel cannot mount such layers; allowed: gzip, lzo, lz4, xz (the nearest), zstd, or lzma with "boot: {ram: unpacked}" and in containers';
  return [{ at: algorithm.at, path: path.join('.'), text }];
}

function firmwareProblems(site: Site, located: LocatedMap, host: Located): Problem[] {
  if (host.kind !== 'scalar') return [];
  const named = textItems(entry(located, 'repositories')).flatMap(({ text }) => {
    return Object.hasOwn(site.repositories, text) ? [site.repositories[text]] : [];
  });
  const has = named.some((repository) => repository?.components.includes(firmwareComponent) === true);
  if (host.value !== 'bare-metal' || named.length === 0 || has) return [];
  const text = `found "bare-metal", which takes firmware from the component ${firmwareComponent}; none of the repositories has it: add it to "components" in relive.yaml`;
  return [{ at: host.at, path: 'host', text }];
}

async function keyringProblems({ name, signedBy, signedByAt }: Repository): Promise<Problem[]> {
  if (isArmouredKey(signedBy) || (await exists(signedBy))) return [];
  const install = signedBy.startsWith('/usr/share/keyrings/debian-')
    ? '; apt-get install debian-archive-keyring brings those of Debian'
    : '';
  const text = `found ${JSON.stringify(signedBy)}, which does not exist; allowed: an existing keyring${install}`;
  return [{ at: signedByAt, path: `repositories.${name}.signedBy`, text }];
}

async function isDirectory(path: string): Promise<boolean> {
  return (await exists(path)) && (await stat(path)).isDirectory();
}

/** JSON with the keys of maps sorted, so that the same content has the same bytes. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function makeProfile(
  site: Site,
  name: string,
  document: ResolvedProfile['document'],
  located: LocatedMap,
  overlays: readonly string[],
): Profile {
  const { repositories, packages, overlay: _, scripts, ...rest } = document;
  return {
    ...rest,
    name,
    repositories: repositories.flatMap((repository) => site.repositories[repository] ?? []),
    packages: packages.map((wanted, index) => ({
      name: wanted,
      at: valueAt(located, ['packages', index])?.at ?? located.at,
    })),
    overlays,
    scripts: scripts.map((script, index) => ({
      name: script.name,
      file: scriptFile(site, script.name),
      after: script.after,
      where: script.where ?? 'system',
      timeoutSeconds: script.timeout ?? scriptSeconds,
      at: valueAt(located, ['scripts', index, 'name'])?.at ?? located.at,
    })),
    // How long images stay changes none.
    digest: sha256(canonicalJson({ ...document, retention: undefined, name })),
  };
}

interface Examined {
  readonly chain: Chain;
  /** Problems of the files and of what they refer to. */
  readonly problems: readonly Problem[];
  /** Problems of the whole: what a build needs and nobody gave. */
  readonly incomplete: readonly Problem[];
  readonly resolved?: ResolvedProfile;
}

/** Reads a profile with all it extends and finds everything that is wrong with it. */
async function examine(site: Site, name: string): Promise<Examined> {
  const chain = await readChain(site, name);
  const own = chain.files.at(-1);
  const maps = chain.files.flatMap(({ located }) => (located === undefined ? [] : [located]));
  const located = own?.located === undefined ? undefined : mergeProfiles(maps);
  if (located === undefined) return { chain, problems: chain.problems, incomplete: [] };
  const problems = sortedProblems([
    ...chain.problems,
    ...exclusionProblems(chain),
    ...(await referenceProblems(site, located)),
  ]);
  const checked = validate(effectiveSchema, located, candidates);
  // What the files' own schema says already is not said again.
  const said = new Set(
    problems.map(({ at, path }) => `${at.file}:${at.line}:${at.column}:${withoutIndices(path)}`),
  );
  const incomplete = (checked.ok ? [] : checked.problems).filter(
    ({ at, path }) => !said.has(`${at.file}:${at.line}:${at.column}:${withoutIndices(path)}`),
  );
  if (!checked.ok || problems.length > 0) return { chain, problems, incomplete };
  const document = { ...checked.value, hostname: checked.value.hostname ?? name };
  const overlays = await Promise.all(
    document.overlay.map(async (overlay) => await overlayDirectory(site, overlay)),
  );
  const profile = makeProfile(site, name, document, located, overlays);
  return { chain, problems, incomplete, resolved: { profile, document, located } };
}

/** The path without indices, which differ between a file and the merged whole. */
function withoutIndices(path: string): string {
  return path.replaceAll(/\[[0-9]+\]/g, '');
}

function outcome({ problems, incomplete, resolved }: Examined): Checked<ResolvedProfile> {
  if (resolved !== undefined) return { ok: true, value: resolved };
  return { ok: false, problems: [...problems, ...incomplete] };
}

/**
 * Reads a profile with all it inherits, and where each value comes from.
 * @throws ReliveError `not-found`, or `configuration` with every problem
 */
export async function resolveProfile(site: Site, name: string): Promise<ResolvedProfile> {
  if (!isProfileName(name)) throw unknownProfile(site, name, await profileNames(site));
  return valueOrThrow(outcome(await examine(site, name)));
}

/**
 * Reads a profile with all it inherits.
 * @throws ReliveError `not-found`, or `configuration` with every problem
 */
export async function loadProfile(site: Site, name: string): Promise<Profile> {
  return (await resolveProfile(site, name)).profile;
}

function summarise({ chain, problems, incomplete, resolved }: Examined): ProfileSummary {
  const own = chain.files.at(-1);
  const text = (key: string): string | undefined => {
    const value = entry(own?.located, key);
    return value?.kind === 'scalar' && typeof value.value === 'string' ? value.value : undefined;
  };
  const version = entry(own?.located, 'version');
  return {
    name: own?.name ?? '',
    file: own?.file ?? '',
    version: version?.kind === 'scalar' && typeof version.value === 'number' ? version.value : undefined,
    description: resolved?.profile.description ?? text('description'),
    suite: resolved?.profile.suite ?? text('suite'),
    architecture: resolved?.profile.architecture ?? text('architecture'),
    host: resolved?.profile.host ?? text('host'),
    extends: textItems(entry(own?.located, 'extends')).map(({ text: parent }) => parent),
    complete: problems.length === 0 && incomplete.length === 0,
    problems,
  };
}

/** Every profile of a site, by name; what is wrong with one is part of its summary and no error. */
export async function listProfiles(site: Site): Promise<ProfileSummary[]> {
  return await Promise.all(
    (await profileNames(site)).map(async (name) => summarise(await examine(site, name))),
  );
}

/**
 * Finds everything wrong with profiles: their files, what they extend and what they refer to. A profile that another one
 * extends need not be complete.
 * @param names the profiles; all of the site when empty
 * @returns the names that were checked, the problems in the order of files and lines, and the profiles without any
 * @throws ReliveError `not-found` for a name that is no profile's
 */
export async function checkProfiles(
  site: Site,
  names: readonly string[],
): Promise<{
  readonly checked: readonly string[];
  readonly problems: readonly Problem[];
  /** Those of the checked ones that a build could take. */
  readonly good: readonly ResolvedProfile[];
}> {
  const known = await profileNames(site);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw unknownProfile(site, unknown, known);
  const examined = await Promise.all(known.map(async (name) => await examine(site, name)));
  const parents = new Set(
    examined.flatMap(({ chain }) =>
      textItems(entry(chain.files.at(-1)?.located, 'extends')).map(({ text }) => text),
    ),
  );
  const checked = names.length === 0 ? known : [...new Set(names)];
  const problems = examined
    .filter((_, index) => checked.includes(known[index] ?? ''))
    .flatMap(({ chain, problems: wrong, incomplete }) => {
      return parents.has(chain.files.at(-1)?.name ?? '') ? wrong : wrong.concat(incomplete);
    });
  const good = examined.flatMap(({ resolved }) => {
    return resolved !== undefined && checked.includes(resolved.profile.name) ? [resolved] : [];
  });
  const stray = names.length === 0 ? await strayFiles(site) : [];
  return { checked, problems: sortedProblems([...problems, ...stray]), good };
}
