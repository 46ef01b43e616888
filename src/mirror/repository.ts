import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { safePath } from '../debian/path.ts';

/** A rule of apt that a repository may be let off, by name; each use is warned about. */
export type Override = 'expired' | 'future' | 'older' | 'renamed';

/** A repository as relive.yaml describes it. */
export interface Repository {
  readonly name: string;
  /** Base addresses (http, https, file): the first, then the fallbacks in order. */
  readonly url: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly architectures: readonly string[];
  /** The path of a keyring (binary or armoured), or armoured keys themselves. */
  readonly signedBy: string;
  /** Only these keys of the keyring count. */
  readonly fingerprints?: readonly string[];
  readonly override?: readonly Override[];
}

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
    incoming: join(suites, '.incoming'),
    state: join(mirrorDirectory, '.relive', name),
    lock: join(mirrorDirectory, '.relive', '.lock'),
  };
}

/** A suite's name as one file name: `bookworm/updates` has a slash. */
export function suiteFileName(suite: string): string {
  return encodeURIComponent(suite);
}

/**
 * Refuses suites which cannot stand side by side below `dists`.
 * @throws ReliveError `configuration`, `unsafe-path`
 */
export function checkSuites({ name, suites }: Pick<Repository, 'name' | 'suites'>): void {
  for (const suite of suites) {
    if (suite.endsWith('/')) {
      throw new ReliveError(
        'configuration',
        `the repository ${name} is flat (suite ${JSON.stringify(suite)})`,
        {
          hint: 'only repositories with a dists directory are mirrored: name a suite without a slash at its end',
        },
      );
    }
    if (safePath(suite, `the repository ${name}`).startsWith('.') || safePath(suite, name) !== suite) {
      throw new ReliveError('configuration', `${JSON.stringify(suite)} cannot be a suite of ${name}`);
    }
    const inside = suites.find((other) => other.startsWith(`${suite}/`));
    if (inside !== undefined) {
      throw new ReliveError(
        'configuration',
        `the suite ${inside} of ${name} lies inside of its suite ${suite}`,
        {
          hint: 'put them into two repositories',
        },
      );
    }
  }
}
