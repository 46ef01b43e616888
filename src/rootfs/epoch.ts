import { open } from 'node:fs/promises';
import { ReliveError } from '../core/error.ts';

/** Where the first member's modification time stands in an ar archive (deb(5), ar(5)): 12 decimal characters. */
const timeOffset = 24;
const timeLength = 12;

/**
 * The time that everything in an image is clamped to, in seconds since 1970: when the newest of its packages was built,
 * which dpkg-deb writes into the archive. So the same packages give the same time, and nothing of theirs is younger.
 * @param files the .deb files
 * @throws ReliveError `corrupt` for a file that is no package
 */
export async function newestPackageTime(files: readonly string[]): Promise<number> {
  let newest = 0;
  for (const file of files) {
    const handle = await open(file, 'r');
    try {
      const header = Buffer.alloc(timeOffset + timeLength);
      await handle.read(header, 0, header.length, 0);
      const time = Number(header.toString('latin1', timeOffset));
      if (header.toString('latin1', 0, 8) !== '!<arch>\n' || !Number.isSafeInteger(time)) {
        throw new ReliveError('corrupt', `${file} is not a Debian package`);
      }
      newest = Math.max(newest, time);
    } finally {
      await handle.close();
    }
  }
  return newest;
}
