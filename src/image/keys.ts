import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { writeFileAtomic } from '../host/files.ts';
import {
  createSigningKey,
  createTokenKey,
  exportPublicKeys,
  listSecretKeys,
  type SecretKey,
} from '../host/gpg.ts';
import type { Site } from '../site/site.ts';

/** The site's own GnuPG home, with the secret keys. */
export function keysHome(site: Pick<Site, 'keys'>): string {
  return join(site.keys, 'gnupg');
}

/** The public keys whose images the site trusts, armoured; may be committed and given to anybody. */
export function publicKeysFile(site: Pick<Site, 'keys'>): string {
  return join(site.keys, 'public.asc');
}

/**
 * Makes the site's signing key and exports the public one.
 * @param options `token`: the address of a key on a token, which is there (see `parseTokenKey`)
 * @throws ReliveError `exists` where there is one and `replace` was not asked for
 */
export async function createKey(
  site: Pick<Site, 'keys'>,
  options: {
    readonly user: string;
    readonly bits: number;
    readonly replace: boolean;
    readonly token?: string | undefined;
  },
  context: Context,
): Promise<SecretKey> {
  const home = keysHome(site);
  const [present] = await listSecretKeys(home, context);
  if (present !== undefined && !options.replace) {
    throw new ReliveError('exists', `the site has a signing key: ${present.fingerprint} (${present.user})`, {
      hint: 'relive keys create --replace makes another one; images signed by the old key stay valid',
    });
  }
  const { user, token } = options;
  const key =
    token === undefined
      ? await createSigningKey(home, options, context)
      : await createTokenKey(home, { user, address: token }, context);
  await writeFileAtomic(publicKeysFile(site), await exportPublicKeys(home, context));
  return key;
}

/** The key that the site signs with: the newest. */
export async function signingKey(site: Pick<Site, 'keys'>, context: Context): Promise<SecretKey> {
  const [key] = await listSecretKeys(keysHome(site), context);
  if (key !== undefined) return key;
  throw new ReliveError('not-found', `the site has no signing key in ${keysHome(site)}`, {
    hint: 'relive keys create makes one',
  });
}

/** The armoured public keys that images of the site are checked with. */
export async function trustedKeys(site: Pick<Site, 'keys'>): Promise<string> {
  try {
    return await readFile(publicKeysFile(site), 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError(
      'not-found',
      `there are no public keys to check images with: ${publicKeysFile(site)}`,
      {
        hint: 'relive keys create makes a key, or copy the public keys of the site that made the images there',
      },
    );
  }
}
