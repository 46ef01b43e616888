import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repository, startProgram, temporaryDirectory } from '../../support.ts';

type Status = 'passed' | 'failed' | 'skipped';
/** A report as vitest's JSON reporter writes it, as far as it is read: a list of tests for each file. */
const report = (...files: readonly (readonly Status[])[]) => ({
  testResults: files.map((tests, index) => ({
    name: `file${index}`,
    status: tests.length === 0 || tests.includes('failed') ? 'failed' : 'passed',
    assertionResults: tests.map((status) => ({ status })),
  })),
});

/** Runs the summary over these reports; a string is written as it is. */
async function summary(reports: Readonly<Record<string, object | string>>, crashed: readonly string[] = []) {
  const directory = temporaryDirectory();
  for (const [project, content] of Object.entries(reports)) {
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    writeFileSync(join(directory, `${project}.json`), text);
    if (!crashed.includes(project)) writeFileSync(join(directory, `${project}.status`), '0\n');
  }
  const projects = [...new Set([...Object.keys(reports), ...crashed])];
  const tool = join(repository, 'tools/test-summary.js');
  const { status, stdout } = await startProgram(process.execPath, [tool, directory, ...projects]).ended;
  return { status, last: stdout.trimEnd().split('\n').at(-1) };
}

test.each([
  [
    'the sum of all projects',
    { a: report(['passed', 'skipped'], ['passed']), b: report(['passed']) },
    [],
    0,
    '3 passed, 0 failed',
  ],
  ['a failed test', { a: report(['passed', 'failed']), b: report(['passed']) }, [], 1, '2 passed, 1 failed'],
  ['a file that does not load', { a: report(['passed'], []) }, [], 1, '1 passed, 1 failed'],
  ['no test at all', { a: report() }, [], 1, '0 passed, 1 failed'],
  ['only skipped tests', { a: report(['skipped']) }, [], 1, '0 passed, 1 failed'],
  ['no project', {}, [], 1, '0 passed, 0 failed'],
  ['a vitest that failed beside its tests', { a: report(['passed']) }, ['a'], 1, '1 passed, 1 failed'],
  ['a vitest that left nothing', { a: report(['passed']) }, ['b'], 1, '1 passed, 1 failed'],
  ['half a report', { a: '{"testResults":' }, [], 1, '0 passed, 1 failed'],
])('%s', async (_, reports, crashed, status, last) => {
  expect(await summary(reports, crashed)).toEqual({ status, last });
});
