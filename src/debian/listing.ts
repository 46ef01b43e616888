import { ReliveError } from '../core/error.ts';
import { parseStanzas } from './control.ts';
import { safePath } from './path.ts';
import type { ReleaseFile } from './release.ts';

/**
 * The files that a SHA256SUMS lists (sha256sum(1)): those of Debian's installer images. The list has no sizes.
 * @param where the file's name, for errors
 * @returns digests by path, relative to the list's directory
 * @throws ReliveError `corrupt`, `unsafe-path`
 */
export function parseSha256Sums(content: Buffer, where: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const [index, line] of content.toString('utf8').split('\n').entries()) {
    if (line.trim() === '') continue;
    const match = /^([0-9a-f]{64}) [ *](.+)$/i.exec(line);
    if (match === null) {
      throw new ReliveError('corrupt', `${where}:${index + 1}: this line is not "digest path"`, {
        hint: 'tell those who run the repository',
      });
    }
    sums.set(safePath(match[2] ?? '', `${where}:${index + 1}`), (match[1] ?? '').toLowerCase());
  }
  return sums;
}

/**
 * The compressed patches that the Index of a pdiff directory lists (Packages.diff/Index, "SHA256-Download").
 * @param where the file's name, for errors
 * @returns paths relative to the Index' directory
 * @throws ReliveError `corrupt`, `unsafe-path`
 */
export function parsePdiffIndex(content: Buffer, where: string): ReleaseFile[] {
  const [stanza] = parseStanzas(content, where);
  return (stanza?.get('sha256-download') ?? '').split('\n').flatMap((line): ReleaseFile[] => {
    if (line.trim() === '') return [];
    const match = /^\s*([0-9a-f]{64})\s+(\d{1,15})\s+(\S+)\s*$/i.exec(line);
    if (match === null) throw new ReliveError('corrupt', `${where}: ${JSON.stringify(line)} is no patch`);
    return [
      {
        path: safePath(match[3] ?? '', where),
        size: Number(match[2]),
        sha256: (match[1] ?? '').toLowerCase(),
        sha512: undefined,
      },
    ];
  });
}
