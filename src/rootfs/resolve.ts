import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { parseStanzas } from '../debian/control.ts';
import { freeBytes } from '../host/files.ts';
import { run } from '../host/process.ts';
import { type AptRoot, type AptSource, aptSettings, makeAptRoot } from './apt.ts';
import { explainPackages } from './reasons.ts';

/** A package which the solver chose, as the signed index of its repository describes it. */
export interface ResolvedPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly repository: string;
  /** Relative to the repository's root: `pool/main/...`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: string;
}

/** A package that a profile asks for, and where it does. */
export interface WantedPackage {
  readonly name: string;
  /** Whether the profile names it, or relive adds it for every system of its kind. */
  readonly why: 'profile' | 'base';
  /** `profiles/kiosk.yaml:7:5`, or what else names it for the user. */
  readonly from: string;
}

export interface Resolution {
  /** What the bootstrap installs: the essential packages and apt. Sorted by name. */
  readonly bootstrap: readonly ResolvedPackage[];
  /** All packages of the system, those of the bootstrap included. Sorted by name. */
  readonly all: readonly ResolvedPackage[];
  /** Why each is in: `essential`, `profile`, `base`, or the package that needs it. */
  readonly reasons: ReadonlyMap<string, string>;
}

export interface ResolveOptions {
  readonly sources: readonly AptSource[];
  readonly architecture: string;
  readonly recommends: boolean;
  readonly wanted: readonly WantedPackage[];
  /** An empty directory for apt's state. */
  readonly directory: string;
}

/** What apt's lists of some suites take while they are unpacked and indexed, in bytes. */
const roomForLists = 200e6;

/** What apt would install into an empty system. */
type Solve = (names: readonly string[]) => Promise<ResolvedPackage[]>;

/** The essential packages are named by a search pattern (apt-patterns(7)), as mmdebstrap does. */
const essential = ['?essential', 'apt'];

/**
 * Asks apt's own solver which packages a system with `wanted` consists of, from an empty system.
 * @throws ReliveError `unknown-package` or `unsolvable`, naming the profile's lines
 */
export async function resolvePackages(options: ResolveOptions, context: Context): Promise<Resolution> {
  const { architecture, recommends, sources, wanted } = options;
  const root = await makeAptRoot(options.directory, sources, aptSettings(architecture, recommends));
  const update = { ...aptOptions(root, context), as: 'apt-get update' };
  await run('apt-get', ['update', '--error-on=any', '-qq'], update).catch(async (error: unknown) => {
    throw await explainUpdate(error, options.directory);
  });
  await refuseUnknown(root, options, context);
  const solve = solver(root, options, context);
  const bootstrap = await solve(essential);
  // By name: of alternatives the system must have at least what the bootstrap brought.
  const all = await solve([...bootstrap, ...wanted].map(({ name }) => name));
  const reasons = await explain({ bootstrap, all }, root, options, context);
  return { bootstrap, all, reasons };
}

/** apt calls a list that it had no room for one that is not there. */
async function explainUpdate(error: unknown, directory: string): Promise<unknown> {
  if (!isReliveError(error, 'tool-failed')) return error;
  const free = await freeBytes(directory);
  if (free > roomForLists) return error;
  return new ReliveError(
    'disk-full',
    `no space left in ${directory}, it seems: it has ${Math.floor(free / 1e6)} MB, apt's lists take some ${roomForLists / 1e6} MB\n${error.message}`,
    { hint: 'make room there and start again', cause: error },
  );
}

function solver(root: AptRoot, { sources, wanted }: ResolveOptions, context: Context): Solve {
  return async (names) => {
    const { stdout } = await run(
      'apt-get',
      // Twice -q would keep back which packages do not go together.
      ['install', '--print-uris', '-q', '-o', 'Acquire::ForceHash=SHA256', ...names],
      aptOptions(root, context),
    ).catch((error: unknown) => {
      throw explainUnsolvable(error, wanted);
    });
    return stdout
      .split('\n')
      .filter((line) => line.startsWith("'"))
      .map((line) => parseUri(line, sources))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  };
}

/** Why each package is in, by the control data of the signed indices. */
async function explain(
  { bootstrap, all }: Pick<Resolution, 'bootstrap' | 'all'>,
  root: AptRoot,
  { wanted, recommends }: ResolveOptions,
  context: Context,
): Promise<Map<string, string>> {
  const exact = all.map(({ name, version }) => `${name}=${version}`);
  const { stdout } = await run(
    'apt-cache',
    ['show', '--no-all-versions', ...exact],
    aptOptions(root, context),
  );
  const stanzas = parseStanzas(stdout, 'apt-cache show');
  const roots = new Map<string, string>();
  for (const { name } of bootstrap) {
    const stanza = stanzas.find((each) => each.get('package') === name);
    if (name === 'apt' || stanza?.get('essential') === 'yes') roots.set(name, 'essential');
  }
  for (const { name, why } of wanted) roots.set(name, why);
  return explainPackages(
    stanzas.map((stanza) => ({
      name: stanza.get('package') ?? '',
      needs: ['pre-depends', 'depends', ...(recommends ? ['recommends'] : [])].map(
        (field) => stanza.get(field) ?? '',
      ),
      provides: stanza.get('provides') ?? '',
    })),
    roots,
  );
}

