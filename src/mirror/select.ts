import { dirname, join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Release, ReleaseFile } from '../debian/release.ts';
import { isFlat, type Kind, matchesPattern, type Repository } from './repository.ts';

/** One index in all the forms that a Release lists: the best first. */
export interface SelectedIndex {
  readonly kind: Kind;
  /** Its path without the ending of a compression. */
  readonly plain: string;
  /** The forms to try: one of them is needed. */
  readonly forms: readonly ReleaseFile[];
  /** The uncompressed form, which servers seldom have; its digest checks what was decompressed. */
  readonly uncompressed: ReleaseFile | undefined;
  /** Whether the suite is not published without it. */
  readonly required: boolean;
}

/** Endings of compressed indices, those that are preferred first: small, then fast. */
export const compressions = ['.xz', '.zst', '.bz2', '.lzma', '.gz'] as const;

/** Kinds that apt does without, unless the configuration says otherwise. */
const usuallyOptional: readonly Kind[] = ['translations', 'contents', 'dep11', 'cnf', 'pdiff'];

/** The path of an index without the ending of its compression, and that ending. */
export function splitCompression(path: string): { readonly plain: string; readonly ending: string } {
  const ending = compressions.find((known) => path.endsWith(known)) ?? '';
  return { plain: path.slice(0, path.length - ending.length), ending };
}

/** The kind of an index by its path, relative to its suite; undefined for what is no index that is known here. */
export function kindOf(plain: string): { readonly kind: Kind; readonly architecture?: string } | undefined {
  const patterns: readonly [RegExp, Kind][] = [
    [/(?:^|\/)debian-installer\/binary-([^/]+)\/Packages$/, 'udebs'],
    [/(?:^|\/)binary-([^/]+)\/Packages$/, 'packages'],
    [/(?:^|\/)source\/Sources$/, 'sources'],
    [/^Packages$/, 'packages'],
    [/^Sources$/, 'sources'],
    [/(?:^|\/)installer-([^/]+)\/current\/images\/SHA256SUMS$/, 'installer'],
    [/(?:^|\/)i18n\/Translation-[^/]+$/, 'translations'],
    [/(?:^|\/)Contents-(?:udeb-)?([^/.]+)$/, 'contents'],
    [/(?:^|\/)dep11\/Components-([^/]+)\.yml$/, 'dep11'],
    [/(?:^|\/)dep11\/icons-[^/]+\.tar$/, 'dep11'],
    [/(?:^|\/)cnf\/Commands-([^/]+)$/, 'cnf'],
    [/(?:^|\/)(?:binary-([^/]+)|source)\/(?:Packages|Sources)\.diff\/Index$/, 'pdiff'],
  ];
  for (const [pattern, kind] of patterns) {
    const match = pattern.exec(plain);
    if (match !== null) return { kind, ...(match[1] === undefined ? {} : { architecture: match[1] }) };
  }
  return undefined;
}

/** The indices of a Release, each with its forms, by its plain path. */
export function groupIndices(release: Release): Map<string, Omit<SelectedIndex, 'required'>> {
  const plains = new Set([...release.files.keys()].map((path) => splitCompression(path).plain));
  const indices = new Map<string, Omit<SelectedIndex, 'required'>>();
  for (const plain of plains) {
    const known = kindOf(plain);
    if (known === undefined) continue;
    const uncompressed = release.files.get(plain);
    const compressed = compressions.flatMap((ending) => release.files.get(`${plain}${ending}`) ?? []);
    const forms = uncompressed === undefined ? compressed : [...compressed, uncompressed];
    indices.set(plain, { kind: known.kind, plain, forms, uncompressed });
  }
  return indices;
}

