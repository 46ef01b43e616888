import { expect, test } from 'vitest';
import { barChart } from '../../../bench/chart.ts';
import { makePage, readResults, sections, writtenPage } from '../../../bench/page.ts';
import { resultFile } from '../../../bench/result.ts';

const results = readResults();

test('docs/performance.md and its charts are what the results in bench/results make', () => {
  expect(Object.fromEntries(writtenPage())).toEqual(Object.fromEntries(makePage(results)));
});

test('every result has a section, and every section says so where it has none', () => {
  expect(sections.map(resultFile)).toEqual(expect.arrayContaining([...results.keys()]));
  for (const [name, result] of results) expect(resultFile(result)).toBe(name);
  const empty = makePage(new Map()).get('performance.md') ?? '';
  expect(empty.match(/^Not run on this machine yet\.$/gm)).toHaveLength(sections.length);
  expect([...makePage(new Map()).keys()]).toEqual(['performance.md']);
});

test('whether a goal is met follows from its figures', () => {
  const goals = [...results.values()].flatMap((result) => result.goals);
  for (const { what, measured, order, wanted, met } of goals)
    expect([what, met]).toEqual([what, order === 'at least' ? measured >= wanted : measured <= wanted]);
});

test('results hold no path and no address of the machine they are from', () => {
  for (const result of results.values())
    expect(JSON.stringify(result)).not.toMatch(/https?:|\/(home|root|tmp|var|work|usr)\//);
});

test('a chart draws to one scale, and what there is no figure of as nothing', () => {
  const chart = barChart('a & b, s', [
    { name: 'relive', value: 2 },
    { name: 'other', value: 4 },
    { name: 'none', value: null },
  ]);
  const widths = [...chart.matchAll(/<rect x="\d+".* width="([\d.]+)"/g)].map(([, width]) => Number(width));
  expect(widths).toHaveLength(3);
  expect(widths[0]).toBeCloseTo((widths[1] ?? 0) / 2, 0);
  expect(widths[2]).toBe(0);
  expect(chart).toContain('a &amp; b, s');
  expect(chart).toContain('>-</text>');
});
