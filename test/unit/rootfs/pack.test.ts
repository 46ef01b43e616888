import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Compression, compressionArguments, packTree } from '../../../src/rootfs/pack.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';

const epoch = 1_700_000_000;
const text = 'some text that packs well\n'.repeat(5000);

/** A small tree; the order in which it is made is no part of it, nor are times after the build's. */
function tree(names: readonly string[]): string {
  const root = join(temporaryDirectory(), 'tree');
  for (const name of names) {
    mkdirSync(join(root, name, 'kept'), { recursive: true });
    writeFileSync(join(root, name, 'text'), text);
    symlinkSync('text', join(root, name, 'link'));
    utimesSync(join(root, name, 'text'), 1_600_000_000, 1_600_000_000);
  }
  return root;
}

async function pack(
  root: string,
  compression: Compression,
  exclude: readonly string[] = [],
): Promise<string> {
  const output = join(temporaryDirectory(), 'tree.squashfs');
  await packTree(
    { root, output, compression, exclude, sourceDateEpoch: epoch, stage: 'pack' },
    recordingContext(),
  );
  return output;
}

test.each([
  [{ algorithm: 'zstd', level: 9 }, '-comp zstd -Xcompression-level 9'],
  [{ algorithm: 'xz' }, '-comp xz'],
  [{ algorithm: 'gzip', level: 1, blockSize: 1_048_576 }, '-comp gzip -Xcompression-level 1 -b 1048576'],
] as const)('%j is %s', (compression, words) => {
  expect(compressionArguments(compression).join(' ')).toBe(words);
});

describe('mksquashfs takes every compression that a profile may name', () => {
  test.each([
    { algorithm: 'gzip', level: 1 },
    { algorithm: 'gzip', level: 9, blockSize: 4096 },
    { algorithm: 'lzo', level: 9 },
    { algorithm: 'lzo' },
    { algorithm: 'lz4' },
    { algorithm: 'xz', blockSize: 1_048_576 },
    { algorithm: 'zstd', level: 1 },
    { algorithm: 'zstd', level: 22 },
  ] as const)('%j, and the same tree gives the same bytes', async (compression) => {
    const packed = await pack(tree(['a', 'b', 'c']), compression);
    const statistics = execFileSync('unsquashfs', ['-s', packed], { encoding: 'utf8' });
    expect(statistics).toContain(`Compression ${compression.algorithm}\n`);
    expect(statistics).toContain(
      `Block size ${'blockSize' in compression ? compression.blockSize : 131_072}\n`,
    );
    const again = await pack(tree(['c', 'b', 'a']), compression);
    expect(readFileSync(again).equals(readFileSync(packed))).toBe(true);
  });
});

test('times after the build are set back to it, older ones stay', async () => {
  const packed = await pack(tree(['a']), { algorithm: 'zstd', level: 1 });
  const listed = execFileSync('unsquashfs', ['-lls', '-UTC', packed], { encoding: 'utf8' });
  expect(listed).toMatch(/2020-09-13 12:26 squashfs-root\/a\/text\n/);
  expect(listed).toMatch(/2023-11-14 22:13 squashfs-root\/a\/kept\n/);
});

test('what is excluded is left out where it stands, nowhere else', async () => {
  const packed = await pack(tree(['boot', 'usr/boot']), { algorithm: 'zstd', level: 1 }, ['boot/*']);
  const listed = execFileSync('unsquashfs', ['-l', packed], { encoding: 'utf8' });
  expect(listed).toContain('squashfs-root/usr/boot/text');
  expect(listed).toContain('squashfs-root/boot\n');
  expect(listed).not.toContain('squashfs-root/boot/');
});
