import { ReliveError } from '../core/error.ts';
import type { Release, ReleaseFile } from '../debian/release.ts';
import type { Repository } from './repository.ts';

/** One index in all the forms that a Release lists: the best first. */
export interface SelectedIndex {
  /** Its path without the ending of a compression. */
  readonly plain: string;
  /** The forms to try: one of them is needed. */
  readonly forms: readonly ReleaseFile[];
  /** The uncompressed form, which servers seldom have; its digest checks what was decompressed. */
  readonly uncompressed: ReleaseFile | undefined;
}

/** Endings of compressed indices, those that are preferred first: small, then fast. */
const compressions = ['.xz', '.zst', '.bz2', '.lzma', '.gz'] as const;

function formsOf(release: Release, plain: string): SelectedIndex {
  const uncompressed = release.files.get(plain);
  const forms = compressions.flatMap((ending) => release.files.get(`${plain}${ending}`) ?? []);
  return { plain, forms: uncompressed === undefined ? forms : [...forms, uncompressed], uncompressed };
}

/**
 * The Packages indices that a repository's configuration asks for: one for each component and architecture, and
 * `binary-all` where it is not contained in the others.
 * @param what the suite, in words
 * @throws ReliveError `configuration` when the suite has no such component or architecture
 */
export function selectPackages(release: Release, repository: Repository, what: string): SelectedIndex[] {
  const selected: SelectedIndex[] = [];
  for (const component of repository.components) {
    for (const architecture of repository.architectures) {
      const index = formsOf(release, `${component}/binary-${architecture}/Packages`);
      if (index.forms.length === 0) {
        const known = [...release.files.keys()].flatMap(
          (path) => /^(.+)\/binary-([^/]+)\/Packages(?:\.\w+)?$/.exec(path)?.slice(1).join(' for ') ?? [],
        );
        throw new ReliveError('configuration', `${what} has no component ${component} for ${architecture}`, {
          hint: `it has: ${[...new Set(known)].toSorted().join(', ')}`,
        });
      }
      selected.push(index);
    }
    const all = formsOf(release, `${component}/binary-all/Packages`);
    const needed = release.architectures.includes('all') && !release.allIsInEveryArchitecture;
    if (needed && all.forms.length > 0 && !repository.architectures.includes('all')) selected.push(all);
  }
  return selected;
}
