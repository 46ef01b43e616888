import { parseStanzas } from './control.ts';
import { relationNames } from './relations.ts';

/** A package that is installed in a system. */
export interface InstalledPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly source: string;
  readonly sourceVersion: string;
  readonly homepage: string | undefined;
  /** The first line of its description. */
  readonly summary: string | undefined;
  /** For each of its dependencies the names of the alternatives. */
  readonly depends: readonly (readonly string[])[];
  readonly provides: readonly string[];
}

/**
 * The installed packages in the text of /var/lib/dpkg/status (deb-control(5), dpkg-query(1)).
 * @throws ReliveError `corrupt`
 */
export function installedPackages(text: string, where: string): InstalledPackage[] {
  return parseStanzas(text, where).flatMap((stanza): InstalledPackage[] => {
    const name = stanza.get('package');
    const version = stanza.get('version');
    if (name === undefined || version === undefined) return [];
    if (!/\binstalled$/.test(stanza.get('status') ?? '')) return [];
    // Source: NAME or NAME (VERSION), absent where both are the package's own.
    const [, source = name, sourceVersion] =
      /^(\S+)(?: +\(([^)]+)\))?/.exec(stanza.get('source') ?? '') ?? [];
    const relations = (...fields: readonly string[]): string[][] =>
      fields.flatMap((field) => relationNames(stanza.get(field) ?? ''));
    return [
      {
        ...{ name, version, source },
        architecture: stanza.get('architecture') ?? 'all',
        sourceVersion: sourceVersion ?? version,
        homepage: stanza.get('homepage'),
        summary: stanza.get('description')?.split('\n', 1)[0],
        depends: relations('pre-depends', 'depends'),
        provides: relations('provides').flat(),
      },
    ];
  });
}
