import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { packagesReader } from '../debian/packages.ts';
import { safePath } from '../debian/path.ts';
import { sourcesReader } from '../debian/sources.ts';
import { writeFileAtomic } from '../host/files.ts';
import { type IndexContent, readIndexFile } from './read-index.ts';
import { type Filters, type Layout, matchesPattern, type Repository } from './repository.ts';
import { splitCompression } from './select.ts';

/** A file of a repository's pool, as an index lists it. */
export interface PoolFile {
  /** Relative to the repository's base address. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal, lower case. One of the two is needed. */
  readonly sha256?: string | undefined;
  readonly sha512?: string | undefined;
}

/** The digest that a pool file is checked by: SHA-256, else SHA-512. @throws TypeError where there is neither */
export function poolDigest(file: PoolFile): {
  readonly algorithm: 'sha256' | 'sha512';
  readonly digest: string;
} {
  if (file.sha256 !== undefined) return { algorithm: 'sha256', digest: file.sha256 };
  if (file.sha512 !== undefined) return { algorithm: 'sha512', digest: file.sha512 };
  throw new TypeError(`${file.path} has no digest`);
}

/**
 * The checked path of a pool file.
 * @throws ReliveError `unsafe-path`, also for what would reach into relive's own directories
 */
export function poolPath(path: string, where: string): string {
  const safe = safePath(path, where);
  const reserved =
    /^snapshots(?:\/|$)|^\.|\/\.(?:part|tmp)-|^dists\/\.|^dists\/[^/]*$|^dists$/.test(safe) ||
    /(?:^|\/)(?:by-hash\/.*|InRelease|Release|Release\.gpg|(?:Packages|Sources)(?:\.[a-z0-9]+)?)$/.test(safe);
  if (reserved) {
    throw new ReliveError(
      'unsafe-path',
      `${where} names ${safe} as a package, which lies where packages must not be`,
      { hint: 'indices, snapshots and hidden directories belong to the mirror itself' },
    );
  }
  return safe;
}

/** Where the content of a pool file is: below `dists` the directories are those of suites, which are switched. */
export function poolPlace(layout: Layout, path: string): string {
  return path.startsWith('dists/')
    ? join(layout.below, path.slice('dists/'.length))
    : join(layout.root, path);
}

/** An index on the disk that lists pool files. */
export interface ListingIndex {
  readonly kind: 'packages' | 'udebs' | 'sources';
  /** Where it is. */
  readonly path: string;
  /** Its name in the suite. */
  readonly name: string;
  readonly uncompressed: IndexContent | undefined;
}

/** What a filter looks at. */
interface Candidate {
  readonly name: string;
  readonly source: string;
  readonly section: string;
  readonly priority: string;
  /** Names in Pre-Depends and Depends, the alternatives of each together. */
  readonly needs: readonly (readonly string[])[];
  readonly provides: readonly string[];
  readonly files: readonly PoolFile[];
}

const filterFields = ['Source', 'Section', 'Priority', 'Pre-Depends', 'Depends', 'Provides'];

