import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from './process.ts';

const armourBegin = '-----BEGIN PGP PUBLIC KEY BLOCK-----';
const armourEnd = '-----END PGP PUBLIC KEY BLOCK-----';
/** Digest algorithms of RFC 4880 that a signature must not rest on: MD5, SHA-1, RIPE-MD/160. */
const weakDigests = new Set(['1', '2', '3']);

export interface VerifyOptions {
  /** Only these keys count: fingerprints of primary keys or subkeys, in hexadecimal. Without: every key of the keyring. */
  readonly fingerprints?: readonly string[];
  /** What the file is called in errors, where its own path says little. */
  readonly as?: string;
}

/** One signature, as gpgv's status lines tell of it. */
interface Signature {
  /** The fingerprint of the signing (sub)key and of its primary key; for keys that are not there, the key's id. */
  readonly keys: string[];
  good: boolean;
  valid: boolean;
  bad: boolean;
  /** Why it does not count, in words. */
  problem: string | undefined;
}

/**
 * What gpgv says on its status descriptor (GnuPG's doc/DETAILS), signature by signature. The exit status of gpgv is
 * no verdict: it is 2 as soon as one of several signatures is by a key that the keyring lacks.
 */
function parseStatus(lines: readonly string[]): {
  readonly signatures: readonly Signature[];
  readonly plaintexts: number;
} {
  const signatures: Signature[] = [];
  let plaintexts = 0;
  const current = (): Signature => {
    const last = signatures.at(-1);
    if (last !== undefined) return last;
    const first: Signature = { keys: [], good: false, valid: false, bad: false, problem: undefined };
    signatures.push(first);
    return first;
  };
  for (const line of lines) {
    const match = /^\[GNUPG:\] (\S+) ?(.*)$/.exec(line);
    const keyword = match?.[1] ?? '';
    const parts = (match?.[2] ?? '').split(' ');
    switch (keyword) {
      case 'PLAINTEXT':
        plaintexts += 1;
        break;
      case 'NEWSIG':
        signatures.push({ keys: [], good: false, valid: false, bad: false, problem: undefined });
        break;
      case 'GOODSIG':
        current().good = true;
        break;
      case 'VALIDSIG': {
        // fingerprint, date, timestamp, expiry, version, reserved, key algorithm, digest algorithm, class, primary key
        const signature = current();
        signature.keys.push(...new Set([parts[0] ?? '', parts[9] ?? parts[0] ?? '']));
        signature.valid = !weakDigests.has(parts[7] ?? '') && ['00', '01'].includes(parts[8] ?? '');
        if (!signature.valid) signature.problem ??= 'made with a weak digest or for something else';
        break;
      }
      case 'BADSIG':
        current().bad = true;
        current().problem = 'bad: the file was changed after it was signed';
        current().keys.push(parts[0] ?? '');
        break;
      case 'ERRSIG':
        current().problem ??= 'could not be checked';
        current().keys.push(parts[0] ?? '');
        break;
      case 'NO_PUBKEY':
        current().problem = 'by a key that the keyring lacks';
        break;
      case 'EXPSIG':
        current().problem = 'expired';
        break;
      case 'EXPKEYSIG':
        current().problem = 'by an expired key';
        break;
      case 'REVKEYSIG':
        current().problem = 'by a revoked key';
        break;
      default:
        break;
    }
  }
  return { signatures, plaintexts };
}

/**
 * The binary form of armoured public keys (RFC 4880, 6.2), one block or several; deb822's way of folding them into
 * a field (a leading blank, "." for an empty line) is understood.
 * @throws ReliveError `configuration` where that is no armoured public key
 */
export function dearmour(text: string, where: string): Buffer {
  const lines = text.split(/\r?\n/).map((line) => line.trim().replace(/^\.$/, ''));
  const blocks: Buffer[] = [];
  for (let at = lines.indexOf(armourBegin); at !== -1; at = lines.indexOf(armourBegin, at + 1)) {
    const end = lines.indexOf(armourEnd, at);
    const blank = lines.indexOf('', at);
    const block = end === -1 || blank === -1 || blank > end ? [] : lines.slice(blank + 1, end);
    const base64 = block.filter((line) => !/^=[A-Za-z0-9+/]{4}$/.test(line)).join('');
    if (base64 === '' || !/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || base64.length % 4 !== 0) {
      throw new ReliveError('configuration', `${where} is not a complete armoured public key`, {
        hint: `it must go from ${armourBegin} to ${armourEnd}`,
      });
    }
    blocks.push(Buffer.from(base64, 'base64'));
  }
  return Buffer.concat(blocks);
}

/** Whether a keyring is given as the armoured keys themselves and not as a path. */
export function isArmoured(keyring: string): boolean {
  return keyring.trimStart().startsWith(armourBegin);
}

/** The path of a keyring that gpgv can read: the file itself, or the binary form of an armoured one in `directory`. */
async function usableKeyring(keyring: string, directory: string): Promise<string> {
  const write = async (text: string, where: string): Promise<string> => {
    const path = join(directory, 'keyring.gpg');
    await writeFile(path, dearmour(text, where), { mode: 0o600 });
    return path;
  };
  if (isArmoured(keyring)) return await write(keyring, 'signedBy');
  const path = resolve(keyring);
  try {
    const content = await readFile(path, 'latin1');
    return isArmoured(content) ? await write(content, path) : path;
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined || !isAbsolute(path)) throw error;
    throw new ReliveError('not-found', `the keyring ${path} cannot be read (${code})`, {
      hint: "signedBy names it; Debian's own keys are in the package debian-archive-keyring",
      cause: error,
    });
  }
}

