import { dirname, join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context } from '../core/event.ts';
import { safePath } from '../debian/path.ts';
import { type Lock, takeLock } from '../host/lock.ts';
import type { Repository as SiteRepository } from '../site/site.ts';

/** A repository as relive.yaml describes it (src/site/schema.ts tells what the keys mean, and what holds unless they are given). */
export type Repository = Omit<SiteRepository, 'signedByAt'>;
/** A rule of apt that a repository may be let off, by name; each use is warned about. */
export type Override = NonNullable<Repository['override']>[number];
/** What a repository holds, by kind; each can be mirrored or left out. */
export type Kind = NonNullable<Repository['kinds']>[number];
/** Which packages a mirror holds: those that match one of the lists; an empty filter matches nothing. */
export type Filters = NonNullable<Repository['filters']>;
/** The programs that can fetch in our place; what they bring is verified before it is published. */
export type Engine = NonNullable<Repository['engine']>;

/** One published suite of a mirror. */
export interface MirroredSuite {
  /** As relive.yaml and apt's sources name it: the directory below `dists`. */
  readonly suite: string;
  readonly codename: string | undefined;
  readonly date: Date;
  /** SHA-256 of the signed file (InRelease, or Release where upstream has none). */
  readonly releaseDigest: string;
}

/** A mirror of a repository, as it is on disk. */
export interface MirroredRepository {
  readonly name: string;
  /** MIRROR/NAME: usable as a `file:` source of apt. */
  readonly root: string;
  readonly suites: readonly MirroredSuite[];
  readonly components: readonly string[];
  readonly architectures: readonly string[];
  /** The path of the keyring for apt's `signed-by`. */
  readonly keyring: string;
}

/** Where things of a repository are in a mirror (docs/design.md, "Mirror"). */
export interface Layout {
  readonly root: string;
  readonly dists: string;
  /** Generations of suites, and what is on its way to become one. */
  readonly suites: string;
  /** Pool files whose path lies below `dists`: each generation of their suite has a link to them. */
  readonly below: string;
  /** Where damaged files are kept that were replaced. */
  readonly quarantine: string;
  readonly snapshots: string;
  /** Index files that were fetched and belong to no generation yet, named by their digest. */
  readonly incoming: string;
  /** What relive remembers about the repository. */
  readonly state: string;
  /** The one writer's lock of the whole mirror. */
  readonly lock: string;
}

/**
 * Where a repository is in a mirror.
 * @throws ReliveError `configuration` for a name that cannot be a directory's
 */
export function layoutOf(mirrorDirectory: string, repository: Pick<Repository, 'name'>): Layout {
  const { name } = repository;
  if (!/^[A-Za-z0-9][A-Za-z0-9._+-]*$/.test(name)) {
    throw new ReliveError('configuration', `${JSON.stringify(name)} cannot be the name of a repository`, {
      hint: 'letters, digits, ".", "_", "+" and "-" are allowed, the first one a letter or a digit',
    });
  }
  const root = join(mirrorDirectory, name);
  const dists = join(root, 'dists');
  const suites = join(dists, '.suites');
  return {
    root,
    dists,
    suites,
    below: join(suites, '.below'),
    incoming: join(suites, '.incoming'),
    snapshots: join(root, 'snapshots'),
    state: join(mirrorDirectory, '.relive', name),
    quarantine: join(mirrorDirectory, '.relive', name, 'quarantine'),
    lock: join(mirrorDirectory, '.relive', '.lock'),
  };
}

/** Whether a suite is the directory of a flat repository: `deb URL ./`. */
export function isFlat(suite: string): boolean {
  return suite.endsWith('/');
}

/** The directory of a flat suite below the base address: empty, or with a slash at its end. */
export function flatDirectory(suite: string): string {
  return suite.replace(/^(?:\.?\/)+/, '');
}

/** Where the signed Release of a suite is, relative to the base address; with a slash at the end, or empty. */
export function suiteDirectory(suite: string): string {
  return isFlat(suite) ? flatDirectory(suite) : `dists/${suite}/`;
}

/** A suite's name as one file name: `bookworm/updates` has a slash. */
export function suiteFileName(suite: string): string {
  return isFlat(suite) ? `flat%2F${encodeURIComponent(flatDirectory(suite))}` : encodeURIComponent(suite);
}

/** The link that is switched to publish a suite. */
export function suiteLink(layout: Layout, suite: string): string {
  return isFlat(suite) ? join(layout.suites, `${suiteFileName(suite)}.current`) : join(layout.dists, suite);
}

/**
 * Refuses suites which cannot stand side by side below `dists`.
 * @throws ReliveError `configuration`, `unsafe-path`
 */
export function checkSuites({ name, suites }: Pick<Repository, 'name' | 'suites'>): void {
  for (const suite of suites) {
    const plain = isFlat(suite) ? flatDirectory(suite).slice(0, -1) : suite;
    const wrong =
      plain !== '' && (safePath(plain, `the repository ${name}`) !== plain || plain.startsWith('.'));
    if (wrong || (suite !== '' && suite.startsWith('/') && suite !== '/') || suite === '') {
      throw new ReliveError('configuration', `${JSON.stringify(suite)} cannot be a suite of ${name}`);
    }
    const inside = suites.find((other) => !isFlat(suite) && other.startsWith(`${suite}/`));
    if (inside !== undefined) {
      throw new ReliveError(
        'configuration',
        `the suite ${inside} of ${name} lies inside of its suite ${suite}`,
        { hint: 'put them into two repositories' },
      );
    }
  }
  if (suites.some(isFlat) && suites.length > 1) {
    throw new ReliveError('configuration', `${name} is flat, and has more than one suite`, {
      hint: 'put each directory of a flat repository into a repository of its own',
    });
  }
}

const patterns = new Map<string, RegExp>();

/** Whether a text matches a pattern in which `*` stands for any characters. */
export function matchesPattern(text: string, pattern: string): boolean {
  if (!pattern.includes('*')) return text === pattern;
  let expression = patterns.get(pattern);
  if (expression === undefined) {
    const parts = pattern.split('*').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`));
    expression = new RegExp(`^${parts.join('.*')}$`, 's');
    patterns.set(pattern, expression);
  }
  return expression.test(text);
}

/** The one writer's lock on the mirror that a repository is in. */
export async function lockMirror({ root, lock }: Layout, context: Context): Promise<Lock> {
  return await takeLock(lock, `the mirror ${dirname(root)}`, context);
}
