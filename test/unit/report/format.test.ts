import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cutToWidth,
  displayWidth,
  formatBytes,
  formatSeconds,
  formatTable,
  printable,
  printableLine,
} from '../../../src/report/format.ts';

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.00 kB'],
  [9994, '9.99 kB'],
  [9996, '10.0 kB'],
  [99_960, '100 kB'],
  [999_499, '999 kB'],
  [999_500, '1.00 MB'],
  [236_000_000, '236 MB'],
  [1_234_000_000, '1.23 GB'],
  [5e15, '5000 TB'],
])('%i bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, '0.0 s'],
  [9.94, '9.9 s'],
  [9.96, '10 s'],
  [59.4, '59 s'],
  [59.6, '1 min 00 s'],
  [185, '3 min 05 s'],
  [3599.7, '1 h 00 min'],
  [7620, '2 h 07 min'],
])('%f seconds are %s', (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});

describe('text from outside', () => {
  test('cannot steer the terminal', () => {
    expect(printable('a\u001b[2Jb\rc\u0000\u007f\u009b')).toBe('a\\x1b[2Jb\\x0dc\\x00\\x7f\\x9b');
    expect(printable('one\n\ttwo')).toBe('one\n\ttwo');
    expect(printableLine('one\n\ttwo')).toBe('one\\x0a\\x09two');
  });

  test('cannot turn the direction of reading, nor break a line by other means', () => {
    expect(printable('exe\u202egpj\u2066\u2028')).toBe('exe\\u{202e}gpj\\u{2066}\\u{2028}');
  });

  test('has no control characters afterwards, whatever it was', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(printableLine(text)).not.toMatch(/\p{Cc}/u);
      }),
    );
  });

  test('is left alone where it is harmless', () => {
    expect(printable('Größe 10 µm, 日本語 🐧')).toBe('Größe 10 µm, 日本語 🐧');
  });
});

test.each([
  ['abc', 3],
  ['äöü', 3],
  ['a\u0308', 1],
  ['日本語', 6],
  ['한글', 4],
  ['ﾊﾝ', 2],
  ['ｗ', 2],
  ['🐧', 2],
  ['…', 1],
  ['\u200b', 0],
])('the width of %s is %i', (text, width) => {
  expect(displayWidth(text)).toBe(width);
});

test('a cut line is never wider than asked for, and keeps what fits', () => {
  expect(cutToWidth('abc', 3)).toBe('abc');
  expect(cutToWidth('abcd', 3)).toBe('ab…');
  expect(cutToWidth('日本語', 4)).toBe('日…');
  expect(cutToWidth('abc', 0)).toBe('');
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 0, max: 40 }), (text, columns) => {
      expect(displayWidth(cutToWidth(text, columns))).toBeLessThanOrEqual(columns);
    }),
  );
});

test('a table is aligned by what is seen, and has no trailing blanks', () => {
  const table = formatTable([
    ['name', 'size', 'note'],
    ['日本', '1', 'x'],
    ['a\nb', '22', ''],
  ]);
  expect(table).toBe('name    size  note\n日本    1     x\na\\x0ab  22');
  expect(formatTable([])).toBe('');
});
