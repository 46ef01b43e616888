import { randomUUID, sign, X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { entryExists, makeDirectories, syncDirectory } from '../host/files.ts';
import { run } from '../host/process.ts';
import {
  engineArguments,
  parseTokenKey,
  requirePrivatePin,
  signByToken,
  tokenEnvironment,
} from '../host/token.ts';
import type { Site } from '../site/site.ts';
import type { Signer } from './authenticode.ts';

/**
 * The keys of UEFI Secure Boot (UEFI specification, 32.3): PK may change KEK, KEK may change db, and what db has signed
 * may start.
 */
export const secureBootNames = ['PK', 'KEK', 'db'] as const;
export type SecureBootName = (typeof secureBootNames)[number];

/** So long certificates are valid. Firmware does not look: it has no time that it trusts. */
const validDays = 7300;

/** Stands instead of db.key where the key is on a token: its address (see `parseTokenKey`). */
const tokenFile = 'db.uri';

/** Where a site has its keys for Secure Boot: NAME.crt, and NAME.key, which git ignores. */
export function secureBootDirectory(site: Pick<Site, 'keys'>): string {
  return join(site.keys, 'secure-boot');
}

/** What firmware is to know: certificates, and the identifier of whose they are. */
export interface SecureBootCertificates {
  readonly certificates: Readonly<Record<SecureBootName, X509Certificate>>;
  /** A GUID, the SignatureOwner of the lists. */
  readonly owner: string;
}

/** A configuration of openssl-req(1) of our own: the host's says something else on each host. */
function requestConfiguration(commonName: string): string {
  return `[req]
prompt = no
string_mask = utf8only
utf8 = yes
distinguished_name = name
x509_extensions = extensions
[name]
CN = ${commonName}
[extensions]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
`;
}

/**
 * Makes PK, KEK and db: RSA keys without a passphrase, which only their owner may read, and certificates.
 * @param options `token`: the address of a key on a token, which is there and becomes that of db
 * @throws ReliveError `exists` where there are some and `replace` was not asked for; `usage` for a name that no
 *   certificate can have, and an address that is none; `tool-failed` for a token that does not know the key
 */
export async function createSecureBootKeys(
  site: Pick<Site, 'keys'>,
  options: {
    readonly user: string;
    readonly bits: number;
    readonly replace: boolean;
    readonly token?: string | undefined;
  },
  context: Context,
): Promise<SecureBootCertificates> {
  const directory = secureBootDirectory(site);
  const there = await entryExists(directory);
  if (there && !options.replace) {
    throw new ReliveError('exists', `the site has keys for Secure Boot: ${directory}`, {
      hint: 'relive keys create --secure-boot --replace makes others and keeps these beside them; firmware must then learn the new ones',
    });
  }
  // 64 characters: RFC 5280, ub-common-name.
  if (!/^[\p{L}\p{N}][\p{L}\p{N} .,_@<>()+-]{0,59}$/u.test(options.user)) {
    throw new ReliveError('usage', `no name for a certificate: ${JSON.stringify(options.user)}`, {
      hint: 'letters, digits, spaces and . , _ @ < > ( ) + -, 60 at most',
    });
  }
  const token = options.token === undefined ? undefined : parseTokenKey(options.token);
  if (token !== undefined) await requirePrivatePin(token.pinFile);
  await makeDirectories(site.keys);
  const made = await mkdtemp(join(site.keys, '.tmp-secure-boot-'));
  try {
    for (const name of secureBootNames) {
      const [configuration, key, certificate] = ['cnf', 'key', 'crt'].map((end) =>
        join(made, `${name}.${end}`),
      );
      if (configuration === undefined || key === undefined || certificate === undefined)
        throw new TypeError('three ends, three paths');
      await writeFile(configuration, requestConfiguration(`${options.user} ${name}`));
      const byToken = name === 'db' ? token : undefined;
      // openssl-req(1) writes its key into the file that is there, whose mode stays.
      if (byToken === undefined) await writeFile(key, '', { mode: 0o600 });
      await run(
        'openssl',
        [
          ...['req', '-x509', '-new', '-sha256', '-batch', '-days', String(validDays)],
          ...['-config', configuration, '-out', certificate],
          ...(byToken === undefined
            ? ['-newkey', `rsa:${options.bits}`, '-noenc', '-keyout', key]
            : [...engineArguments, '-key', byToken.uri]),
        ],
        { signal: context.signal, ...(byToken === undefined ? {} : { env: tokenEnvironment(byToken) }) },
      );
      await rm(configuration);
    }
    if (options.token !== undefined) await writeFile(join(made, tokenFile), `${options.token}\n`);
    await writeFile(join(made, 'owner.guid'), `${randomUUID()}\n`);
    await writeFile(join(made, '.gitignore'), '*.key\n');
    if (there) {
      const time = new Date().toISOString().replaceAll(/\D/g, '').slice(0, 14);
      await rename(directory, `${directory}.${time}`);
    }
    await rename(made, directory);
    await syncDirectory(site.keys);
  } finally {
    await rm(made, { recursive: true, force: true });
  }
  return await secureBootCertificates(site);
}

async function readKeyFile(site: Pick<Site, 'keys'>, name: string): Promise<string> {
  const file = join(secureBootDirectory(site), name);
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError('not-found', `the site has no ${name} for Secure Boot: ${file}`, {
      hint: 'relive keys create --secure-boot makes PK, KEK and db',
      cause: error,
    });
  }
}

async function readCertificate(site: Pick<Site, 'keys'>, name: SecureBootName): Promise<X509Certificate> {
  const text = await readKeyFile(site, `${name}.crt`);
  try {
    return new X509Certificate(text);
  } catch (error) {
    const file = join(secureBootDirectory(site), `${name}.crt`);
    throw new ReliveError('corrupt', `${file} is no certificate`, { cause: error });
  }
}

/** @throws ReliveError `not-found`, `corrupt` */
export async function secureBootCertificates(site: Pick<Site, 'keys'>): Promise<SecureBootCertificates> {
  const [platform, exchange, db] = await Promise.all(
    secureBootNames.map(async (name) => await readCertificate(site, name)),
  );
  if (platform === undefined || exchange === undefined || db === undefined)
    throw new TypeError('three names, three certificates');
  const owner = (await readKeyFile(site, 'owner.guid')).trim();
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(owner))
    throw new ReliveError('corrupt', `${join(secureBootDirectory(site), 'owner.guid')} is no GUID`);
  return { certificates: { PK: platform, KEK: exchange, db }, owner };
}

/**
 * The key that programs which firmware and GRUB start are signed with: db, in its file or on its token.
 * @throws ReliveError `not-found`, `corrupt`, and what `parseTokenKey` and `requirePrivatePin` throw
 */
export async function secureBootSigner(site: Pick<Site, 'keys'>, context: Context): Promise<Signer> {
  const certificate = await readCertificate(site, 'db');
  if (await entryExists(join(secureBootDirectory(site), tokenFile))) {
    const key = parseTokenKey((await readKeyFile(site, tokenFile)).trim());
    await requirePrivatePin(key.pinFile);
    return { certificate, sign: async (data) => await signByToken(key, data, context) };
  }
  const key = await readKeyFile(site, 'db.key');
  return { certificate, sign: async (data) => await Promise.resolve(sign('sha256', data, key)) };
}