function aptOptions(root: AptRoot, { signal }: Context) {
  return { signal, env: { APT_CONFIG: root.config }, cwd: root.directory };
}

/** Names every wanted package that no repository has, with the nearest name they do have. */
async function refuseUnknown(
  root: AptRoot,
  { wanted, sources }: ResolveOptions,
  context: Context,
): Promise<void> {
  const { stdout } = await run('apt-cache', ['pkgnames', '--all-names'], aptOptions(root, context));
  const known = new Set(stdout.split('\n'));
  const unknown = wanted.filter(({ name }) => !known.has(name));
  if (unknown.length === 0) return;
  const lines = unknown.map(({ name, from }) => {
    const near = [...known]
      .filter((other) => nearEnough(name, other))
      .toSorted()
      .slice(0, 3);
    return `${from}: no package "${name}"${near.length === 0 ? '' : `; did you mean ${near.join(', ')}?`}`;
  });
  const where = sources.map(
    ({ repository, suite, components }) => `${repository} (${suite} ${components.join(' ')})`,
  );
  throw new ReliveError('unknown-package', lines.join('\n'), {
    hint: `searched in ${[...new Set(where)].join(', ')}`,
  });
}

/** One letter more, less or another, or two neighbours swapped: enough for a misspelt package name. */
function nearEnough(name: string, other: string): boolean {
  if (Math.abs(name.length - other.length) > 1 || other === '') return false;
  let from = 0;
  while (from < name.length && name[from] === other[from]) from += 1;
  let to = 0;
  while (to < Math.min(name.length, other.length) - from && name.at(-1 - to) === other.at(-1 - to)) to += 1;
  const [ours, theirs] = [name, other].map((each) => each.slice(from, each.length - to));
  if (ours === undefined || theirs === undefined) return false;
  if (ours.length <= 1 && theirs.length <= 1) return true;
  return ours.length === 2 && `${ours[1]}${ours[0]}` === theirs;
}

/** What apt says in any case, and what says nothing. */
const noise =
  /^\s*(?:Reading package lists|Building dependency tree|Solving dependencies|Some packages could not be|requested an impossible|distribution that some|or been moved out|The following information|The following packages have unmet|E: Unable to correct problems)/;

function explainUnsolvable(error: unknown, wanted: readonly WantedPackage[]): unknown {
  if (!(error instanceof ReliveError) || error.code !== 'tool-failed') return error;
  const lines = error.message.split('\n').slice(1);
  const reasons = lines.filter((line) => !noise.test(line));
  const told = reasons.length === 0 ? lines : reasons;
  const named = wanted.filter(({ name }) => error.message.split(/[\s:]+/).includes(name));
  return new ReliveError(
    'unsolvable',
    ['apt finds no set of packages that goes together:', ...told].join('\n'),
    {
      hint:
        named.length === 0
          ? undefined
          : `it names packages wanted at ${named.map(({ name, from }) => `${from} (${name})`).join(', ')}`,
      cause: error,
    },
  );
}

/**
 * Reads a line of `apt-get --print-uris`: `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:HEX`. The file name is
 * apt's own (epochs as `%3a`), not the archive's.
 */
export function parseUri(line: string, sources: readonly AptSource[]): ResolvedPackage {
  const match = /^'([^']+)' ([^_ ]+)_([^_ ]+)_([^_. ]+)\.deb (\d+) SHA256:([0-9a-f]{64})$/.exec(line);
  const [, uri, name, version, architecture, size, sha256] = match ?? [];
  const source = sources.find((each) => uri?.startsWith(`${each.uri}/`) === true);
  if (!uri || !name || !version || !architecture || !size || !sha256 || source === undefined) {
    throw new ReliveError(
      'not-authentic',
      `apt offers a package without SHA-256 or from elsewhere: ${line}`,
      {
        hint: 'relive takes packages only from signed indices that state their SHA-256',
      },
    );
  }
  return {
    name,
    version: decodeURIComponent(version),
    architecture,
    repository: source.repository,
    path: decodeURIComponent(uri.slice(source.uri.length + 1)),
    size: Number(size),
    sha256,
  };
}