/** The names in a relationship field (Debian Policy 7.1), the alternatives of each together. */
function relations(field: string | undefined): string[][] {
  return (field ?? '')
    .split(',')
    .map((alternatives) => alternatives.split('|').flatMap((one) => /^\s*([^\s(:[]+)/.exec(one)?.[1] ?? []))
    .filter((alternatives) => alternatives.length > 0);
}

function some(patterns: readonly string[] | undefined, text: string): boolean {
  return (patterns ?? []).some((pattern) => matchesPattern(text, pattern));
}

/** Whether a candidate itself is chosen, whatever depends on it. */
function isChosen({ name, source, section, priority }: Candidate, filters: Filters): boolean {
  // "non-free/libs" is the section libs.
  const plain = section.slice(section.lastIndexOf('/') + 1);
  return (
    some(filters.names, name) ||
    some(filters.sources, source) ||
    some(filters.sections, plain) ||
    some(filters.sections, section) ||
    some(filters.priorities, priority)
  );
}

/** The candidates that filters choose. */
function chosen(candidates: readonly Candidate[], filters: Filters): Candidate[] {
  const taken = new Set(candidates.filter((candidate) => isChosen(candidate, filters)));
  const byName = new Map<string, Candidate[]>();
  const file = (name: string, candidate: Candidate): void => {
    const list = byName.get(name);
    if (list === undefined) byName.set(name, [candidate]);
    else list.push(candidate);
  };
  for (const candidate of candidates) {
    file(candidate.name, candidate);
    for (const name of candidate.provides) file(name, candidate);
  }
  const roots = filters.closureOf ?? [];
  const missing = roots.filter((name) => !byName.has(name));
  if (missing.length > 0) {
    throw new ReliveError('unknown-package', `no package is called ${missing.join(', ')}`, {
      hint: 'check closureOf in the filters of the repository',
    });
  }
  const queue = [...roots];
  const seen = new Set(queue);
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    for (const candidate of byName.get(name) ?? []) {
      taken.add(candidate);
      // All alternatives: which one a client takes is its own choice.
      for (const need of candidate.needs.flat()) {
        if (seen.has(need)) continue;
        seen.add(need);
        queue.push(need);
      }
    }
  }
  return [...taken];
}

/**
 * The pool files that indices list, filtered as the repository is configured.
 * @returns each path once
 * @throws ReliveError `corrupt` (also for one path with two contents), `unsafe-path`, `unknown-package`, `tool-missing`
 */
export async function wantedFiles(
  indices: readonly ListingIndex[],
  repository: Repository,
  context: Context,
): Promise<Map<string, PoolFile>> {
  const files = new Map<string, PoolFile>();
  const tolerated = repository.missing?.tolerate ?? [];
  const contradictory = new Set<string>();
  const add = (file: PoolFile, where: string): void => {
    const path = poolPath(file.path, where);
    const known = files.get(path);
    if (known === undefined) files.set(path, { ...file, path });
    else if (known.size !== file.size || poolDigest(known).digest !== poolDigest(file).digest) {
      if (!tolerated.some((pattern) => matchesPattern(path, pattern))) {
        throw new ReliveError('corrupt', `${repository.name} lists ${path} with two different contents`, {
          hint: 'its indices contradict each other: tell those who run the repository; "missing: {tolerate: [...]}" leaves the file out',
        });
      }
      contradictory.add(path);
    }
  };
  const filters = repository.select === 'filters' ? (repository.filters ?? {}) : undefined;
  const closure = filters?.closureOf !== undefined;
  const candidates: { readonly candidate: Candidate; readonly where: string }[] = [];
  for (const { kind, path, name, uncompressed } of indices) {
    const { ending } = splitCompression(name);
    const take = (candidate: Candidate): void => {
      // Only what packages depend on needs all of them at hand.
      if (filters?.closureOf !== undefined) candidates.push({ candidate, where: name });
      else if (filters === undefined || isChosen(candidate, filters)) {
        for (const file of candidate.files) add(file, name);
      }
    };
    const more = filters === undefined ? [] : filterFields;
    const reader =
      kind === 'sources'
        ? sourcesReader(
            name,
            (entry) => {
              const [, section = '', priority = ''] = entry.more;
              const plain = { name: entry.package, source: entry.package, section, priority };
              take({ ...plain, needs: [], provides: [], files: entry.files });
            },
            more,
          )
        : packagesReader(
            name,
            (entry) => {
              const { filename, size, sha256, sha512 } = entry;
              if (filters === undefined) {
                add({ path: filename, size, sha256, sha512 }, name);
                return;
              }
              const [source, section = '', priority = '', preDepends, depends, provides] = entry.more;
              take({
                name: entry.package,
                source: source?.split(' ')[0] ?? entry.package,
                section,
                priority,
                needs: closure ? [...relations(preDepends), ...relations(depends)] : [],
                provides: closure ? relations(provides).flat() : [],
                files: [{ path: filename, size, sha256, sha512 }],
              });
            },
            more,
          );
    const expected = ending === '' ? undefined : uncompressed;
    await readIndexFile({ path, ending, expected }, reader, context);
  }
  if (filters?.closureOf !== undefined) {
    const where = new Map(candidates.map(({ candidate, where: name }) => [candidate, name]));
    for (const candidate of chosen([...where.keys()], filters)) {
      for (const file of candidate.files) add(file, where.get(candidate) ?? '');
    }
  }
  for (const path of contradictory) {
    files.delete(path);
    context.emit({
      event: 'warning',
      message: `${repository.name} lists ${path} with two different contents: left out, because "missing: tolerate" names it`,
    });
  }
  return files;
}

/** Where the list of a generation's pool files is kept. */
export function poolListPath(layout: Layout, generation: string): string {
  return join(layout.state, 'suites', `${generation}.pool`);
}

/** Keeps the list of a generation's pool files: one a line, size, digest, path. */
export async function writePoolList(
  layout: Layout,
  generation: string,
  files: ReadonlyMap<string, PoolFile>,
): Promise<void> {
  const lines = [...files.values()].map((file) => `${file.size} ${poolDigest(file).digest} ${file.path}\n`);
  await writeFileAtomic(poolListPath(layout, generation), lines.join(''));
}

/** Calls `onFile` for each file of a kept list; a list that is not there has none. @returns whether there is one */
export function readPoolList(path: string, onFile: (file: PoolFile) => void): boolean {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
  for (let at = 0; at < content.length; ) {
    const end = content.indexOf(0x0a, at);
    if (end === -1) break;
    const line = content.toString('utf8', at, end);
    at = end + 1;
    const first = line.indexOf(' ');
    const second = line.indexOf(' ', first + 1);
    const digest = line.slice(first + 1, second);
    onFile({
      path: line.slice(second + 1),
      size: Number(line.slice(0, first)),
      ...(digest.length === 64 ? { sha256: digest } : { sha512: digest }),
    });
  }
  return true;
}
