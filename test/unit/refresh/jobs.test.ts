import { expect, test } from 'vitest';
import { defaultJobs } from '../../../src/refresh/jobs.ts';

test('a job for each core, as far as there is memory, and one in any case', () => {
  expect(defaultJobs(8, 100e9)).toBe(8);
  expect(defaultJobs(8, 5e9)).toBe(3);
  expect(defaultJobs(8, 1e8)).toBe(1);
  expect(defaultJobs(1, 100e9)).toBe(1);
});
