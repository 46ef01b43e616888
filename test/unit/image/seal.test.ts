import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { layerFromImage, parseSums } from '../../../src/image/seal.ts';
import { temporaryDirectory } from '../../support.ts';

test('reads what sha256sum(1) writes, in text and binary mode', () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'manifest.json'), 'x');
  writeFileSync(join(directory, 'a b'), 'y');
  for (const mode of ['--text', '--binary']) {
    const text = execFileSync('sha256sum', [mode, 'manifest.json', 'a b'], {
      cwd: directory,
      encoding: 'utf8',
    });
    expect([...parseSums(text)].map(([name, digest]) => [name, digest.length])).toEqual([
      ['manifest.json', 64],
      ['a b', 64],
    ]);
  }
});

test('lines that are none are left out', () => {
  const text = `# comment\n\n${'a'.repeat(64)}\n${'a'.repeat(64)} x\nXYZ  y\n${'b'.repeat(64)}  z\n`;
  expect([...parseSums(text)]).toEqual([['z', 'b'.repeat(64)]]);
});

test('any name that has no line break comes back', () => {
  const name = fc.string({ minLength: 1 }).filter((text) => !/[\n\r\u2028\u2029]/.test(text));
  const digest = fc.stringMatching(/^[0-9a-f]{64}$/);
  fc.assert(
    fc.property(fc.dictionary(name, digest, { noNullPrototype: true }), (sums) => {
      const text = Object.entries(sums).map(([file, value]) => `${value}  ${file}\n`);
      expect(parseSums(text.join(''))).toEqual(new Map(Object.entries(sums)));
    }),
  );
});

test('a layer lies beside the images', () => {
  expect(layerFromImage({ digest: 'c'.repeat(64) })).toBe('../../../live/cccccccccccccccc.squashfs');
});
