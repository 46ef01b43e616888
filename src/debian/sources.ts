import { ReliveError } from '../core/error.ts';
import { StanzaReader } from './control.ts';
import { safePath } from './path.ts';

/** A file of a source package, as a Sources index lists it. */
export interface SourceFile {
  /** Relative to the repository's base address, checked by `safePath`. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal in lower case; one of the two is always there. */
  readonly sha256: string | undefined;
  readonly sha512: string | undefined;
}

/** What a Sources index says of one source package (deb-src(5), "Checksums-Sha256"). */
export interface SourceEntry {
  readonly package: string;
  readonly version: string;
  readonly files: readonly SourceFile[];
  readonly more: readonly (string | undefined)[];
}

const fields = ['Package', 'Version', 'Directory', 'Checksums-Sha256', 'Checksums-Sha512'];

/**
 * A reader of a Sources index (uncompressed), to be fed piece by piece: `push` the bytes, then `end`.
 * @param where the index' name, for errors
 * @param onSource gets each source package in the order of the index
 * @param more names of further fields to hand over
 * @returns a reader whose calls throw ReliveError `corrupt` or `unsafe-path`
 */
export function sourcesReader(
  where: string,
  onSource: (entry: SourceEntry) => void,
  more: readonly string[] = [],
): StanzaReader {
  return new StanzaReader(
    [...fields, ...more],
    (values, line) => {
      const [name, version, directory, sha256, sha512] = values;
      const refuse = (what: string): ReliveError =>
        new ReliveError('corrupt', `${where}:${line}: ${what}`, {
          hint: 'tell those who run the repository',
        });
      if (name === undefined || version === undefined || directory === undefined) {
        throw refuse('a source package lacks one of Package, Version, Directory');
      }
      if (sha256 === undefined && sha512 === undefined) {
        throw refuse(`${name} has neither Checksums-Sha256 nor Checksums-Sha512`);
      }
      const plain = directory.replace(/^(?:\.\/)+|\/+$/g, '');
      const base = plain === '' || plain === '.' ? '' : `${safePath(plain, `${where}:${line}`)}/`;
      const files = new Map<string, { path: string; size: number; sha256?: string; sha512?: string }>();
      const add = (list: string | undefined, key: 'sha256' | 'sha512', digits: number): void => {
        for (const text of (list ?? '').split('\n')) {
          if (text.trim() === '') continue;
          const match = /^\s*([0-9a-fA-F]+)\s+(\d{1,15})\s+(\S+)\s*$/.exec(text);
          const digest = match?.[1]?.toLowerCase();
          if (match === null || digest?.length !== digits)
            throw refuse(`${name} has a wrong line of checksums`);
          const path = safePath(`${base}${match[3] ?? ''}`, `${where}:${line}`);
          const file = files.get(path) ?? { path, size: Number(match[2]) };
          if (file.size !== Number(match[2])) throw refuse(`${name} gives ${path} two sizes`);
          file[key] = digest;
          files.set(path, file);
        }
      };
      add(sha256, 'sha256', 64);
      add(sha512, 'sha512', 128);
      onSource({
        package: name,
        version,
        files: [...files.values()].map((file) => ({
          path: file.path,
          size: file.size,
          sha256: file.sha256,
          sha512: file.sha512,
        })),
        more: values.slice(fields.length),
      });
    },
    where,
  );
}
