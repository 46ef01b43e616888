import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { repository } from '../../support.ts';

const text = readFileSync(join(repository, 'docs/compare.md'), 'utf8');

/** The rows of all tables, with what the column of relive says. */
const rows = text.split('\n').flatMap((line) => {
  const [, feature, ours] = line.split('|').map((cell) => cell.trim());
  return feature === undefined || ours === undefined || feature === '' || /^-+$/.test(feature)
    ? []
    : [{ feature, ours }];
});
/** The tests that a cell names. */
const named = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);

describe('docs/compare.md', () => {
  test('has its tables', () => {
    expect(rows.length).toBeGreaterThan(35);
  });

  test.each(rows)('$feature: $ours', ({ ours }) => {
    expect(ours).toMatch(/^(?:yes: `|in part: `|no(?:$|: ))/);
    expect(named(ours).filter((name) => !existsSync(join(repository, `test/${name}.test.ts`)))).toEqual([]);
  });
});
