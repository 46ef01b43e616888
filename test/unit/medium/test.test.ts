import { expect, test } from 'vitest';
import { untestable } from '../../../src/image/candidate.ts';
import { testFirmwares, testMemory } from '../../../src/medium/test.ts';
import { bootDefaults } from '../../../src/vm/boot.ts';
import { exampleManifest } from '../image/example.ts';

const of = (architecture: string, secureBoot: boolean | 'shim' | 'debian' = false): readonly string[] =>
  testFirmwares({ architecture, boot: { secureBoot } });

test('an image is started by all that can start it', () => {
  expect(of('amd64')).toEqual(['bios', 'uefi']);
  expect(of('amd64', true)).toEqual(['bios', 'secure-boot']);
  expect(of('amd64', 'shim')).toEqual(['bios', 'shim']);
  expect(of('amd64', 'debian')).toEqual(['bios', 'microsoft']);
  expect(of('i386')).toEqual(['bios']);
  expect([of('arm64'), of('armhf')]).toEqual([['uefi'], ['uefi']]);
});

test('a guest has the memory for what the image copies there', () => {
  const { boot, unpacked, layers } = exampleManifest;
  const memory = (ram: typeof boot.ram): number => testMemory({ ...exampleManifest, boot: { ...boot, ram } });
  const packed = layers.reduce((sum, { size }) => sum + size, 0);
  expect(memory('none')).toBe(bootDefaults.memoryMib);
  expect((memory('layers') - bootDefaults.memoryMib) * 2 ** 20).toBeGreaterThan(packed);
  expect((memory('unpacked') - bootDefaults.memoryMib) * 2 ** 20).toBeGreaterThan(unpacked);
});

test('what cannot be booted for a test, and why', () => {
  expect(untestable(exampleManifest)).toBeUndefined();
  expect(untestable({ ...exampleManifest, kernel: null, initrd: null, boot: null })).toContain('container');
  const http = 'http://server.example.org/store';
  expect(untestable({ ...exampleManifest, boot: { ...exampleManifest.boot, http } })).toContain(http);
});
