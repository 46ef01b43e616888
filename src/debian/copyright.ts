import { isReliveError } from '../core/error.ts';
import { parseStanzas } from './control.ts';

/** What the first line of a machine-readable copyright file says of its form. */
const format =
  /^Format:\s*https?:\/\/www\.debian\.org\/doc\/packaging-manuals\/copyright-format\/1\.0\/?\s*$/im;

/**
 * The licences that a package's copyright file names for its files, by their short names, sorted; for a file that is not
 * machine-readable (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/) undefined: it is prose then.
 */
export function licencesIn(text: string): string[] | undefined {
  if (!format.test(text.slice(0, 4096))) return undefined;
  const found = new Set<string>();
  try {
    for (const stanza of parseStanzas(text, 'copyright')) {
      // Of stanzas with a License alone each is the text of one that is named elsewhere.
      if (!stanza.has('files') && !stanza.has('format')) continue;
      const [synopsis = ''] = (stanza.get('license') ?? '').split('\n');
      const name = synopsis.trim().replaceAll(/\s+/g, ' ');
      if (name !== '') found.add(name);
    }
  } catch (error) {
    // It says that it is machine-readable and is not.
    if (!isReliveError(error, 'corrupt')) throw error;
    return undefined;
  }
  return found.size === 0 ? undefined : [...found].toSorted();
}
