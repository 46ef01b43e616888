import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dearmour, isByKey, verifyClearsigned, verifyDetached } from '../../../src/host/gpgv.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { joinKeyrings, makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';

const text = 'Origin: Test\n- dashes\n\nlast line\n';
const context = recordingContext();
let directory: string;
let key: SigningKey;
let other: SigningKey;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'relive-test-gpgv-'));
  key = makeSigningKey();
  other = makeSigningKey('Another');
});

afterAll(() => {
  key.remove();
  other.remove();
  rmSync(directory, { recursive: true, force: true });
});

function file(content: string | Buffer, name = 'InRelease'): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** One text signed by both keys: the second signature is by a key that only one keyring holds. */
function signedByBoth(): Buffer {
  const secret = other.gpg(['--export-secret-keys', '--armor']);
  key.gpg(['--import'], secret);
  return key.gpg(['--local-user', key.fingerprint, '--local-user', other.fingerprint, '--clear-sign'], text);
}

/** The OpenPGP packets of the signatures of a clear-signed text. */
function packets(signed: string): Buffer {
  const base64 = /BEGIN PGP SIGNATURE-----\n\n([^]*?)\n(?:=....\n)?-----END/.exec(signed)?.[1];
  return Buffer.from(base64 ?? '', 'base64');
}

