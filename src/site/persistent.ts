import { persistEntry } from './schema.ts';

/** What is to be kept, as a profile says it. */
export type PersistEntry = ReturnType<typeof persistEntry.parse>;

/** What runtime/persist reads, from the root of a system: a line for each path, tabs between its fields. */
export const persistConfiguration = 'usr/lib/relive/persist.conf';
/** What it reads of volumes that are locked, where the profile has any: a line for each, as above. */
export const lockedVolumes = 'usr/lib/relive/luks.conf';

/** A line of `persistConfiguration`. */
export function formatPersistLine({
  path,
  volume,
  how,
  owner,
  mode,
  seed,
  required,
  grow,
}: PersistEntry): string {
  const flags = [seed ? 'seed' : '-', required ? 'required' : '-', grow ? 'grow' : '-'];
  return `${[path, volume, how, owner ?? '-', mode ?? '-', ...flags].join('\t')}\n`;
}

/** The other way, for a line without its end. @throws ZodError for a line that `formatPersistLine` does not make */
export function parsePersistLine(line: string): PersistEntry {
  const [path, volume, how, owner, mode, seed, required, grow] = line.split('\t');
  return persistEntry.parse({
    ...{ path, volume, how },
    ...(owner === '-' ? {} : { owner }),
    ...(mode === '-' ? {} : { mode }),
    ...{ seed: seed === 'seed', required: required === 'required', grow: grow === 'grow' },
  });
}