/** Whether a repository's configuration asks for an index, which has one of the configured kinds. */
function isWanted(
  plain: string,
  kind: Kind,
  release: Release,
  repository: Repository,
  kinds: readonly Kind[],
): boolean {
  const inComponent = repository.components.some((component) => plain.startsWith(`${component}/`));
  // Contents of a suite as a whole stand beside its components.
  if (!inComponent && !(kind === 'contents' && !plain.includes('/'))) return false;
  const { architecture } = kindOf(plain) ?? {};
  const architectures = repository.architectures.filter((name) => name !== 'all');
  const listsAll = release.architectures.includes('all') && !release.allIsInEveryArchitecture;
  switch (kind) {
    case 'translations': {
      const language = plain.slice(plain.lastIndexOf('/Translation-') + '/Translation-'.length);
      return (repository.languages ?? ['en']).some((pattern) => matchesPattern(language, pattern));
    }
    case 'contents':
      if (plain.includes('Contents-udeb-') && !kinds.includes('udebs')) return false;
      if (architecture === 'source') return kinds.includes('sources');
      if (architecture === 'all') return true;
      break;
    case 'packages':
    case 'udebs':
    case 'dep11':
    case 'cnf':
    case 'installer':
    case 'pdiff':
    case 'sources':
      break;
  }
  if (architecture === undefined) return kind !== 'pdiff' || kinds.includes('sources');
  if (architecture === 'all') return listsAll || repository.architectures.includes('all');
  return architectures.includes(architecture);
}

/**
 * The indices that a repository's configuration asks for.
 * @param what the suite, in words
 * @throws ReliveError `configuration` when the suite has no such component, architecture or no sources
 */
export function selectIndices(
  release: Release,
  repository: Repository,
  suite: string,
  what: string,
): SelectedIndex[] {
  const kinds = repository.kinds ?? ['packages'];
  const optional = repository.optional ?? usuallyOptional;
  const selected: SelectedIndex[] = [];
  for (const index of groupIndices(release).values()) {
    const { kind, plain } = index;
    const wanted = isFlat(suite) ? !plain.includes('/') : isWanted(plain, kind, release, repository, kinds);
    if (kinds.includes(kind) && wanted) selected.push({ ...index, required: !optional.includes(kind) });
  }
  checkComplete(selected, release, repository, suite, what, kinds);
  return selected;
}

/** Every component must have what was asked for: a misspelt one must not look like an empty one. */
function checkComplete(
  selected: readonly SelectedIndex[],
  release: Release,
  repository: Repository,
  suite: string,
  what: string,
  kinds: readonly Kind[],
): void {
  const has = new Set(selected.map(({ plain }) => plain));
  const refuse = (lack: string): ReliveError => {
    const known = [...release.files.keys()].flatMap(
      (path) => /^(.+)\/binary-([^/]+)\/Packages(?:\.\w+)?$/.exec(path)?.slice(1).join(' for ') ?? [],
    );
    return new ReliveError('configuration', `${what} has no ${lack}`, {
      hint: `it has: ${[...new Set(known)].toSorted().join(', ')}`,
    });
  };
  if (isFlat(suite)) {
    if (kinds.includes('packages') && !has.has('Packages')) throw refuse('Packages');
    return;
  }
  for (const component of repository.components) {
    if (kinds.includes('packages')) {
      for (const architecture of repository.architectures) {
        if (!has.has(`${component}/binary-${architecture}/Packages`)) {
          throw refuse(`component ${component} for ${architecture}`);
        }
      }
    }
    if (kinds.includes('sources') && !has.has(`${component}/source/Sources`)) {
      throw refuse(`sources in the component ${component}`);
    }
  }
}

/** The by-hash names of an index, relative to the suite. */
export function byHashPaths(file: {
  readonly path: string;
  readonly sha256?: string | undefined;
  readonly sha512?: string | undefined;
}): string[] {
  const directory = dirname(file.path);
  return [
    ...(file.sha256 === undefined ? [] : [join(directory, 'by-hash/SHA256', file.sha256)]),
    ...(file.sha512 === undefined ? [] : [join(directory, 'by-hash/SHA512', file.sha512)]),
  ];
}
