import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, property, string } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dependenciesOf } from '../../../tools/package/dependencies-page.ts';
import { exampleFiles } from '../../../tools/package/example.ts';
import { readGraph } from '../../../tools/package/house.ts';
import { markdownPage } from '../../../tools/package/markdown.ts';
import { item, paragraph } from '../../../tools/package/page.ts';
import { referenceDocuments } from '../../../tools/package/reference.ts';
import { repository } from '../../support.ts';

const directory = join(repository, 'docs/reference');
const dependencies = dependenciesOf(JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')));
const documents = referenceDocuments(
  await exampleFiles(repository),
  readGraph(join(repository, 'src')),
  dependencies,
);

describe('docs/reference', () => {
  test.each(Object.entries(documents))('%s is what the code says; else: npm run reference', (name, text) => {
    expect(readFileSync(join(directory, name), 'utf8')).toBe(text);
  });

  test('has nothing else', () => {
    expect(readdirSync(directory).toSorted()).toEqual(Object.keys(documents).toSorted());
  });
});

describe('libraries', () => {
  // Each lets itself be part of a program under the GPL, version 3 or later, or is only used to make it.
  const free = new Set([
    '0BSD',
    'Apache-2.0',
    'BSD-2-Clause',
    'BSD-3-Clause',
    'BlueOak-1.0.0',
    'CC0-1.0',
    'ISC',
    'MIT',
    'Unlicense',
  ]);
  const development = new Set([...free, 'CC-BY-3.0', 'MPL-2.0', 'MIT OR Apache-2.0', 'MIT AND ISC']);

  test('in the package have a licence that goes with ours', () => {
    const ours = dependencies.filter((each) => !each.development);
    expect(ours.length).toBeGreaterThan(3);
    expect(ours.filter(({ license }) => !free.has(license))).toEqual([]);
  });

  test('for development have a free one', () => {
    expect(dependencies.filter(({ license }) => !development.has(license))).toEqual([]);
  });
});

describe('text in Markdown', () => {
  const page = { name: 'relive-x', section: 1, summary: 'x', version: '1', seeAlso: [] } as const;

  test('is no markup of its own', () => {
    const text = markdownPage({ ...page, body: [paragraph('a *b* <c> _d_ `e` [f](g) \\')] }, 2);
    expect(text).toBe('## relive x: x\n\na \\*b\\* \\<c\\> \\_d\\_ \\`e\\` \\[f\\](g) \\\\\n');
  });

  test('keys below a key are indented, in a code span whatever is in them', () => {
    const body = [item('a', ['A.'], [item('a.b', ['B.'])]), item('c`d', [])];
    expect(markdownPage({ ...page, body }, 1)).toBe(
      '# relive x: x\n\n- `a`: A.\n  - `a.b`: B.\n- `` c`d ``:\n',
    );
  });

  test('every character of a paragraph is there', () => {
    assert(
      property(string(), (text) => {
        const made = markdownPage({ ...page, body: [paragraph(`x${text}`)] }, 1).slice(
          '# relive x: x\n\n'.length,
          -1,
        );
        expect(made.replaceAll(/\\([\\`*_<>[\]|])/g, '$1').replaceAll(/^ {4}/gm, '')).toBe(
          `x${text}`.replaceAll(/^ {4}/gm, ''),
        );
      }),
    );
  });
});
