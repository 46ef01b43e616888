import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exitStatusOf } from '../../../src/core/error.ts';
import { repository } from '../../support.ts';

test('docs/troubleshooting.md has a section for each code, with its exit status', () => {
  const text = readFileSync(join(repository, 'docs/troubleshooting.md'), 'utf8');
  const sections = [...text.matchAll(/^## ([a-z-]+) \((\d+)\)$/gm)];
  expect(Object.fromEntries(sections.map(([, code, status]) => [code, Number(status)]))).toEqual(
    exitStatusOf,
  );
});
