import { describe, expect, test } from 'vitest';
import { efiPartitionKib } from '../../../src/medium/efi.ts';
import { type GrubOptions, grubModules, grubScripts, mkimageArguments } from '../../../src/medium/grub.ts';
import { grubKey } from '../../../src/medium/grub-key.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { makeSigningKey } from '../../fixtures/signing.ts';

const options: GrubOptions = {
  images: [{ title: 'demo 20261122.01', directory: '/images/demo/20261122.01' }],
  label: 'DEMO20261122_01',
  publicKey: undefined,
  timeoutSeconds: 3,
};
const signed: GrubOptions = { ...options, publicKey: new Uint8Array([0x99]) };

describe('the script inside GRUB', () => {
  test('closes the command line when signatures are checked, and only then', () => {
    expect(grubScripts(signed).start).toContain('set superusers=""\nexport superusers');
    expect(grubScripts(options).start).not.toContain('superusers');
  });

  test('checks the signature of boot.cfg itself, as source does not say that it failed', () => {
    expect(grubScripts(signed).menu).toContain('if verify_detached "$relive_root$relive_dir/boot.cfg"');
    expect(grubScripts(options).menu).not.toContain('verify_detached');
  });

  test('has every entry free for everybody, or a locked menu could not even restart', () => {
    const entries = grubScripts(signed)
      .menu.split('\n')
      .filter((line) => line.trim().startsWith('menuentry'));
    expect(entries.length).toBeGreaterThan(3);
    for (const entry of entries) expect(entry).toContain('--unrestricted');
  });

  test('waits as long as it is told', () => {
    expect(grubScripts({ ...options, timeoutSeconds: 0 }).menu).toContain('set timeout=0\n');
  });

  test.each(["it's", 'two\nlines'])('takes no name that would end a quotation: %j', (title) => {
    expect(() => grubScripts({ ...options, images: [{ title, directory: '/images/x' }] })).toThrow(
      expect.objectContaining({ code: 'unsafe-path' }),
    );
  });
});

test('a core image has the modules for signatures and the key only when they are checked', () => {
  const files = { output: 'o', memdisk: 'm', publicKey: 'k' };
  expect(mkimageArguments('pc', files)).toEqual(expect.arrayContaining(['--pubkey', 'k', 'pgp', 'gcry_rsa']));
  const unsigned = mkimageArguments('efi', { ...files, publicKey: undefined });
  expect(unsigned).not.toContain('--pubkey');
  expect(unsigned).not.toContain('pgp');
  expect(unsigned.slice(0, 4)).toEqual([
    ...['--directory', '/usr/lib/grub/x86_64-efi'],
    ...['--format', 'x86_64-efi'],
  ]);
  expect(grubModules('pc', false)).toContain('biosdisk');
  expect(mkimageArguments('arm64-efi', files, '/srv/grub').slice(0, 4)).toEqual([
    ...['--directory', '/srv/grub/arm64-efi'],
    ...['--format', 'arm64-efi'],
  ]);
});

test('the EFI partition has room for the program and whole tracks', () => {
  for (const bytes of [0, 1, 300_000, 1_000_000, 12_345_678]) {
    const kib = efiPartitionKib(bytes);
    expect(kib * 1024).toBeGreaterThan(bytes + 100 * 1024);
    expect(kib % 32).toBe(0);
  }
});

describe('the key for GRUB', () => {
  test('is the same from armour and from a binary keyring', () => {
    const key = makeSigningKey('Test', 'rsa3072');
    try {
      const binary = key.gpg(['--export', key.fingerprint]);
      expect(Buffer.from(grubKey(Buffer.from(key.armoured), 'public.asc'))).toEqual(binary);
      expect(Buffer.from(grubKey(binary, 'public.gpg'))).toEqual(binary);
      const commented = key.armoured.replace('BLOCK-----\n', 'BLOCK-----\nComment: of the lab\n');
      expect(Buffer.from(grubKey(Buffer.from(commented), 'public.asc'))).toEqual(binary);
    } finally {
      key.remove();
    }
  });

  test('is refused when GRUB could not use it', () => {
    const key = makeSigningKey('Test', 'ed25519');
    try {
      expect(() => grubKey(Buffer.from(key.armoured), 'keys/public.asc')).toThrow(
        expect.objectContaining(errorLike('configuration', 'keys/public.asc holds a key of algorithm 22')),
      );
    } finally {
      key.remove();
    }
  });

  test.each([
    ['', 'is not an OpenPGP key'],
    ['hello', 'is not an OpenPGP key'],
    ['\u0089\u0001\u0000', 'does not begin with a public key'],
    ['\u0098\u0001\u0003', 'holds a key of version 3'],
    ['\u0098', 'holds a key of version none'],
  ])('is refused when it is none: %j', (text, message) => {
    expect(() => grubKey(Buffer.from(text, 'latin1'), 'k')).toThrow(
      expect.objectContaining(errorLike('configuration', `k ${message}`)),
    );
  });
});
