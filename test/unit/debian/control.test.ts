import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseStanzas, StanzaReader } from '../../../src/debian/control.ts';

/** What the reader makes of `text` when it comes in pieces of `piece` bytes. */
function read(text: string, fields: readonly string[], piece = 65536): (string | undefined)[][] {
  const found: (string | undefined)[][] = [];
  const reader = new StanzaReader(fields, (values) => found.push([...values]), 'test');
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += piece) reader.push(bytes.subarray(at, at + piece));
  reader.end();
  return found;
}

const text = [
  'Package: a',
  'Version:1.0 ',
  'Description: short',
  ' long',
  ' .',
  ' longer',
  '',
  ' \t',
  'PACKAGE:   b',
  'Packages: not this one',
  'Empty:',
].join('\n');

describe('StanzaReader', () => {
  test('gives the wanted fields of each stanza, whatever their case, and nothing else', () => {
    expect(read(text, ['Package', 'Version', 'Description', 'Empty'])).toEqual([
      ['a', '1.0', 'short\nlong\n.\nlonger', undefined],
      ['b', undefined, undefined, ''],
    ]);
  });

  test('reads lines that end in CR LF', () => {
    expect(read('A: 1\r\n 2\r\n\r\nA: 3\r\n', ['a'])).toEqual([['1\n2'], ['3']]);
  });

  test('tells the line on which a stanza begins', () => {
    const lines: number[] = [];
    const reader = new StanzaReader(['A'], (_values, line) => lines.push(line), 'test');
    reader.push(Buffer.from('\n\nA: 1\nB: 2\n\n\nB: 3\n'));
    reader.end();
    expect(lines).toEqual([3, 7]);
  });

  test.each([
    ['no colon\n', 'test:1'],
    ['A: 1\n\n continued\n', 'test:3'],
    ['A: 1\nB: 2\na: 3\n', 'test:3: the field A stands twice'],
    [': 1\n', 'test:1'],
  ])('refuses %j', (bad, message) => {
    expect(() => read(bad, ['A'])).toThrow(message);
  });

  test('refuses a line that has no end, before it fills the memory', () => {
    const reader = new StanzaReader(['A'], () => undefined, 'test');
    const piece = Buffer.alloc(1024 * 1024, 'x');
    expect(() => {
      for (let count = 0; count < 16; count += 1) reader.push(piece);
    }).toThrow('too long');
  });
});

const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,8}$/);
const value = fc.string({ unit: 'grapheme', maxLength: 12 }).map((part) => part.replaceAll(/[\r\n]/g, ''));
const stanza = fc.uniqueArray(fc.record({ name, first: value, more: fc.array(value, { maxLength: 3 }) }), {
  minLength: 1,
  maxLength: 6,
  selector: (field) => field.name.toLowerCase(),
});

test('both parsers agree on any file, however it is cut into pieces', () => {
  fc.assert(
    fc.property(fc.array(stanza, { maxLength: 4 }), fc.integer({ min: 1, max: 40 }), (stanzas, piece) => {
      const file = stanzas
        .map((fields) =>
          fields
            .map((field) =>
              [`${field.name}: ${field.first}`, ...field.more.map((line) => ` ${line}x`)].join('\n'),
            )
            .join('\n'),
        )
        .join('\n\n');
      const names = [...new Set(stanzas.flat().map((field) => field.name.toLowerCase()))];
      const whole = parseStanzas(file, 'test').map((parsed) => names.map((wanted) => parsed.get(wanted)));
      expect(whole).toHaveLength(stanzas.length);
      expect(names.length === 0 ? [] : read(file, names, piece)).toEqual(whole);
    }),
  );
});
