import { z } from 'zod';

const lockSchema = z.looseObject({
  packages: z.record(
    z.string(),
    z.looseObject({
      version: z.string(),
      license: z.string().optional(),
      dev: z.boolean().optional(),
      optional: z.boolean().optional(),
    }),
  ),
});

/** A library of package-lock.json. */
export interface Dependency {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  /** Whether it is used for development only, and in no package. */
  readonly development: boolean;
  /** Whether it is one of several that are made for one platform each. */
  readonly optional: boolean;
}

/** The libraries of package-lock.json, by name; those for other platforms, too. */
export function dependenciesOf(lock: unknown): Dependency[] {
  return Object.entries(lockSchema.parse(lock).packages)
    .filter(([path]) => path !== '')
    .map(([path, { version, license, dev, optional }]) => ({
      name: path.replace(/^.*node_modules\//, ''),
      version,
      license: license ?? 'unknown',
      development: dev === true,
      optional: optional === true,
    }))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function listed(dependencies: readonly Dependency[]): string[] {
  const licenses = [...new Set(dependencies.map(({ license }) => license))].toSorted();
  return licenses.map((license) => {
    const own = dependencies.filter((each) => each.license === license);
    return `- ${license}: ${[...new Set(own.map(({ name, version }) => `${name} ${version}`))].join(', ')}.`;
  });
}

/** docs/reference/dependencies.md: the libraries and their licences. */
export function dependenciesPage(dependencies: readonly Dependency[]): string {
  return [
    '# Libraries and their licences',
    '',
    'From package-lock.json, which fixes each to one version and one digest. `npm audit` asks the registry what is known of them.',
    'The programs of Debian that relive starts are not here: `src/host/tools.ts` names their packages.',
    '',
    '## In the package',
    '',
    ...listed(dependencies.filter(({ development }) => !development)),
    '',
    '## For development only',
    '',
    ...listed(dependencies.filter(({ development, optional }) => development && !optional)),
    '',
    'Parts of these that are made for one platform each are left out; they have the same licences.',
    '',
  ].join('\n');
}
