import { ReliveError } from '../core/error.ts';

/**
 * A path that an index or a Release names, checked: relative, below where it is joined to, and of names that every
 * file system and web server takes as they are. A leading `./`, as flat repositories write it, is dropped.
 * @param where the file that names the path, for errors
 * @returns the path, its names separated by single slashes
 * @throws ReliveError `unsafe-path` for `..`, absolute paths, backslashes, control characters, empty or too long names
 */
export function safePath(path: string, where: string): string {
  const plain = path.replace(/^(?:\.\/)+/, '');
  const safe =
    plain.length <= 4000 &&
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    !/[\u0000-\u001f\u007f\\]/.test(plain) &&
    plain
      .split('/')
      .every((name) => name !== '' && name !== '.' && name !== '..' && Buffer.byteLength(name) <= 255);
  if (!safe) {
    throw new ReliveError(
      'unsafe-path',
      `${where} names the path ${JSON.stringify(path)}, which is refused`,
      {
        hint: 'such a path could lead out of the mirror; tell those who run the repository',
      },
    );
  }
  return plain;
}
