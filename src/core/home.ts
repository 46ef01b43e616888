import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The nearest directory above that has relive's files which are not code. */
function homeAbove(directory: string): string {
  return existsSync(join(directory, 'runtime')) ? directory : homeAbove(dirname(directory));
}

/** Where this relive lies, with dist/, profiles/, runtime/ and package.json: a checkout, or /usr/share/relive. */
export const home = homeAbove(import.meta.dirname);
