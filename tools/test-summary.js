/**
 * `node tools/test-summary.js DIRECTORY PROJECT...`: adds up what vitest's JSON reporter has written to
 * DIRECTORY/PROJECT.json for each project; PROJECT.status is there when vitest itself ended well. Prints a line a
 * project and at the end "N passed, N failed" alone. Ends with 1 when something failed, or nothing was tested.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [directory = '.', ...projects] = process.argv.slice(2);

/** What one project's tests came to; `trouble` is what failed beside the tests. */
function countOf(project) {
  const none = { passed: 0, failed: 0, skipped: 0 };
  let report;
  try {
    report = JSON.parse(readFileSync(join(directory, `${project}.json`), 'utf8'));
  } catch {
    return { ...none, failed: 1, trouble: 'vitest ended without results' };
  }
  const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (...states) => tests.filter(({ status }) => states.includes(status)).length;
  // A file that fails before its first test has no failed test to count.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  );
  const passed = count('passed');
  const skipped = count('skipped', 'pending', 'todo', 'disabled');
  const failed = tests.length - passed - skipped + broken.length;
  if (broken.length > 0) {
    return {
      passed,
      failed,
      skipped,
      trouble: `failed to run: ${broken.map(({ name }) => name).join(', ')}`,
    };
  }
  if (failed > 0) return { passed, failed, skipped };
  if (passed === 0) return { passed, failed: 1, skipped, trouble: 'no test ran' };
  // An error outside of any test, such as a rejection that nobody handled.
  if (!existsSync(join(directory, `${project}.status`)))
    return { passed, failed: 1, skipped, trouble: 'vitest failed' };
  return { passed, failed, skipped };
}

const lines = [''];
let allPassed = 0;
let allFailed = 0;
for (const project of projects) {
  const { passed, failed, skipped, trouble } = countOf(project);
  allPassed += passed;
  allFailed += failed;
  const more = [skipped > 0 ? `${skipped} skipped` : undefined, trouble].filter((part) => part !== undefined);
  lines.push(`${project}: ${[`${passed} ok`, `${failed} not`, ...more].join(', ')}`);
}
lines.push(`${allPassed} passed, ${allFailed} failed`);
process.stdout.write(`${lines.join('\n')}\n`);
process.exitCode = allFailed === 0 && allPassed > 0 ? 0 : 1;
