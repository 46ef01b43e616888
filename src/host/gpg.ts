import { chmod } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists, makeDirectories } from './files.ts';
import { run } from './process.ts';

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

async function gpg(
  home: string,
  args: readonly string[],
  context: Context,
  more: { readonly input?: string | Uint8Array } = {},
) {
  requireSocketRoom(home);
  return await run('gpg', ['--homedir', home, '--batch', '--no-tty', '--yes', ...args], {
    ...context,
    ...more,
  });
}

/** Makes the home, readable by its owner alone. */
async function makeHome(home: string): Promise<void> {
  requireSocketRoom(home);
  await makeDirectories(dirname(home));
  await makeDirectories(home, 0o700);
  await chmod(home, 0o700);
}

/** gpg starts an agent which would stay; what is asked of it is done when the command ends. */
async function endAgent(home: string, context: Context): Promise<void> {
  await run('gpgconf', ['--homedir', home, '--kill', 'gpg-agent'], {
    ...context,
    signal: new AbortController().signal,
    accept: [0, 1, 2],
  });
}

/** The secret keys that can sign, newest first. A home that is not there has none. */
export async function listSecretKeys(home: string, context: Context): Promise<SecretKey[]> {
  if (!(await exists(home))) return [];
  const { stdout } = await gpg(home, ['--list-secret-keys', '--with-colons', '--fixed-list-mode'], context);
  await endAgent(home, context);
  // gpg lists them as they were added: of two that were made within one second the later one comes first, too.
  return parseSecretKeys(stdout)
    .toReversed()
    .toSorted((a, b) => b.created - a.created);
}

/** Reads `--with-colons` (doc/DETAILS of GnuPG): sec, its fpr, its first uid; revoked and expired keys left out. */
export function parseSecretKeys(text: string): SecretKey[] {
  const keys: SecretKey[] = [];
  let open: { created: number; fingerprint?: string } | undefined;
  for (const line of text.split('\n')) {
    const field = line.split(':');
    if (field[0] === 'sec') open = /[rei]/.test(field[1] ?? '') ? undefined : { created: Number(field[5]) };
    else if (field[0] === 'fpr' && open !== undefined) open.fingerprint ??= field[9] ?? '';
    else if (field[0] === 'uid' && open?.fingerprint !== undefined) {
      keys.push({ created: open.created, fingerprint: open.fingerprint, user: unescape(field[9] ?? '') });
      open = undefined;
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
  await gpg(
    home,
    [
      '--pinentry-mode',
      'loopback',
      '--passphrase',
      '',
      '--quick-generate-key',
      '--',
      key.user,
      `rsa${key.bits}`,
      'sign',
      'never',
    ],
    context,
  );
  const [made] = await listSecretKeys(home, context);
  if (made === undefined) throw new ReliveError('tool-failed', `gpg made no key in ${home}`);
  return made;
}

/** The public keys of a home, as one armoured block. */
export async function exportPublicKeys(home: string, context: Context): Promise<string> {
  const { stdout } = await gpg(home, ['--export', '--armor'], context);
  await endAgent(home, context);
  return `${stdout}\n`;
}

/**
 * Signs files: `FILE.sig` beside each, binary and detached. The time of the signature is given, so that the same bytes
 * are signed alike (RSA signatures are deterministic).
 * @param time seconds since 1970, not before the key was made
 */
export async function signDetached(
  home: string,
  fingerprint: string,
  files: readonly string[],
  time: number,
  context: Context,
): Promise<void> {
  try {
    for (const file of files) {
      await gpg(
        home,
        [
          ...['--local-user', fingerprint, '--digest-algo', 'SHA512', '--faked-system-time', `${time}!`],
          ...['--detach-sign', '--output', `${file}.sig`, file],
        ],
        context,
      );
    }
  } finally {
    await endAgent(home, context);
  }
}

/** Clear-signs a text file (RFC 9580, section 7): `output` is the text with the signature around it. */
export async function signClear(
  home: string,
  fingerprint: string,
  file: string,
  output: string,
  context: Context,
): Promise<void> {
  try {
    await gpg(home, ['--local-user', fingerprint, '--clear-sign', '--output', output, file], context);
  } finally {
    await endAgent(home, context);
  }
}
