import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert, property, string } from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { ReliveError } from '../../../src/core/error.ts';
import { parseTokenKey, requirePrivatePin } from '../../../src/host/token.ts';
import { errorLike } from '../../fixtures/expecting.ts';

test('the address of a key on a token, with the module taken out', () => {
  expect(
    parseTokenKey('pkcs11:token=My%20Lab;object=db?pin-source=file:/root/a%20pin&module-path=/usr/lib/x.so'),
  ).toEqual({
    uri: 'pkcs11:token=My%20Lab;object=db;pin-source=file:/root/a%20pin;type=private',
    module: '/usr/lib/x.so',
    pinFile: '/root/a pin',
  });
  expect(parseTokenKey('pkcs11:id=%01?pin-source=file:/pin').module).toBeUndefined();
});

test.each([
  ['file:/root/db.key', 'it must begin with "pkcs11:"'],
  ['pkcs11:token=a b;object=db?pin-source=file:/pin', 'other than the letters of an address'],
  ['pkcs11:token=lab?pin-source=file:/pin', '"object" or "id" must say which key'],
  ['pkcs11:object=db', '"pin-source" must name the file'],
  ['pkcs11:object=db?pin-source=|cat', '"pin-source" must name the file'],
  ['pkcs11:object=db?pin-source=file:pin', '"pin-source" must name the file'],
  ['pkcs11:object=db?pin-source=file:/p%zz', 'without two digits'],
  ['pkcs11:object=db?pin-value=1234&pin-source=file:/pin', 'a PIN in it ("pin-value") would be seen by all'],
  ['pkcs11:object=db;pin-value=1234?pin-source=file:/pin', 'a PIN in it ("pin-value") would be seen by all'],
  ['pkcs11:object=db?pin-source=file:/pin&module-path=x.so', '"module-path" must be a whole path'],
])('%s is refused', (address, why) => {
  expect(() => parseTokenKey(address)).toThrow(expect.objectContaining(errorLike('usage', why)));
});

/** The address that openssl gets, or an empty one where it is refused. */
function attempt(address: string): string {
  try {
    return parseTokenKey(address).uri;
  } catch (error) {
    if (error instanceof ReliveError) return 'pkcs11:';
    throw error;
  }
}

test('whatever the address: a key, or an error of ours', () => {
  assert(
    property(string(), (text) => {
      for (const address of [text, `pkcs11:${text}`, `pkcs11:object=a?pin-source=file:/pin&${text}`])
        expect(attempt(address)).toMatch(/^pkcs11:[!-~]*$/);
    }),
  );
});

test('a PIN that others can read is refused', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'relive-test-pin-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'pin');
  await expect(requirePrivatePin(file)).rejects.toMatchObject(errorLike('not-found', file));
  writeFileSync(file, '1234', { mode: 0o600 });
  await requirePrivatePin(file);
  for (const mode of [0o640, 0o604]) {
    chmodSync(file, mode);
    await expect(requirePrivatePin(file)).rejects.toMatchObject(
      errorLike('configuration', 'not for its owner alone'),
    );
  }
  await expect(requirePrivatePin(directory)).rejects.toMatchObject(errorLike('configuration', directory));
});
