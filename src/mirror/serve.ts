import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Offer, realPath } from '../host/file-server.ts';

/**
 * What of the mirrors of a site is offered over HTTP: `/REPOSITORY/dists/...`, `/REPOSITORY/snapshots/ID/...`. No link leads
 * out of its repository.
 * @throws ReliveError `not-found`
 */
export async function offerMirror(mirrorDirectory: string): Promise<Offer> {
  const mirror = await realPath(mirrorDirectory);
  if (mirror === undefined) {
    throw new ReliveError('not-found', `there is no mirror in ${mirrorDirectory}`, {
      hint: 'relive mirror sync brings one',
    });
  }
  return async (names) => {
    const [repository = '', ...below] = names;
    const within = below.length === 0 ? undefined : await realPath(join(mirror, repository));
    if (within?.startsWith(`${mirror}/`) !== true) return undefined;
    return { within, path: join(mirror, ...names) };
  };
}
