import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { efiPartitionKib } from '../../../src/medium/efi.ts';
import { grubModules, grubScripts, mkimageArguments, themeFiles } from '../../../src/medium/grub.ts';
import { grubKey } from '../../../src/medium/grub-key.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { makeSigningKey } from '../../fixtures/signing.ts';

const scripts = join(import.meta.dirname, '../../../runtime/grub');
const textOf = (name: string): string => readFileSync(join(scripts, name), 'utf8');

describe('the scripts inside GRUB', () => {
  test.each(grubScripts)('%s: GRUB itself finds no fault in it', (name) => {
    const output = execFileSync('grub-script-check', ['--verbose', join(scripts, name)], {
      encoding: 'utf8',
    });
    expect(output).toContain(textOf(name).split('\n').at(-2) ?? 'nothing');
  });

  test('have every entry free for everybody, or a locked menu could not even restart', () => {
    const entries = grubScripts.flatMap((name) =>
      textOf(name)
        .split('\n')
        .filter((line) => /^\s*(?:menuentry|submenu) /.test(line)),
    );
    expect(entries.length).toBeGreaterThan(15);
    for (const entry of entries) expect(entry).toContain('--unrestricted');
  });

  test('read an environment block by names only, unsigned as it is', () => {
    const loads = grubScripts.flatMap((name) => textOf(name).match(/load_env.*/g) ?? []);
    expect(loads).toEqual([
      'load_env --skip-sig --file "$relive_env" relive_good relive_trial relive_tries relive_next; then',
    ]);
  });
});

test('the graphic menu names fonts and pictures that it has, and is for PCs', () => {
  const theme = textOf('theme/theme.txt');
  const fonts = themeFiles
    .filter((name) => name.endsWith('.pf2'))
    // PF2 (GRUB, docs/font_char_metrics.txt): the section NAME has a length of four bytes and a text.
    .map((name) => {
      const bytes = readFileSync(join(scripts, 'theme', name));
      const at = bytes.indexOf('NAME');
      return bytes.toString('latin1', at + 8, at + 8 + bytes.readUInt32BE(at + 4)).replace(/\0$/, '');
    });
  const named = [...theme.matchAll(/font[ =:]+"([^"]+)"/g)].map(([, name]) => name);
  expect(new Set(named)).toEqual(new Set(fonts));
  expect(theme).toContain('selected_item_pixmap_style = "select_*.png"');
  expect(grubModules('pc', 'none')).toEqual(expect.arrayContaining(['gfxterm', 'gfxmenu', 'png', 'vbe']));
  expect(grubModules('efi', 'none')).toContain('gfxmenu');
  expect(grubModules('arm64-efi', 'none')).not.toContain('gfxmenu');
});

test('a core image has the modules for signatures and the key only when they are checked', () => {
  const files = { output: 'o', memdisk: 'm', publicKey: 'k' };
  expect(mkimageArguments('pc', { check: 'signature' }, files)).toEqual(
    expect.arrayContaining(['--pubkey', 'k', 'pgp', 'gcry_rsa']),
  );
  const unsigned = mkimageArguments('efi', { check: 'checksum' }, { ...files, publicKey: undefined });
  expect(unsigned).not.toContain('--pubkey');
  expect(unsigned).not.toContain('pgp');
  expect(unsigned).toContain('hashsum');
  expect(unsigned.slice(0, 4)).toEqual([
    ...['--directory', '/usr/lib/grub/x86_64-efi'],
    ...['--format', 'x86_64-efi'],
  ]);
  expect(grubModules('pc', 'none')).toContain('biosdisk');
  const keyboard = { layout: new Uint8Array(1) };
  expect(grubModules('pc', 'none', keyboard)).toContain('at_keyboard');
  // With UEFI the firmware reads the keyboard.
  expect(grubModules('efi', 'none', keyboard)).toEqual(grubModules('efi', 'none'));
  expect(grubModules('pc', 'none')).not.toContain('at_keyboard');
  expect(mkimageArguments('arm64-efi', { check: 'signature' }, files, '/srv/grub').slice(0, 4)).toEqual([
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
