import { chmod, cp, lstat, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Document, parseDocument } from 'yaml';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists, makeDirectories } from '../host/files.ts';
import { type Site, siteFile } from '../site/site.ts';
import { isArmouredKey } from '../site/syntax.ts';
import { publicKeysFile } from './keys.ts';

/** Where a system that builds images has its site. */
const siteHome = 'srv/relive';
/** What of a site's directory goes along as it is. */
const copied = ['profiles', 'overlays', 'scripts', 'locks'];
/** What a private key begins with in a file (RFC 7468; OpenPGP, RFC 9580 6.2; OpenSSH). */
const privateKey = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY/;

/**
 * Writes the public part of a site, as it will lie in a system that builds images, into `directory`: configuration,
 * profiles, overlays, scripts, locks, public keys. The keyrings of the repositories go along, since those of another
 * release of Debian have other bytes, which would be in the images.
 *
 * What is secret or belongs to this host stays here: signing keys, client certificates, and the places of store, mirror,
 * cache and keys, which are the defaults over there.
 */
export async function writePublicSite(site: Site, directory: string, context: Context): Promise<void> {
  const target = join(directory, siteHome);
  await makeDirectories(target, 0o755);
  for (const name of copied) {
    const source = join(site.directory, name);
    if (!(await exists(source))) continue;
    await cp(source, join(target, name), {
      recursive: true,
      verbatimSymlinks: true,
      preserveTimestamps: true,
    });
  }
  const put = async (path: string, content: string | Buffer): Promise<void> => {
    const file = join(target, path);
    await makeDirectories(join(file, '..'), 0o755);
    await writeFile(file, content);
    await chmod(file, 0o644);
  };
  await put('keys/public.asc', await readFile(publicKeysFile(site)));
  const document = parseDocument(await readFile(join(site.directory, siteFile), 'utf8'));
  // Who hears of this site's refreshes, and its media, are nobody else's.
  for (const key of ['store', 'mirror', 'cache', 'keys', 'refresh']) document.delete(key);
  for (const { name, signedBy, transport } of Object.values(site.repositories)) {
    if (!isArmouredKey(signedBy)) {
      const own = `keyrings/${name}${signedBy.endsWith('.asc') ? '.asc' : '.gpg'}`;
      await put(own, await readFile(signedBy));
      document.setIn(['repositories', name, 'signedBy'], own);
    }
    if (transport?.ca !== undefined) {
      await put(`keyrings/${name}.ca.pem`, await readFile(transport.ca));
      document.setIn(['repositories', name, 'transport', 'ca'], `keyrings/${name}.ca.pem`);
    }
    if (transport?.key !== undefined) withoutCertificate(document, name, context);
  }
  await put(siteFile, document.toString({ lineWidth: 0, flowCollectionPadding: false }));
}

/** The certificate is of no use without its private key, which stays here. */
function withoutCertificate(document: Document, name: string, context: Context): void {
  for (const key of ['certificate', 'key']) document.deleteIn(['repositories', name, 'transport', key]);
  context.emit({
    event: 'warning',
    message: `${name}: its client certificate does not go into the image; the factory cannot fetch from there by itself`,
    hint: `give the factory a mirror on a volume, or a certificate of its own`,
  });
}

/**
 * Nothing that is secret may enter an image which somebody carries away.
 * @throws ReliveError `configuration` where a file of the site that `writePublicSite` copies has a private key in it
 */
export async function refusePrivateKeys(site: Site): Promise<void> {
  for (const name of copied) {
    const directory = join(site.directory, name);
    if (!(await exists(directory))) continue;
    for (const path of await readdir(directory, { recursive: true })) {
      const file = join(directory, path);
      const status = await lstat(file);
      if (!status.isFile() || !privateKey.test(await readFile(file, 'latin1'))) continue;
      throw new ReliveError(
        'configuration',
        `${file} has a private key in it, and an image with "factory: true" would take it along`,
        { hint: 'bring it into the system another way: at boot, from a volume' },
      );
    }
  }
}
