import { createPublicKey, type KeyObject } from 'node:crypto';
import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from './process.ts';

/** A private key on a PKCS #11 token: a smart card, a security module, SoftHSM. */
export interface TokenKey {
  /** Its address (RFC 7512) as openssl is to have it: without the module, and with the name of the file that has the PIN. */
  readonly uri: string;
  /** The library that speaks to the token; undefined: p11-kit's, which knows all that the host has. */
  readonly module: string | undefined;
}

function refuse(why: string): ReliveError {
  return new ReliveError('usage', `no address of a key on a token: ${why}`, {
    hint: 'pkcs11:token=TOKEN;object=KEY?pin-source=file:/FILE, and &module-path=/LIBRARY where p11-kit does not know the token',
  });
}

/** A value of an address without its escapes. */
function plain(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw refuse(`${JSON.stringify(value)} has a % without two digits behind it`);
  }
}

/**
 * Reads the address of a key (RFC 7512): `pkcs11:token=...;object=...?pin-source=file:/...&module-path=/...`.
 *
 * The PIN must be in a file: an address stands in lists of processes, and in the site's git repository.
 * @throws ReliveError `usage`
 */
export function parseTokenKey(address: string): TokenKey & { readonly pinFile: string } {
  // No blanks, no quotes, no controls: RFC 7512 wants those written as %20.
  const [, path, query = ''] =
    /^pkcs11:([\w.~%:[\]@!$'()*+,=;&/-]*)(?:\?([\w.~%:[\]@!$'()*+,=;/?|&-]*))?$/.exec(address) ?? [];
  if (path === undefined)
    throw refuse('it must begin with "pkcs11:", and has other than the letters of an address');
  const attributes = new Map(
    [...path.split(';'), ...query.split('&')]
      .filter((one) => one !== '')
      .map((one): [string, string] => {
        const [name = '', ...value] = one.split('=');
        return [name, value.join('=')];
      }),
  );
  if (attributes.has('pin-value'))
    throw refuse('a PIN in it ("pin-value") would be seen by all: "pin-source" names a file');
  if (!attributes.has('object') && !attributes.has('id'))
    throw refuse('"object" or "id" must say which key it is');
  const [, pinFile] = /^file:(\/.+)$/.exec(plain(attributes.get('pin-source') ?? '')) ?? [];
  if (pinFile === undefined) throw refuse('"pin-source" must name the file with the PIN, file:/...');
  const encodedModule = attributes.get('module-path');
  const module = encodedModule === undefined ? undefined : plain(encodedModule);
  if (module?.startsWith('/') === false) throw refuse('"module-path" must be a whole path');
  attributes.delete('module-path');
  attributes.set('type', 'private');
  return {
    uri: `pkcs11:${[...attributes].map(([name, value]) => `${name}=${value}`).join(';')}`,
    module,
    pinFile,
  };
}

/** Refuses a PIN that others can read. @throws ReliveError `configuration` */
export async function requirePrivatePin(file: string): Promise<void> {
  let stats: Stats;
  try {
    stats = await stat(file);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new ReliveError('not-found', `there is no file ${file} with the PIN of the token`, {
      cause: error,
    });
  }
  if (stats.isFile() && (stats.mode & 0o077) === 0) return;
  throw new ReliveError('configuration', `the PIN in ${file} is not for its owner alone`, {
    hint: `chmod 600 ${file}`,
  });
}

/** What openssl wants to hear to find a key on a token (libengine-pkcs11-openssl). */
export const engineArguments: readonly string[] = ['-engine', 'pkcs11', '-keyform', 'engine'];

/** The environment for it. */
export function tokenEnvironment({ module }: TokenKey): Readonly<Record<string, string>> {
  return {
    ...(module === undefined ? {} : { PKCS11_MODULE_PATH: module }),
    // Where a user's own SoftHSM and p11-kit have their settings.
    HOME: process.env['HOME'] ?? '/root',
    ...(process.env['SOFTHSM2_CONF'] === undefined ? {} : { SOFTHSM2_CONF: process.env['SOFTHSM2_CONF'] }),
  };
}

/**
 * The public part of a key on a token. Its owner is asked for, once: a wrong PIN is found by one try out of the few that a token
 * allows.
 * @throws ReliveError `tool-missing`; `tool-failed` where the token does not know the key or the PIN
 */
export async function publicKeyOfToken(key: TokenKey, context: Context): Promise<KeyObject> {
  const { stdout } = await run(
    'openssl',
    ['pkey', '-engine', 'pkcs11', '-inform', 'engine', '-in', key.uri, '-pubout'],
    { signal: context.signal, env: tokenEnvironment(key), as: 'openssl (the key on the token)' },
  );
  return createPublicKey(stdout);
}

/**
 * Signs with a key on a token: RSA, PKCS #1 v1.5, SHA-256, the signature that Secure Boot knows.
 * @throws ReliveError `tool-missing`; `tool-failed` where the token does not know the key or the PIN
 */
export async function signByToken(key: TokenKey, data: Uint8Array, context: Context): Promise<Buffer> {
  const { stdout } = await run('openssl', ['dgst', ...engineArguments, '-sign', key.uri, '-sha256', '-hex'], {
    signal: context.signal,
    env: tokenEnvironment(key),
    input: data,
    as: 'openssl (the key on the token)',
  });
  const [hex] = /[0-9a-f]{256,}$/.exec(stdout) ?? [];
  if (hex === undefined) throw new ReliveError('tool-failed', `openssl printed no signature: ${stdout}`);
  return Buffer.from(hex, 'hex');
}
