import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { home } from '../core/home.ts';
import { version } from '../core/version.ts';
import { digestFile, exists } from './files.ts';
import { run } from './process.ts';

/** What an installed relive's package is kept in, where it has one beside it. */
export const packageHome = '/var/lib/relive';
const name = `relive_${version}_all.deb`;
/** What of the package is relive itself: the rest is made of it. */
const code = /^usr\/share\/relive\/((dist|profiles|runtime)\/.*)$/;

/** The Debian package of this relive. */
export interface OwnPackage {
  readonly file: string;
  readonly name: string;
  /** SHA-256 */
  readonly digest: string;
}

/** The file of the package whose content is another one here, or undefined. */
async function difference(file: string, context: Context): Promise<string | undefined> {
  const { stdout } = await run('dpkg-deb', ['--info', file, 'md5sums'], context);
  for (const line of stdout.split('\n')) {
    const [digest = '', path = ''] = line.split(/ {2}/);
    const own = code.exec(path)?.[1];
    if (own === undefined) continue;
    try {
      const content = await readFile(join(home, own));
      if (createHash('md5').update(content).digest('hex') !== digest) return own;
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      return own;
    }
  }
  return undefined;
}

/**
 * The package that this very relive would be installed from, for systems that are to have it: of a checkout what `npm run
 * package` made, of an installed relive what lies in /var/lib/relive or in apt's archive.
 * @throws ReliveError `not-found`; `configuration` for a package of other code
 */
export async function ownPackage(context: Context): Promise<OwnPackage> {
  const places = [join(home, 'build'), packageHome, '/var/cache/apt/archives'];
  const checkout = await exists(join(home, 'package-lock.json'));
  const make = checkout ? `npm run package makes it, in ${home}` : `copy it to ${packageHome}`;
  for (const place of checkout ? places.slice(0, 1) : places.slice(1)) {
    const file = join(place, name);
    if (!(await exists(file))) continue;
    const differs = await difference(file, context);
    if (differs !== undefined) {
      throw new ReliveError(
        'configuration',
        `${file} is of another relive than this one: ${differs} differs`,
        {
          hint: make,
        },
      );
    }
    return { file, name, digest: (await digestFile(file, 'sha256', context.signal)).digest };
  }
  throw new ReliveError('not-found', `a system with "factory: true" takes along ${name}, which is not here`, {
    hint: make,
  });
}
