import { type Dirent, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isAbsent } from '../host/files.ts';

/** The entries of a directory, sorted; none where there is no directory. */
export function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

/**
 * Everything below a directory that is no directory itself, without following symbolic links.
 * @param prefix put before each path
 * @param enter whether to go into a directory, by its path
 */
export function* walk(
  directory: string,
  prefix = '',
  enter: (path: string) => boolean = () => true,
): Generator<{ readonly path: string; readonly entry: Dirent }> {
  for (const entry of entriesOf(directory)) {
    const path = `${prefix}${entry.name}`;
    if (!entry.isDirectory()) yield { path, entry };
    else if (enter(path)) yield* walk(join(directory, entry.name), `${path}/`, enter);
  }
}
