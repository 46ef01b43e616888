import { ReliveError } from '../core/error.ts';
import { nearest } from '../site/nearest.ts';
import type { Repository, Site } from '../site/site.ts';

/**
 * The repositories of a site by their names; all of them when none is named.
 * @throws ReliveError `not-found`
 */
export function repositoriesOf(site: Site, names: readonly string[]): Repository[] {
  if (names.length === 0) return Object.values(site.repositories);
  return names.map((name) => repositoryOf(site, name));
}

/** One repository of a site. @throws ReliveError `not-found` */
export function repositoryOf(site: Site, name: string): Repository {
  const repository = Object.hasOwn(site.repositories, name) ? site.repositories[name] : undefined;
  if (repository !== undefined) return repository;
  const known = Object.keys(site.repositories);
  const meant = nearest(name, known);
  throw new ReliveError('not-found', `relive.yaml has no repository ${JSON.stringify(name)}`, {
    hint:
      meant === undefined
        ? `it has: ${known.length === 0 ? 'none' : known.join(', ')}`
        : `did you mean ${meant}?`,
  });
}

/** Counts in words: `1 file`, `3 files`. */
export function counted(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
