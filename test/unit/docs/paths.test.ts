import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { repository } from '../../support.ts';

const documents = [
  ...['README.md', 'SECURITY.md', 'CONTRIBUTING.md'],
  ...readdirSync(join(repository, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

describe.each(documents)('%s', (name) => {
  const text = readFileSync(join(repository, name), 'utf8');

  test('names files of the project that are there', () => {
    const named = [...text.matchAll(/`((?:test|src|tools|packaging)\/[\w./@-]+)`/g)].map(
      ([, path = '']) => path,
    );
    expect(named.filter((path) => !/[A-Z]{4}/.test(path) && !existsSync(join(repository, path)))).toEqual([]);
  });

  test('links to what is there', () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#\s]+)/g)].map(([, path = '']) => path);
    expect(links.filter((path) => !existsSync(join(repository, dirname(name), path)))).toEqual([]);
  });
});
