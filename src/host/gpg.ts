import { createHash, type KeyObject } from 'node:crypto';
import { chmod, open, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists, ifThere, makeDirectories, writeFileAtomic } from './files.ts';
import { flock } from './lock.ts';
import { run } from './process.ts';
import { parseTokenKey, publicKeyOfToken, requirePrivatePin, tokenEnvironment } from './token.ts';
import { requireTool } from './tools.ts';

/** The room for a socket's path (unix(7)): gpg-agent's sockets lie in the home. */
const socketPathLimit = 107;

/** A secret key of a GnuPG home. */
export interface SecretKey {
  readonly fingerprint: string;
  readonly user: string;
  /** Seconds since 1970. */
  readonly created: number;
}

function requireSocketRoom(home: string): void {
  if (Buffer.byteLength(`${home}/S.gpg-agent.browser`) <= socketPathLimit) return;
  throw new ReliveError(
    'host-unable',
    `the path of the keys is too long for the sockets of gpg-agent: ${home}`,
    {
      hint: 'set "keys" in relive.yaml to a shorter path',
    },
  );
}

type Token = ReturnType<typeof parseTokenKey>;

/** In a home whose key is on a token (see `createTokenKey`): the token's address (see `parseTokenKey`). */
const tokenFile = 'token.uri';

async function tokenOf(home: string): Promise<Token | undefined> {
  const text = await ifThere(readFile(join(home, tokenFile), 'utf8'));
  return text === undefined ? undefined : parseTokenKey(text.trim());
}

async function gpg(
  home: string,
  args: readonly string[],
  context: Context,
  more: { readonly input?: string | Uint8Array } = {},
) {
  requireSocketRoom(home);
  // The agent that gpg starts, and what that starts, get gpg's environment.
  const token = await tokenOf(home);
  return await run('gpg', ['--homedir', home, '--batch', '--no-tty', '--yes', ...args], {
    ...context,
    ...more,
    ...(token === undefined ? {} : { env: tokenEnvironment(token) }),
  });
}

/**
 * What gpg is told to sign with the key of a home. The PIN of a token is tried before, once: gnupg-pkcs11-scd tries a wrong one
 * three times, and then many a token is locked.
 * @throws ReliveError `tool-failed` for a wrong PIN, and a token that is not there; as `requirePrivatePin`
 */
async function signingArguments(home: string, context: Context): Promise<readonly string[]> {
  const token = await tokenOf(home);
  if (token === undefined) return [];
  await requirePrivatePin(token.pinFile);
  await publicKeyOfToken(token, context);
  return ['--pinentry-mode', 'loopback', '--passphrase-file', token.pinFile];
}

/** Makes the home, readable by its owner alone. */
async function makeHome(home: string): Promise<void> {
  requireSocketRoom(home);
  await makeDirectories(dirname(home));
  await makeDirectories(home, 0o700);
  await chmod(home, 0o700);
}

/** How often, and how many times, we look whether an agent that was told to end has ended: five seconds. */
const agentEnds = { interval: 20, attempts: 250 };

async function endAgent(home: string, context: Context): Promise<void> {
  await run('gpgconf', ['--homedir', home, '--kill', 'gpg-agent'], {
    ...context,
    signal: new AbortController().signal,
    accept: [0, 1, 2],
  });
  // It has said yes and is still there: who asked it now would hear that there are no keys. Its socket goes last.
  const socket = join(home, 'S.gpg-agent');
  for (let attempt = 0; attempt < agentEnds.attempts && (await exists(socket)); attempt += 1) {
    await setTimeout(agentEnds.interval);
  }
}

/**
 * Does something with the agent of a home, which gpg starts and which would stay, and ends it. One at a time: to others it would
 * seem, while it ends, to have no keys.
 */
async function withAgent<T>(home: string, context: Context, work: () => Promise<T>): Promise<T> {
  const directory = await open(home);
  try {
    while (!(await flock(directory.fd, home, 'exclusive', 1))) context.signal.throwIfAborted();
    try {
      return await work();
    } finally {
      await endAgent(home, context);
    }
  } finally {
    await directory.close();
  }
}

