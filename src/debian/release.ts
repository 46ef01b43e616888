import { ReliveError } from '../core/error.ts';
import { parseStanzas } from './control.ts';
import { safePath } from './path.ts';

/** A file that a Release lists. One of the digests is always there; both are hexadecimal in lower case. */
export interface ReleaseFile {
  /** Relative to the directory of the Release. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256: string | undefined;
  readonly sha512: string | undefined;
}

/** What a Release (or the body of an InRelease) says. */
export interface Release {
  readonly origin: string | undefined;
  readonly label: string | undefined;
  readonly suite: string | undefined;
  readonly codename: string | undefined;
  readonly version: string | undefined;
  readonly date: Date;
  readonly validUntil: Date | undefined;
  readonly architectures: readonly string[];
  readonly components: readonly string[];
  /** Whether upstream promises `by-hash` directories (it may break the promise). */
  readonly acquireByHash: boolean;
  /** True: what is in `binary-all` stands in every other index too (Debian's own suites). */
  readonly allIsInEveryArchitecture: boolean;
  readonly signedBy: string | undefined;
  readonly files: ReadonlyMap<string, ReleaseFile>;
}

/** The digest to check a file by: SHA-512 where it is known, else SHA-256. */
export interface Digest {
  readonly algorithm: 'sha256' | 'sha512';
  readonly value: string;
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/**
 * A date of a Release: `Sat, 12 Sep 2026 07:55:41 UTC`; apt takes UTC and its other names only, so do we.
 * @returns undefined for anything else
 */
export function parseReleaseDate(text: string): Date | undefined {
  const match =
    /^(?:[A-Z][a-z]{2}, *)?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d{1,2}):(\d{2}):(\d{2}) (?:UTC|GMT|Z|[+-]0000)$/.exec(
      text.trim(),
    );
  if (match === null) return undefined;
  const month = months.indexOf(match[2] ?? '');
  const [day, year, hour, minute, second] = [1, 3, 4, 5, 6].map((group) => Number(match[group]));
  if (month === -1 || day === undefined || year === undefined) return undefined;
  const date = new Date(Date.UTC(year, month, day, hour, minute, second));
  // Date.UTC carries over: 31 February becomes March.
  return date.getUTCDate() === day && date.getUTCHours() === hour && date.getUTCMinutes() === minute
    ? date
    : undefined;
}

function words(value: string | undefined): string[] {
  return (value ?? '').split(/\s+/).filter((word) => word !== '');
}

const sections = [
  { field: 'sha256', algorithm: 'sha256', digits: 64 },
  { field: 'sha512', algorithm: 'sha512', digits: 128 },
] as const;

interface Listed {
  path: string;
  size: number;
  sha256: string | undefined;
  sha512: string | undefined;
}

/** Adds the lines "DIGEST SIZE PATH" of one hash section. */
function addSection(
  files: Map<string, Listed>,
  value: string,
  { field, algorithm, digits }: (typeof sections)[number],
  where: string,
): void {
  for (const line of value.split('\n')) {
    if (line.trim() === '') continue;
    const match = /^\s*([0-9A-Fa-f]+)\s+(\d{1,15})\s+(\S.*)$/.exec(line);
    const digest = match?.[1]?.toLowerCase();
    if (match === null || digest?.length !== digits) {
      throw corrupt(
        `${where} has the line ${JSON.stringify(line)} in ${field}, which is not "digest size path"`,
      );
    }
    const path = safePath(match[3] ?? '', where);
    const size = Number(match[2]);
    const file = files.get(path);
    if (file === undefined) {
      files.set(path, { path, size, sha256: undefined, sha512: undefined, [algorithm]: digest });
    } else if (file.size !== size || (file[algorithm] ?? digest) !== digest) {
      throw corrupt(`${where} lists ${path} twice and contradicts itself`);
    } else {
      file[algorithm] = digest;
    }
  }
}

function corrupt(message: string): ReliveError {
  return new ReliveError('corrupt', message, { hint: 'tell those who run the repository' });
}

/**
 * Reads a Release, or the body that gpgv took out of an InRelease (never the InRelease itself: text around the
 * signed part would count).
 * @param where the file's name or address, for errors
 * @throws ReliveError `corrupt` (no Date, no SHA-256 and no SHA-512, contradictions), `unsafe-path`
 */
export function parseRelease(body: Buffer, where: string): Release {
  const [stanza, ...more] = parseStanzas(body, where);
  if (stanza === undefined || more.length > 0)
    throw corrupt(`${where} is not a Release: it must be one stanza`);
  const date = parseReleaseDate(stanza.get('date') ?? '');
  if (date === undefined) throw corrupt(`${where} has no Date that can be read`);
  const validUntilText = stanza.get('valid-until');
  const validUntil = validUntilText === undefined ? undefined : parseReleaseDate(validUntilText);
  if (validUntilText !== undefined && validUntil === undefined) {
    throw corrupt(`${where} has a Valid-Until that cannot be read: ${JSON.stringify(validUntilText)}`);
  }
  if (!stanza.has('sha256') && !stanza.has('sha512')) {
    throw corrupt(`${where} lists its files with neither SHA-256 nor SHA-512; MD5 and SHA-1 prove nothing`);
  }
  const files = new Map<string, Listed>();
  for (const section of sections) {
    const value = stanza.get(section.field);
    if (value !== undefined) addSection(files, value, section, where);
  }
  return {
    origin: stanza.get('origin'),
    label: stanza.get('label'),
    suite: stanza.get('suite'),
    codename: stanza.get('codename'),
    version: stanza.get('version'),
    date,
    validUntil,
    architectures: words(stanza.get('architectures')),
    components: words(stanza.get('components')),
    acquireByHash: stanza.get('acquire-by-hash')?.toLowerCase() === 'yes',
    allIsInEveryArchitecture: words(stanza.get('no-support-for-architecture-all')).includes('Packages'),
    signedBy: stanza.get('signed-by'),
    files,
  };
}

/** The strongest digest that is known of a file. */
export function strongestDigest(file: Pick<ReleaseFile, 'path' | 'sha256' | 'sha512'>): Digest {
  if (file.sha512 !== undefined) return { algorithm: 'sha512', value: file.sha512 };
  if (file.sha256 !== undefined) return { algorithm: 'sha256', value: file.sha256 };
  throw new TypeError(`${file.path} has no digest`);
}
