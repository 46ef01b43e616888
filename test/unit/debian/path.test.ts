import { posix } from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import { safePath } from '../../../src/debian/path.ts';

test.each(['pool/main/g/gcc/g++_1%3a2.0~rc1+b1_amd64.deb', 'a', 'a..b/...', 'main/by-hash/SHA256/00'])(
  '%s is taken as it is',
  (path) => {
    expect(safePath(path, 'test')).toBe(path);
  },
);

test('the leading "./" of flat repositories is dropped', () => {
  expect(safePath('./x.deb', 'test')).toBe('x.deb');
});

test.each([
  '../../etc/cron.d/x',
  'pool/../../x',
  '/etc/passwd',
  './/etc/passwd',
  '',
  '.',
  './',
  '..',
  'a//b',
  'a/./b',
  'a/',
  'a\\..\\b',
  'a\nb',
  'a\u0000b',
  'a\u007f',
  `a/${'x'.repeat(256)}`,
])('%j is refused', (path) => {
  expect(() => safePath(path, 'Packages')).toThrow('Packages names the path');
});

/** What is made of a path, or undefined where it is refused. */
function taken(path: string): string | undefined {
  try {
    return safePath(path, 'test');
  } catch (error) {
    if (isReliveError(error, 'unsafe-path')) return undefined;
    throw error;
  }
}

test('no path that is taken leads out of its directory', () => {
  const piece = fc.oneof(
    fc.constantFrom('..', '.', '', 'a', '...', '\\', 'b.deb'),
    fc.string({ maxLength: 4 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
      const path = pieces.join('/');
      expect(taken(path)).toBeOneOf([undefined, posix.normalize(path)]);
      expect(posix.normalize(path).startsWith('../') && taken(path) !== undefined).toBe(false);
    }),
  );
});
