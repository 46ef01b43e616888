import { expect, test } from 'vitest';
import { checkNode, versionIn } from '../../../src/host/checks.ts';

test.each([
  ['18.20.4', 'unsuitable'],
  ['20.18.3', 'unsuitable'],
  ['20.19.0', 'good'],
  ['22.1.0', 'good'],
])('Node.js %s is %s', (version, state) => {
  expect(checkNode(version)).toMatchObject({ state, needed: true });
});

test.each([
  ['mksquashfs version 4.5.1 (2022/03/17)\ncopyright (C) 2022', '4.5.1'],
  ['xorriso 1.5.4 : RockRidge filesystem manipulator', '1.5.4'],
  ['debootstrap 1.0.128+nmu2+deb12u2', '1.0.128+nmu2+deb12u2'],
  ['*** Zstandard CLI (64-bit) v1.5.4, by Yann Collet ***', '1.5.4'],
  ['QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)', '7.2.22'],
  ["Debian 'dpkg' package management program version 1.21.22 (amd64).", '1.21.22'],
  ['chroot (GNU coreutils) 9.1', '9.1'],
  ['no version', undefined],
])('the version in "%s"', (text, version) => {
  expect(versionIn(text)).toBe(version);
});
