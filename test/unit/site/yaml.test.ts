import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { formatProblem } from '../../../src/site/problem.ts';
import { longestFile, parseYaml, plain, readYaml, valueAt } from '../../../src/site/yaml.ts';
import { temporary } from './support.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

function problemsOf(content: string | Uint8Array): string[] {
  const parsed = parseYaml('/f.yaml', typeof content === 'string' ? bytes(content) : content);
  return parsed.ok ? [] : parsed.problems.map(formatProblem);
}

describe('parseYaml', () => {
  test('gives values with their places', () => {
    const parsed = parseYaml('/f.yaml', bytes('a: 1\nb:\n  - x\n  - {c: true}\n'));
    if (!parsed.ok) throw new Error('refused');
    expect(plain(parsed.value)).toEqual({ a: 1, b: ['x', { c: true }] });
    expect(valueAt(parsed.value, ['b', 0])?.at).toEqual({ file: '/f.yaml', line: 3, column: 5 });
    expect(valueAt(parsed.value, ['b', 1, 'c'])?.at).toEqual({ file: '/f.yaml', line: 4, column: 9 });
    expect(valueAt(parsed.value, ['b', 'x'])).toBeUndefined();
  });

  test('takes the words of YAML 1.1 for texts', () => {
    const parsed = parseYaml('/f.yaml', bytes('[no, on, yes, 12:30:45, 1_000]'));
    expect(parsed.ok && plain(parsed.value)).toEqual(['no', 'on', 'yes', '12:30:45', '1_000']);
  });

  test.each([
    ['', '/f.yaml:1:1: the file is empty'],
    ['# nothing\n', '/f.yaml:1:1: the file is empty'],
    ['---\n', '/f.yaml:1:1: the file is empty'],
    ['a: 1\nb: 2\na: 3\n', '/f.yaml:3:1: a: found a second time (first in line 1); a key stands once'],
    ['x:\n  a: 1\n  a: 2\n', '/f.yaml:3:3: x.a: found a second time (first in line 2); a key stands once'],
    ['a: 1\n---\nb: 2\n', '/f.yaml:2:1: found a second document; one file holds one document'],
    ['a: &x 1\n', '/f.yaml:1:7: a: found an anchor (&); aliases are not accepted'],
    ['a: !!str 1\n', '/f.yaml:1:10: a: found the tag "tag:yaml.org,2002:str"; tags are not accepted'],
    ['1: x\n', '/f.yaml:1:1: found a key that is no plain text'],
    ['? [a]\n: x\n', '/f.yaml:1:3: found a key that is no plain text'],
    ['__proto__: {x: 1}\n', '/f.yaml:1:1: __proto__: found an unknown key'],
    ['%YAML 1.1\n---\na: no\n', '/f.yaml:1:1: found a directive for YAML 1.1; relive reads YAML 1.2'],
  ])('refuses %j', (text, problem) => {
    expect(problemsOf(text)).toEqual([problem]);
  });

  test('refuses tabs, aliases and open quotes with their place', () => {
    expect(problemsOf('a:\n\tb: 1\n')[0]).toMatch(/^\/f\.yaml:2:1: not valid YAML: .*[Tt]ab/);
    expect(problemsOf('a: *x\n')[0]).toMatch(/^\/f\.yaml:1:4: /);
    expect(problemsOf('a: "x\n')[0]).toMatch(/^\/f\.yaml:\d+:\d+: not valid YAML: /);
  });

  test('refuses bytes that are not UTF-8, with their place', () => {
    const latin1 = Buffer.concat([bytes('ok: ä\nb: '), Buffer.from([0xe4, 0x0a])]);
    expect(problemsOf(latin1)).toEqual([
      '/f.yaml:2:4: found a byte that is not UTF-8; save the file as UTF-8',
    ]);
  });

  test('reads a file with a byte order mark', () => {
    const parsed = parseYaml('/f.yaml', bytes('\ufeffa: 1\n'));
    expect(parsed.ok && plain(parsed.value)).toEqual({ a: 1 });
  });

  test('refuses the billion laughs', () => {
    const lines = ['a: &a [x, x]'];
    for (let i = 0; i < 30; i += 1) lines.push(`b${i}: &b${i} [*${i === 0 ? 'a' : `b${i - 1}`}, *a]`);
    expect(problemsOf(lines.join('\n')).length).toBeGreaterThan(0);
  });

  test.each([
    ['[', 1],
    ['{', 1],
    ['- ', 2],
    ['? ', 2],
    ['[{a: ', 5],
  ])('refuses %j without end instead of running out of stack', (part, length) => {
    const text = part.repeat(Math.floor(longestFile / length));
    expect(problemsOf(text)[0]).toContain('nested too deeply');
  });

  test('reads thirty thousand keys and finds a repeated one without squaring', () => {
    const keys = Array.from({ length: 30_000 }, (_, index) => `k${index}: 1`).join('\n');
    expect(problemsOf(`${keys}\nk0: 2\n`)).toHaveLength(1);
  });

  test('gives back every value that JSON and the core schema share', () => {
    const value = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        fc.string(),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('value'), { maxLength: 5 }),
        fc.dictionary(
          fc.string().filter((key) => key !== '__proto__'),
          tie('value'),
          { maxKeys: 5 },
        ),
      ),
    })).value;
    fc.assert(
      fc.property(value, (one) => {
        const text = stringify({ one }, { aliasDuplicateObjects: false });
        const parsed = parseYaml('/f.yaml', bytes(text));
        expect(parsed.ok ? plain(parsed.value) : parsed.problems).toEqual(plainObject({ one }));
      }),
    );
  });

  test('never throws, whatever the bytes', () => {
    const token = fc.constantFrom(
      ...[
        'a',
        ':',
        ' ',
        '\n',
        '- ',
        '{',
        '}',
        '[',
        ']',
        '"',
        "'",
        '|',
        '>',
        '&a',
        '*a',
        '!',
        '!!str',
        '%',
        '#',
      ],
      ...['---', '...', '?', ',', '\t', '\u0000', '\ufeff', '\r', '<<', '0x', '1', 'null', '~', '@', '`'],
    );
    const text = fc.array(token, { maxLength: 60 }).map((tokens) => bytes(tokens.join('')));
    fc.assert(
      fc.property(fc.oneof(text, fc.uint8Array({ maxLength: 200 })), (content) => {
        const parsed = parseYaml('/f.yaml', content);
        const places = parsed.ok ? [parsed.value] : parsed.problems;
        expect(places.length).toBeGreaterThan(0);
        expect(places.every(({ at }) => at.line > 0 && at.column > 0)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });
});

/** fast-check makes dictionaries without a prototype. */
function plainObject(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value)) as unknown;
}

describe('readYaml', () => {
  test('tells that there is no file from one that is none', async () => {
    const directory = temporary();
    expect(await readYaml(join(directory, 'none.yaml'))).toBeUndefined();
    mkdirSync(join(directory, 'd.yaml'));
    await expect(readYaml(join(directory, 'd.yaml'))).rejects.toThrow('is not a regular file');
    execFileSync('mkfifo', [join(directory, 'f.yaml')]);
    await expect(readYaml(join(directory, 'f.yaml'))).rejects.toThrow('is not a regular file');
  });

  test('reads no more than the longest file', async () => {
    const file = join(temporary(), 'big.yaml');
    const line = 'a: ';
    writeFileSync(file, line + 'x'.repeat(longestFile - line.length));
    expect((await readYaml(file))?.ok).toBe(true);
    writeFileSync(file, line + 'x'.repeat(longestFile - line.length + 1));
    await expect(readYaml(file)).rejects.toThrow(`longer than ${longestFile} bytes`);
  });
});
