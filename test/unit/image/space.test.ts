import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cacheNeed, imageSize, requireSpace } from '../../../src/image/space.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { exampleManifest } from './example.ts';

const mebibyte = 2 ** 20;
const packages = [
  { name: 'libc6', size: 40 * mebibyte, sha256: '6'.repeat(64) },
  { name: 'openssl', size: 10 * mebibyte, sha256: '0'.repeat(64) },
].map((each) => ({
  ...{ version: '1', architecture: 'amd64', repository: 'debian', path: 'pool/x', why: 'profile' },
  ...each,
}));
const lock = { bootstrap: ['libc6'], packages };
const delta = { ...exampleManifest.layers[0], role: 'delta' as const, size: 20 * mebibyte };
const layersWith = (deltas: number): typeof exampleManifest.layers => [
  ...exampleManifest.layers,
  ...Array.from({ length: deltas }, () => ({
    ...delta,
    digest: 'e'.repeat(64),
    compression: 'zstd',
    verity: { root: 'c'.repeat(64), digest: 'd'.repeat(64), size: 4096 },
  })),
];

test('the cache needs room for the stages that are run', () => {
  const bytes = (...pending: string[]): number => cacheNeed('/cache', pending, lock, 5)?.bytes ?? 0;
  expect(cacheNeed('/cache', [], lock, 5)).toBeUndefined();
  expect(bytes('bootstrap', 'packages')).toBeGreaterThan(3 * 50 * mebibyte);
  expect(bytes('bootstrap') - bytes('configure')).toBeGreaterThan(3 * 40 * mebibyte);
  expect(bytes('files') - bytes('configure')).toBe(5);
});

test('the next image is what is new, and more when deltas are merged or packed anew', () => {
  const upon = (deltas: number) => imageSize(lock, { ...exampleManifest, layers: layersWith(deltas) }, 0);
  const full = imageSize(lock, undefined, 0);
  expect(full).toEqual({ bytes: expect.any(Number), incremental: false });
  expect(upon(0).incremental).toBe(true);
  // openssl is new, libc6 the parent has.
  expect(upon(0).bytes).toBeGreaterThan(10 * mebibyte);
  expect(upon(0).bytes).toBeLessThan(full.bytes);
  // Deltas of more than half of the layers below.
  expect(upon(3)).toEqual(full);
});

test('what lies on one file system is added up, and too little is an error with the sum', async () => {
  const [one, two] = [join(tmpdir(), 'not-there-yet/a'), join(tmpdir(), 'b')];
  await requireSpace('this', [{ path: one, bytes: 1, purpose: 'x' }]);
  const needs = [
    { path: one, bytes: 3e15, purpose: 'stages' },
    { path: two, bytes: 4e15, purpose: 'the image' },
  ];
  await expect(requireSpace('this', needs)).rejects.toMatchObject(
    errorLike('disk-full', `this needs about 7000000000 MB in ${one} and ${two}, `),
  );
});