/** Whether a signature is by a key that is named by its fingerprint; with `!` behind it only by that very (sub)key. */
export function isByKey(keys: readonly string[], fingerprint: string): boolean {
  const plain = fingerprint.replaceAll(' ', '').toUpperCase();
  return plain.endsWith('!') ? keys[0] === plain.slice(0, -1) : keys.includes(plain);
}

/** The keys of each signature that counts. @throws ReliveError `not-authentic` */
function judge(
  lines: readonly string[],
  what: string,
  keyring: string,
  fingerprints: readonly string[] | undefined,
): readonly (readonly string[])[] {
  const { signatures } = parseStatus(lines);
  const accepted = signatures.filter(
    ({ good, valid, problem, keys }) =>
      good &&
      valid &&
      problem === undefined &&
      (fingerprints === undefined || fingerprints.some((fingerprint) => isByKey(keys, fingerprint))),
  );
  const where = isArmoured(keyring) ? 'the keys in signedBy' : keyring;
  const told = signatures.map(
    ({ keys, problem }) => `    ${keys[0] ?? 'an unknown key'}: ${problem ?? 'good, but not an allowed key'}`,
  );
  if (signatures.some(({ bad }) => bad)) {
    throw new ReliveError('not-authentic', `${what} has a bad signature\n${told.join('\n')}`, {
      hint: 'it was damaged or forged on its way; fetch it again, from another server if it happens again',
    });
  }
  if (signatures.length === 0) {
    throw new ReliveError('not-authentic', `${what} is not signed`, {
      hint: 'nothing unsigned is used; ask those who publish it for a signature',
    });
  }
  if (accepted.length === 0) {
    throw new ReliveError(
      'not-authentic',
      `${what} is not signed by an allowed key (${where}); it is signed by\n${told.join('\n')}`,
      { hint: 'if one of these keys is to be trusted, get it by a safe way and name it in signedBy' },
    );
  }
  return accepted.map(({ keys }) => keys);
}

/** Whether the lines of a file are one clear-signed message and nothing around it, as apt wants it. */
function isOneClearSigned(content: string): boolean {
  const lines = content.trimEnd().split(/\r?\n/);
  const begins = lines.filter((line) => line.trimEnd() === '-----BEGIN PGP SIGNED MESSAGE-----').length;
  return (
    begins === 1 &&
    lines[0]?.trimEnd() === '-----BEGIN PGP SIGNED MESSAGE-----' &&
    lines.at(-1)?.trimEnd() === '-----END PGP SIGNATURE-----'
  );
}

async function inTemporaryDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'relive-gpgv-'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Verifies a clear-signed file (an InRelease) with gpgv(1).
 * @param file its path
 * @param keyring the path of a keyring (binary or armoured), or armoured keys themselves
 * @returns the signed text, as gpgv took it out of the file, and for each signature that counts the fingerprints of the
 *   (sub)key and of its primary key
 * @throws ReliveError `not-authentic` unless at least one good signature is by an allowed key and none is bad;
 *   `not-found`, `configuration` (keyring), `tool-missing`
 */
export async function verifyClearsigned(
  file: string,
  keyring: string,
  { signal }: Pick<Context, 'signal'>,
  options: VerifyOptions = {},
): Promise<{ readonly body: Buffer; readonly signers: readonly (readonly string[])[] }> {
  const what = options.as ?? file;
  if (!isOneClearSigned(await readFile(file, 'latin1'))) {
    throw new ReliveError('not-authentic', `${what} is not one clear-signed message`, {
      hint: 'a proxy or a login page may have answered instead of the server; look into it, then fetch it again',
    });
  }
  return await inTemporaryDirectory(async (directory) => {
    const output = join(directory, 'body');
    const { stdout } = await run(
      'gpgv',
      [
        ...['--status-fd', '1', '--homedir', directory, '--keyring', await usableKeyring(keyring, directory)],
        ...['--output', output, '--', resolve(file)],
      ],
      { signal, accept: [0, 1, 2], mayOutlive: true },
    );
    const lines = stdout.split('\n');
    const signers = judge(lines, what, keyring, options.fingerprints);
    if (parseStatus(lines).plaintexts !== 1) {
      throw new ReliveError('not-authentic', `${what} holds more than one signed text`);
    }
    // gpgv writes this file on a bad signature too: it counts only after the verdict.
    return { body: await readFile(output), signers };
  });
}

/**
 * Verifies a file against a detached signature (armoured or binary) with gpgv(1).
 * @returns for each signature that counts the fingerprints of the (sub)key and of its primary key
 * @throws as `verifyClearsigned` does
 */
export async function verifyDetached(
  file: string,
  signatureFile: string,
  keyring: string,
  { signal }: Pick<Context, 'signal'>,
  options: VerifyOptions = {},
): Promise<{ readonly signers: readonly (readonly string[])[] }> {
  return await inTemporaryDirectory(async (directory) => {
    const { stdout } = await run(
      'gpgv',
      [
        ...['--status-fd', '1', '--homedir', directory, '--keyring', await usableKeyring(keyring, directory)],
        ...['--', resolve(signatureFile), resolve(file)],
      ],
      { signal, accept: [0, 1, 2], mayOutlive: true },
    );
    return { signers: judge(stdout.split('\n'), options.as ?? file, keyring, options.fingerprints) };
  });
}
