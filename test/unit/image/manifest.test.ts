import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import { formatManifest, layerFile, parseManifest } from '../../../src/image/manifest.ts';
import { exampleManifest } from './example.ts';

const text = formatManifest(exampleManifest);

/** The text of the example with one value replaced: `layers.0.digest`. */
function withValue(path: string, value: unknown): string {
  const document = structuredClone(exampleManifest) as unknown as Record<string, unknown>;
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  let at: Record<string, unknown> = document;
  for (const key of keys) at = at[key] as Record<string, unknown>;
  at[last] = value;
  return JSON.stringify(document);
}

test('a manifest is read as it was written', () => {
  expect(parseManifest(text, 'manifest.json')).toEqual(exampleManifest);
  expect(formatManifest(parseManifest(text, 'manifest.json'))).toBe(text);
});

describe('a value that is not as it must be is refused by its place', () => {
  test.each([
    ['schema', 2],
    ['image', '../../etc'],
    ['image', 'a b'],
    ['image', "demo'; reboot; '"],
    ['image', 'demo\nsource /x'],
    ['image', 7],
    ['kind', 'partial'],
    ['version', '20261122.1'],
    ['version', '../20261122.01'],
    ['version', '20261122.01\n'],
    ['serial', 0],
    ['serial', 1.5],
    ['serial', -1],
    ['profile.name', '../demo'],
    ['profile.name', ''],
    ['profile.version', '1'],
    ['layers', []],
    ['layers.0.digest', '../../../etc/passwd'],
    ['layers.0.digest', 'A'.repeat(64)],
    ['layers.0.digest', 'a'.repeat(63)],
    ['layers.0.digest', `${'a'.repeat(64)}\n`],
    ['layers.0.size', -1],
    ['layers.0.size', 1e300],
    ['layers.0.role', 'home'],
    ['tree', ''],
    ['kernel.digest', null],
    ['kernel.version', '6.1/../../x'],
    ['boot.verify', 'maybe'],
    ['boot.parameters', 'quiet'],
    ['packages.0.sha256', 'x'],
    ['sourceDateEpoch', -1],
    ['extra', true],
    ['profile.extra', true],
    ['__proto__x', {}],
  ])('%s: %j', (path, value) => {
    expect(() => parseManifest(withValue(path, value), 'x/manifest.json')).toThrow(
      expect.objectContaining({
        code: 'corrupt',
        message: expect.stringContaining('x/manifest.json is not a manifest of this relive'),
      }),
    );
  });

  test.each(Object.keys(exampleManifest))('without %s', (key) => {
    const { [key as 'schema']: _, ...rest } = exampleManifest;
    expect(() => parseManifest(JSON.stringify(rest), 'manifest.json')).toThrow(`  ${key}: `);
  });

  test.each(['', '{', 'null', '[]', '"x"', '\u0000'])('%j', (content) => {
    expect(() => parseManifest(content, 'manifest.json')).toThrow(
      expect.objectContaining({ code: 'corrupt' }),
    );
  });
});

/** How many fields a manifest has, or that it is refused by a known error. */
function readOrRefuse(content: string): number | 'corrupt' {
  try {
    return Object.keys(parseManifest(content, 'manifest.json')).length;
  } catch (error) {
    if (isReliveError(error, 'corrupt')) return 'corrupt';
    throw error;
  }
}

test('whatever the text is, it is a whole manifest or a known error', () => {
  const changed = fc
    .tuple(fc.integer({ min: 0, max: text.length - 1 }), fc.string({ maxLength: 3 }), fc.nat(3))
    .map(([at, insert, remove]) => text.slice(0, at) + insert + text.slice(at + remove));
  fc.assert(
    fc.property(fc.oneof(changed, fc.json(), fc.string()), (content) => {
      expect(readOrRefuse(content)).toBeOneOf(['corrupt', Object.keys(exampleManifest).length]);
    }),
  );
});

test('the name of a layer is one file name, whatever its digest', () => {
  expect(exampleManifest.layers.map((layer) => layerFile(layer))).toEqual([
    'aaaaaaaaaaaaaaaa.squashfs',
    'bbbbbbbbbbbbbbbb.squashfs',
  ]);
});
