import { ReliveError } from '../core/error.ts';
import { StanzaReader } from './control.ts';
import { safePath } from './path.ts';

/** What a Packages index says of one package. */
export interface PackageEntry {
  readonly package: string;
  readonly version: string;
  readonly architecture: string;
  /** Relative to the repository's base address, checked by `safePath`. */
  readonly filename: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal in lower case; one of the two is always there. */
  readonly sha256: string | undefined;
  readonly sha512: string | undefined;
  /** The values of the further fields that the reader was asked for, in their order. */
  readonly more: readonly (string | undefined)[];
}

const none: readonly string[] = [];
const fields = ['Package', 'Version', 'Architecture', 'Filename', 'Size', 'SHA256', 'SHA512'];

/**
 * A reader of a Packages index (uncompressed), to be fed piece by piece: `push` the bytes, then `end`.
 * @param where the index' name, for errors
 * @param onPackage gets each package in the order of the index
 * @param more names of further fields to hand over
 * @returns a reader whose calls throw ReliveError `corrupt` or `unsafe-path`
 */
export function packagesReader(
  where: string,
  onPackage: (entry: PackageEntry) => void,
  more: readonly string[] = [],
): StanzaReader {
  return new StanzaReader(
    [...fields, ...more],
    (values, line) => {
      const [name, version, architecture, filename, size, sha256, sha512] = values;
      const refuse = (what: string): ReliveError =>
        new ReliveError('corrupt', `${where}:${line}: ${what}`, {
          hint: 'tell those who run the repository',
        });
      if (
        name === undefined ||
        version === undefined ||
        architecture === undefined ||
        filename === undefined
      ) {
        throw refuse('a package lacks one of Package, Version, Architecture, Filename');
      }
      if (size === undefined || !/^\d{1,15}$/.test(size))
        throw refuse(`${name} has no Size that can be read`);
      if (sha256 === undefined && sha512 === undefined) throw refuse(`${name} has neither SHA256 nor SHA512`);
      if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) throw refuse(`${name} has a wrong SHA256`);
      if (sha512 !== undefined && !/^[0-9a-f]{128}$/i.test(sha512))
        throw refuse(`${name} has a wrong SHA512`);
      onPackage({
        package: name,
        version,
        architecture,
        filename: safePath(filename, `${where}:${line}`),
        size: Number(size),
        sha256: sha256?.toLowerCase(),
        sha512: sha512?.toLowerCase(),
        more: more.length === 0 ? none : values.slice(fields.length),
      });
    },
    where,
  );
}
