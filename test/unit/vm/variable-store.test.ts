import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { guidBytes } from '../../../src/core/guid.ts';
import {
  createSecureBootKeys,
  type SecureBootCertificates,
  secureBootDirectory,
} from '../../../src/image/secure-boot-keys.ts';
import { signatureList } from '../../../src/image/signature-list.ts';
import { enrolledVariables, shimVariables } from '../../../src/vm/variable-store.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';

let site: { readonly keys: string };
let known: SecureBootCertificates;
const options = { user: 'Test', bits: 2048, replace: false };
beforeAll(async () => {
  site = { keys: mkdtempSync(join(tmpdir(), 'relive-test-keys-')) };
  known = await createSecureBootKeys(site, options, recordingContext());
});
afterAll(() => rmSync(site.keys, { recursive: true, force: true }));

test('private keys are for their owner alone, and git ignores them', async () => {
  const directory = secureBootDirectory(site);
  for (const name of ['PK', 'KEK', 'db']) {
    expect(statSync(join(directory, `${name}.key`)).mode & 0o777).toBe(0o600);
    const subject = execFileSync(
      'openssl',
      ['x509', '-in', join(directory, `${name}.crt`), '-noout', '-subject', '-nameopt', 'RFC2253'],
      { encoding: 'utf8' },
    );
    expect(subject).toBe(`subject=CN=Test ${name}\n`);
  }
  expect(readFileSync(join(directory, '.gitignore'), 'utf8')).toBe('*.key\n');
  await expect(createSecureBootKeys(site, options, recordingContext())).rejects.toMatchObject(
    errorLike('exists', 'the site has keys for Secure Boot'),
  );
  await expect(
    createSecureBootKeys({ keys: join(site.keys, 'x') }, { ...options, user: 'a\nb' }, recordingContext()),
  ).rejects.toMatchObject(errorLike('usage', 'no name for a certificate'));
});

/** An empty one, as OVMF has it: the header of a firmware volume, then that of the store. */
const empty = (): Buffer => {
  const bytes = Buffer.alloc(0x10000, 0xff);
  bytes.write('_FVH', 40, 'latin1');
  bytes.writeUInt16LE(0x48, 48);
  guidBytes('aaf32c78-947b-439a-a180-2e144ec37792').copy(bytes, 0x48);
  bytes.writeUInt32LE(0xffb8, 0x58);
  return bytes;
};

/** The variables of a store by their names, and where they end. */
function variablesOf(store: Buffer): {
  readonly found: Readonly<Record<string, Buffer>>;
  readonly at: number;
} {
  const found: Record<string, Buffer> = {};
  let at = 0x48 + 28;
  while (store.readUInt16LE(at) === 0x55aa) {
    const [nameSize, dataSize] = [store.readUInt32LE(at + 36), store.readUInt32LE(at + 40)];
    const name = store.toString('utf16le', at + 60, at + 60 + nameSize - 2);
    const start = at + 60 + nameSize;
    found[name] = store.subarray(start, start + dataSize);
    at = (start + dataSize + 3) & ~3;
  }
  return { found, at };
}

test('the variable store for shim has its list behind what the firmware had', () => {
  const template = enrolledVariables(empty(), known);
  const store = shimVariables(template, known);
  const { found, at } = variablesOf(store);
  expect(Object.keys(found).slice(-2)).toEqual(['CustomMode', 'MokList']);
  expect(found['MokList']).toEqual(signatureList(known.owner, known.certificates.db.raw));
  expect(store.subarray(at).every((octet) => octet === 0xff)).toBe(true);
  const end = variablesOf(template).at;
  expect(store.subarray(0, end).equals(template.subarray(0, end))).toBe(true);
  const full = Buffer.from(template);
  full.writeUInt32LE(end - 0x48, 0x58);
  expect(() => shimVariables(full, known)).toThrow(
    expect.objectContaining(errorLike('corrupt', 'it has no room for one more')),
  );
});

describe('a variable store', () => {
  test('has the keys, each in a list, and the switch of Secure Boot', () => {
    const store = enrolledVariables(empty(), known);
    expect(store).toHaveLength(0x10000);
    const { found, at } = variablesOf(store);
    expect(Object.keys(found)).toEqual(['PK', 'KEK', 'db', 'SecureBootEnable', 'CustomMode']);
    expect(found['db']).toEqual(signatureList(known.owner, known.certificates.db.raw));
    expect([...(found['SecureBootEnable'] ?? [])]).toEqual([1]);
    expect(store.subarray(at).every((octet) => octet === 0xff)).toBe(true);
  });

  test.each([
    ['is no firmware volume', (bytes: Buffer) => bytes.fill(0, 40, 44)],
    ['has no store of authenticated variables', (bytes: Buffer) => bytes.fill(0, 0x48, 0x58)],
    ['has variables already', (bytes: Buffer) => bytes.fill(0xaa, 0x64, 0x65)],
    ['is cut off', (bytes: Buffer) => bytes.writeUInt32LE(0x20000, 0x58)],
  ])('is made of an empty one only: it %s', (why, change) => {
    const bytes = empty();
    change(bytes);
    expect(() => enrolledVariables(bytes, known)).toThrow(expect.objectContaining(errorLike('corrupt', why)));
  });
});