/** The secret keys that can sign, newest first. A home that is not there has none. */
export async function listSecretKeys(home: string, context: Context): Promise<SecretKey[]> {
  if (!(await exists(home))) return [];
  const args = ['--list-secret-keys', '--with-colons', '--fixed-list-mode'];
  const { stdout } = await withAgent(home, context, () => gpg(home, args, context));
  // gpg lists them as they were added: of two that were made within one second the later one comes first, too.
  return parseSecretKeys(stdout)
    .toReversed()
    .toSorted((a, b) => b.created - a.created);
}

/** Reads `--with-colons` (doc/DETAILS of GnuPG): sec, its fpr, its first uid; revoked and expired keys left out. */
export function parseSecretKeys(text: string): SecretKey[] {
  const keys: SecretKey[] = [];
  let current: { created: number; fingerprint?: string } | undefined;
  for (const line of text.split('\n')) {
    const field = line.split(':');
    if (field[0] === 'sec')
      current = /[rei]/.test(field[1] ?? '') ? undefined : { created: Number(field[5]) };
    else if (field[0] === 'fpr' && current !== undefined) current.fingerprint ??= field[9] ?? '';
    else if (field[0] === 'uid' && current?.fingerprint !== undefined) {
      keys.push({
        created: current.created,
        fingerprint: current.fingerprint,
        user: unescape(field[9] ?? ''),
      });
      current = undefined;
    }
  }
  return keys;
}