describe('verifyClearsigned', () => {
  test('gives the signed text, with a binary, an armoured and an inline keyring', async () => {
    const path = file(key.clearSign(text));
    const folded = key.armoured.replaceAll(/^$/gm, ' .').replaceAll('\n', '\n ');
    const keyrings = [
      key.keyring,
      file(key.armoured, 'key.asc'),
      file(key.armoured, 'key.gpg'),
      key.armoured,
      folded,
    ];
    for (const keyring of keyrings) {
      const { body, signers } = await verifyClearsigned(path, keyring, context);
      expect(body.toString('utf8')).toBe(text);
      expect(signers).toEqual([[key.fingerprint]]);
    }
  });

  test('one good signature serves, although the keyring lacks the key of another', async () => {
    const path = file(signedByBoth());
    for (const one of [key, other]) {
      const { signers } = await verifyClearsigned(path, one.keyring, context);
      expect(signers).toEqual([[one.fingerprint]]);
    }
    const both = joinKeyrings(join(directory, 'both.gpg'), [key, other]);
    const { signers } = await verifyClearsigned(path, both, context);
    expect(signers.flat().toSorted()).toEqual([key.fingerprint, other.fingerprint].toSorted());
  });

  test('a fingerprint stands for a key with its subkeys, with "!" for this very one', () => {
    const [subkey, primary] = ['A'.repeat(40), 'B'.repeat(40)];
    const told = (fingerprint: string): boolean => isByKey([subkey, primary], fingerprint);
    expect([subkey, primary, `${subkey}!`, `${primary}!`, 'C'.repeat(40)].map(told)).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  test('only the named fingerprints count', async () => {
    const path = file(key.clearSign(text));
    const both = joinKeyrings(join(directory, 'both.gpg'), [key, other]);
    await verifyClearsigned(path, both, context, { fingerprints: [key.fingerprint.toLowerCase()] });
    await expect(
      verifyClearsigned(path, both, context, { fingerprints: [other.fingerprint] }),
    ).rejects.toMatchObject(errorLike('not-authentic', 'not an allowed key'));
  });

  test('a key that the keyring lacks is named', async () => {
    await expect(verifyClearsigned(file(key.clearSign(text)), other.keyring, context)).rejects.toMatchObject(
      errorLike('not-authentic', key.fingerprint.slice(-16)),
    );
  });

  test.each([
    ['one changed byte', (signed: string) => signed.replace('last line', 'lost line'), 'bad signature'],
    ['text before', (signed: string) => `Origin: Evil\n${signed}`, 'not one clear-signed message'],
    ['text after', (signed: string) => `${signed}Origin: Evil\n`, 'not one clear-signed message'],
    ['two messages', (signed: string) => `${signed}${signed}`, 'not one clear-signed message'],
    ['no signature', () => text, 'not one clear-signed message'],
    ['a page', () => '<html>please log in</html>', 'not one clear-signed message'],
    ['half of it', (signed: string) => signed.slice(0, signed.length / 2), 'not one clear-signed message'],
    [
      'a cut signature',
      (signed: string) => signed.replace(/(BEGIN PGP SIGNATURE-----\n\n)[^]*(-----END)/, '$1$2'),
      'is not signed',
    ],
  ])('%s is refused', async (_what, change, message) => {
    const path = file(change(key.clearSign(text).toString('utf8')));
    await expect(verifyClearsigned(path, key.keyring, context)).rejects.toMatchObject(
      errorLike('not-authentic', message),
    );
  });

  test('a bad signature is refused although another one is good', async () => {
    const both = signedByBoth().toString('utf8');
    const keyring = joinKeyrings(join(directory, 'both.gpg'), [key, other]);
    // A signature of the other key over another text, in the same block as a good one.
    const wrong = other.clearSign('another text\n').toString('utf8');
    const joined = Buffer.concat([packets(key.clearSign(text).toString('utf8')), packets(wrong)]).toString(
      'base64',
    );
    const forged = both.replace(
      /(BEGIN PGP SIGNATURE-----\n\n)[^]*(-----END)/,
      (_all, begin: string, end: string) => `${begin}${joined.replaceAll(/(.{64})/g, '$1\n')}\n${end}`,
    );
    await expect(verifyClearsigned(file(forged), keyring, context)).rejects.toThrow('bad signature');
  });

  test('an expired key does not count', async () => {
    const old = makeSigningKey('Old');
    try {
      const signed = old.clearSign(text);
      await verifyClearsigned(file(signed), old.keyring, context);
      old.gpg([
        '--faked-system-time',
        '20200101T000000!',
        '--quick-generate-key',
        'Older',
        'ed25519',
        'sign',
        '1d',
      ]);
      const listed = old.gpg(['--list-keys', '--with-colons', 'Older']).toString('utf8');
      const fingerprint = /^fpr:+([0-9A-F]{40}):/m.exec(listed)?.[1] ?? '';
      const keyring = file(old.gpg(['--export', fingerprint]), 'older.gpg');
      const expired = old.gpg(
        ['--faked-system-time', '20200101T010000!', '--local-user', fingerprint, '--clear-sign'],
        text,
      );
      await expect(verifyClearsigned(file(expired), keyring, context)).rejects.toMatchObject(
        errorLike('not-authentic', 'expired key'),
      );
    } finally {
      old.remove();
    }
  });

  test('a missing keyring is named', async () => {
    await expect(
      verifyClearsigned(file(key.clearSign(text)), '/nowhere/keys.gpg', context),
    ).rejects.toMatchObject(errorLike('not-found', '/nowhere/keys.gpg'));
  });
});

describe('verifyDetached', () => {
  test('takes armoured and binary signatures, and refuses a changed file', async () => {
    const content = Buffer.from([0, 1, 2, 255, 13, 10]);
    const path = file(content, 'vmlinuz');
    for (const armour of [true, false]) {
      const signature = file(key.detachSign(content, armour), 'vmlinuz.sig');
      expect(await verifyDetached(path, signature, key.keyring, context)).toEqual({
        signers: [[key.fingerprint]],
      });
    }
    const signature = join(directory, 'vmlinuz.sig');
    file(Buffer.from([0, 1, 2, 255, 13, 11]), 'vmlinuz');
    await expect(verifyDetached(path, signature, key.keyring, context)).rejects.toThrow('bad signature');
    writeFileSync(signature, '');
    await expect(verifyDetached(path, signature, key.keyring, context)).rejects.toThrow('is not signed');
  });
});

test('what is no armoured key is refused', () => {
  const begin = '-----BEGIN PGP PUBLIC KEY BLOCK-----';
  for (const bad of [begin, `${begin}\n\n!!!!\n-----END PGP PUBLIC KEY BLOCK-----`]) {
    expect(() => dearmour(bad, 'signedBy')).toThrow('not a complete armoured public key');
  }
});
