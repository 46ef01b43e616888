import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Offer, realPath } from '../host/file-server.ts';
import { channelPattern } from './channel.ts';
import { profilePattern, versionPattern } from './name.ts';
import { signedFiles } from './seal.ts';
import { listImages } from './store.ts';

/** The list of images that a served store has, in JSON. Nothing in it is believed: it says what may be asked for. */
export const indexFile = 'images.json';

/** The files of an image directory, whichever kind it is of. */
const publishedFiles = new Set([
  ...signedFiles({ boot: {} }),
  ...signedFiles({ boot: { checksum: 'sha512' } }),
]);

/** What images and channels of a store are made of, by the names of their paths; nothing else of it is shown. */
function isPublished([top = '', ...names]: readonly string[]): boolean {
  const [first = '', second = '', third = ''] = names;
  if (names.length === 1 && top === 'live')
    return /^([0-9a-f]{16}\.(squashfs|verity)|[a-z0-9.-]+\.module)$/.test(first);
  if (names.length === 1 && top === 'isos') return /^[A-Za-z0-9._+~-]+\.iso(\.sig)?$/.test(first);
  if (names.length === 2 && top === 'channels')
    return (
      profilePattern.test(first) &&
      channelPattern.test(second.replace(/\.asc$/, '')) &&
      second.endsWith('.asc')
    );
  if (names.length !== 3 || top !== 'images') return false;
  const file = third.replace(/\.sig$/, '');
  return profilePattern.test(first) && versionPattern.test(second) && publishedFiles.has(file);
}

/**
 * What of a store is offered over HTTP: layers, hash trees, images, channels and ISO files, at the paths that they have in the
 * store, and `/images.json`. For media, `boot.http` and `relive live pull`.
 * @throws ReliveError `not-found`
 */
export async function offerStore(storeDirectory: string): Promise<Offer> {
  const store = await realPath(storeDirectory);
  if (store === undefined) {
    throw new ReliveError('not-found', `there is no store in ${storeDirectory}`, {
      hint: 'relive build PROFILE makes an image, and the store for it',
    });
  }
  return async (names) => {
    if (names.length === 1 && names[0] === indexFile) {
      const images = (await listImages(store)).map(({ name }) => name);
      return { text: JSON.stringify({ schema: 1, images }, undefined, 2) };
    }
    return isPublished(names) ? { within: store, path: join(store, ...names) } : undefined;
  };
}
