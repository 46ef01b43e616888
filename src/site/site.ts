import { join, resolve, sep } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Position } from './position.ts';
import { type Checked, type Problem, valueOrThrow } from './problem.ts';
import { type SiteDocument, siteSchema } from './schema.ts';
import { isArmouredKey, parseByteRate } from './syntax.ts';
import { validate } from './validate.ts';
import { type Located, readYaml, valueAt } from './yaml.ts';

/** The file that makes a directory a site. */
export const siteFile = 'relive.yaml';

type RepositoryDocument = SiteDocument['repositories'][string];

/** An APT repository upstream, as relive.yaml describes it (the schema tells what the keys mean). */
export interface Repository
  extends Omit<
    RepositoryDocument,
    'url' | 'suites' | 'components' | 'architectures' | 'signedBy' | 'transport'
  > {
  readonly name: string;
  /** Addresses of the archive without a slash at the end; the later ones are fallbacks. */
  readonly url: readonly string[];
  readonly suites: readonly string[];
  /** Empty for a flat repository. */
  readonly components: readonly string[];
  readonly architectures: readonly string[];
  /** The absolute path of a keyring, or an armoured public key (which begins with `-----BEGIN`). */
  readonly signedBy: string;
  /** Where relive.yaml names `signedBy`. */
  readonly signedByAt: Position;
  readonly transport?:
    | {
        readonly parallel?: number | undefined;
        /** Bytes a second. */
        readonly bandwidth?: number | undefined;
        /** Absolute paths. */
        readonly ca?: string | undefined;
        readonly certificate?: string | undefined;
        readonly key?: string | undefined;
      }
    | undefined;
}

/** A medium that refreshes bring up to date. */
export interface RefreshedMedium {
  /** As relive.yaml names it; paths are absolute. */
  readonly medium: string;
  /** Profiles whose newest images it gets; none: all. */
  readonly images: readonly string[];
}

/** A directory with relive.yaml, profiles and overlays; all paths absolute. */
export interface Site {
  readonly directory: string;
  readonly store: string;
  readonly mirror: string;
  readonly cache: string;
  readonly keys: string;
  readonly repositories: Readonly<Record<string, Repository>>;
  readonly refresh: {
    readonly media: readonly RefreshedMedium[];
    /** A program and its arguments. */
    readonly report: readonly string[] | undefined;
  };
  /** GRUB's menu on media and ISOs. */
  readonly menu: {
    readonly timeoutSeconds: number;
    /** In the names of XKB. */
    readonly keyboard: { readonly layout: string; readonly variant?: string | undefined } | undefined;
  };
}

/** The menu of a site that says nothing of it. */
export const usualMenu: Site['menu'] = { timeoutSeconds: 3, keyboard: undefined };

const defaultPaths = { store: 'store', mirror: 'mirror', cache: '.relive/cache', keys: 'keys' } as const;
const pathKeys = ['store', 'mirror', 'cache', 'keys'] as const;

/**
 * Reads relive.yaml of a site.
 * @throws ReliveError `configuration` with every problem of the file, or where `directory` is no site
 */
export async function loadSite(directory: string): Promise<Site> {
  const file = join(directory, siteFile);
  const read = await readYaml(file);
  if (read === undefined) {
    throw new ReliveError('configuration', `${directory} is not a site: it has no ${siteFile}`, {
      hint: 'relive init makes one; --site DIR names one',
    });
  }
  const located = valueOrThrow(read);
  return valueOrThrow(checkSite(directory, located));
}

/** A site out of what relive.yaml holds. */
export function checkSite(directory: string, located: Located): Checked<Site> {
  const checked = validate(siteSchema, located);
  if (!checked.ok) return checked;
  const paths = pathsOf(directory, checked.value);
  const problems = nestedPaths(paths, located);
  if (problems.length > 0) return { ok: false, problems };
  const repositories = Object.entries(checked.value.repositories).map(
    ([name, repository]): [string, Repository] => {
      const { signedBy, transport, ...rest } = repository;
      return [
        name,
        {
          name,
          ...rest,
          components: repository.components ?? [],
          ...(transport === undefined ? {} : { transport: transportOf(directory, transport) }),
          url: repository.url.map((url) => url.replace(/\/+$/, '')),
          signedBy: isArmouredKey(signedBy) ? signedBy : resolve(directory, signedBy),
          signedByAt: valueAt(located, ['repositories', name, 'signedBy'])?.at ?? located.at,
        },
      ];
    },
  );
  const refresh = refreshOf(directory, checked.value.refresh ?? {});
  const { timeout = usualMenu.timeoutSeconds, keyboard } = checked.value.menu ?? {};
  const menu = { timeoutSeconds: timeout, keyboard };
  return {
    ok: true,
    value: { directory, ...paths, repositories: Object.fromEntries(repositories), refresh, menu },
  };
}

function refreshOf(
  directory: string,
  { media, report }: NonNullable<SiteDocument['refresh']>,
): Site['refresh'] {
  const absolute = (path: string): string => (path.includes('/') ? resolve(directory, path) : path);
  const [program, ...words] = report ?? [];
  return {
    media: (media ?? []).map((each) => {
      const { medium, images } = typeof each === 'string' ? { medium: each } : { images: [], ...each };
      return { medium: absolute(medium), images: images ?? [] };
    }),
    report: program === undefined ? undefined : [absolute(program), ...words],
  };
}

function transportOf(
  directory: string,
  { parallel, bandwidth, ca, certificate, key }: NonNullable<RepositoryDocument['transport']>,
): Repository['transport'] {
  const path = (value: string | undefined) => (value === undefined ? undefined : resolve(directory, value));
  return {
    parallel,
    bandwidth: bandwidth === undefined ? undefined : parseByteRate(bandwidth),
    ca: path(ca),
    certificate: path(certificate),
    key: path(key),
  };
}

type Paths = Readonly<Record<(typeof pathKeys)[number], string>>;

function pathsOf(directory: string, document: SiteDocument): Paths {
  const at = (key: (typeof pathKeys)[number]) => resolve(directory, document[key] ?? defaultPaths[key]);
  return { store: at('store'), mirror: at('mirror'), cache: at('cache'), keys: at('keys') };
}

/** Two of the directories in each other would be pruned, served or published together. */
function nestedPaths(paths: Paths, located: Located): Problem[] {
  return pathKeys.flatMap((key) =>
    pathKeys
      .filter((other) => other !== key && `${paths[key]}/`.startsWith(`${paths[other]}${sep}`))
      // Of two that are the same one complaint is enough.
      .filter((other) => paths[key] !== paths[other] || pathKeys.indexOf(key) > pathKeys.indexOf(other))
      .map((other) => ({
        at: (valueAt(located, [key]) ?? valueAt(located, [other]) ?? located).at,
        path: key,
        text: `${paths[key]} is the directory of ${other} or in it; allowed: a directory of its own`,
      })),
  );
}

const releases = ['buster', 'bullseye', 'bookworm', 'trixie', 'forky', 'duke', 'sid', 'experimental'];

function belongsTo(suite: string, release: string): boolean {
  return suite === release || suite.startsWith(`${release}-`) || suite.startsWith(`${release}/`);
}

/**
 * The suites of a repository which a system of a release of Debian takes packages from: its own (`trixie`,
 * `trixie-updates`) and those that carry no release of Debian in their name (`stable` of a vendor), in the order of
 * relive.yaml.
 */
export function suitesFor(repository: Repository, release: string): readonly string[] {
  return repository.suites.filter((suite) => {
    return belongsTo(suite, release) || !releases.some((other) => belongsTo(suite, other));
  });
}