/** GnuPG writes `:` and control characters in its lists as \x3a. */
function unescape(text: string): string {
  return text.replaceAll(/\\x([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/**
 * Makes an RSA key for signing, without a passphrase, in `home` (made with mode 0700).
 * GRUB's pgp module knows RSA and DSA only.
 */
export async function createSigningKey(
  home: string,
  key: { readonly user: string; readonly bits: number },
  context: Context,
): Promise<SecretKey> {
  await makeHome(home);
  await rm(join(home, tokenFile), { force: true });
  const args = [
    ...['--pinentry-mode', 'loopback', '--passphrase', ''],
    ...['--quick-generate-key', '--', key.user, `rsa${key.bits}`, 'sign', 'never'],
  ];
  await withAgent(home, context, () => gpg(home, args, context));
  const [made] = await listSecretKeys(home, context);
  if (made === undefined) throw new ReliveError('tool-failed', `gpg made no key in ${home}`);
  return made;
}

/**
 * How GnuPG calls a key: the SHA-1 of its modulus, as a signed number (libgcrypt, cipher/rsa.c, compute_keygrip).
 * @throws ReliveError `usage` for a key that GRUB could not check signatures of
 */
function keygripOf(key: KeyObject): string {
  const { asymmetricKeyDetails: details } = key;
  if (key.asymmetricKeyType !== 'rsa' || (details?.modulusLength ?? 0) < 2048) {
    throw new ReliveError(
      'usage',
      `the key on the token is ${key.asymmetricKeyType ?? 'unknown'}, ${details?.modulusLength ?? 0} bits`,
      { hint: 'GRUB checks signatures by RSA keys; 2048 bits at least' },
    );
  }
  const modulus = Buffer.from(key.export({ format: 'jwk' }).n ?? '', 'base64url');
  return createHash('sha1').update(Buffer.of(0)).update(modulus).digest('hex').toUpperCase();
}

/** Tells the agent of a home to reach tokens by gnupg-pkcs11-scd (gnupg-pkcs11-scd(1)). */
async function useTokens(home: string, module: string): Promise<void> {
  const file = join(home, 'gpg-agent.conf');
  const lines = ((await ifThere(readFile(file, 'utf8'))) ?? '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('scdaemon-program'));
  await writeFileAtomic(
    file,
    [...lines, `scdaemon-program ${requireTool('gnupg-pkcs11-scd')}`, ''].join('\n'),
  );
  await writeFile(
    join(home, 'gnupg-pkcs11-scd.conf'),
    `providers relive\nprovider-relive-library ${module}\n`,
    { mode: 0o600 },
  );
}

/**
 * Makes the RSA key which is there on a PKCS #11 token the key of `home` (made with mode 0700): it gets a user id, and never
 * leaves the token.
 * @param address as of `parseTokenKey`, with the library that speaks to the token
 * @throws ReliveError `usage`, `not-found` for a key without a certificate on the token, `tool-missing`, `tool-failed`
 */
export async function createTokenKey(
  home: string,
  key: { readonly user: string; readonly address: string },
  context: Context,
): Promise<SecretKey> {
  const token = parseTokenKey(key.address);
  const { module } = token;
  if (module === undefined || !/^[\w./+-]+$/.test(module)) {
    throw new ReliveError('usage', 'the address of a key for images must name the library of its token', {
      hint: '...&module-path=/usr/lib/softhsm/libsofthsm2.so',
    });
  }
  if (/[\n\r]|^\s*$/.test(key.user)) throw new ReliveError('usage', 'no name for a key');
  await requirePrivatePin(token.pinFile);
  const grip = keygripOf(await publicKeyOfToken(token, context));
  await makeHome(home);
  await useTokens(home, module);
  await writeFile(join(home, tokenFile), `${key.address}\n`, { mode: 0o600 });
  try {
    await withAgent(home, context, async () => {
      // It has the agent note all keys of the token.
      await gpg(home, ['--card-status'], context);
      if (!(await exists(join(home, 'private-keys-v1.d', `${grip}.key`)))) {
        throw new ReliveError('not-found', 'the token has no certificate for the key', {
          hint: 'gnupg-pkcs11-scd finds keys by certificates of the same id on the token: docs/secure-boot.md makes one',
        });
      }
      const input = `Key-Type: RSA\nKey-Grip: ${grip}\nKey-Usage: sign\nName-Real: ${key.user}\nExpire-Date: 0\n%commit\n`;
      const args = [...(await signingArguments(home, context)), '--full-generate-key'];
      await gpg(home, args, context, { input });
    });
  } catch (error) {
    await rm(join(home, tokenFile), { force: true });
    throw error;
  }
  const [made] = await listSecretKeys(home, context);
  if (made === undefined) throw new ReliveError('tool-failed', `gpg made no key in ${home}`);
  return made;
}

/** The public keys of a home, as one armoured block. */
export async function exportPublicKeys(home: string, context: Context): Promise<string> {
  const { stdout } = await withAgent(home, context, () => gpg(home, ['--export', '--armor'], context));
  return `${stdout}\n`;
}

/**
 * Signs files: `FILE.sig` beside each, binary and detached. The time of the signature is given, so that the same bytes
 * are signed alike (RSA signatures are deterministic). With SHA-256: GRUB hashes whole kernels and initrds, and by BIOS, where
 * it has 32 bits, SHA-512 takes a third longer.
 * @param time seconds since 1970, not before the key was made
 */
export async function signDetached(
  home: string,
  fingerprint: string,
  files: readonly string[],
  time: number,
  context: Context,
): Promise<void> {
  await withAgent(home, context, async () => {
    const signing = await signingArguments(home, context);
    for (const file of files) {
      await gpg(
        home,
        [
          ...signing,
          ...['--local-user', fingerprint, '--digest-algo', 'SHA256', '--faked-system-time', `${time}!`],
          ...['--detach-sign', '--output', `${file}.sig`, file],
        ],
        context,
      );
    }
  });
}

/** Clear-signs a text file (RFC 9580, section 7): `output` is the text with the signature around it. */
export async function signClear(
  home: string,
  fingerprint: string,
  file: string,
  output: string,
  context: Context,
): Promise<void> {
  await withAgent(home, context, async () => {
    const signing = await signingArguments(home, context);
    const what = ['--local-user', fingerprint, '--clear-sign', '--output', output, file];
    await gpg(home, [...signing, ...what], context);
  });
}
