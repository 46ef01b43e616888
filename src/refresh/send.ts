import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { run } from '../host/process.ts';
import type { Site } from '../site/site.ts';
import { failureOf, type RefreshReport, subjectOf } from './report.ts';
import { readReported, writeReported } from './state.ts';

/** A program that does not end would keep the next refresh from running. */
const timeoutSeconds = 300;

/**
 * Gives a report to the program of the site, if it has one: the text on its standard input, and in its environment
 * RELIVE_SUBJECT (one line), RELIVE_OUTCOME (new, unchanged, failed), RELIVE_SITE (the directory, where it also runs) and
 * RELIVE_REPORT (a file with the report as JSON, there until it ends). What was told is told no more by the next report;
 * a report that could not be handed over is.
 * @returns the report; with a failure more where the program failed
 */
export async function sendReport(
  site: Site,
  report: RefreshReport,
  text: string,
  context: Context,
): Promise<RefreshReport> {
  const [program, ...words] = site.refresh.report ?? [];
  try {
    if (program !== undefined) {
      await withScratchDirectory(tmpdir(), async (scratch) => {
        const file = join(scratch, 'report.json');
        await writeFile(file, `${JSON.stringify(report)}\n`);
        const env = {
          RELIVE_SUBJECT: `relive: ${subjectOf(report)}`,
          RELIVE_OUTCOME: report.outcome,
          RELIVE_SITE: site.directory,
          RELIVE_REPORT: file,
        };
        const { signal } = context;
        await run(program, words, { signal, env, input: text, cwd: site.directory, timeoutSeconds });
      });
    }
    const told = report.profiles.flatMap(({ profile, image, outcome }) =>
      image === undefined || outcome === 'failed' ? [] : [[profile, image] as const],
    );
    await writeReported(site, { ...(await readReported(site)), ...Object.fromEntries(told) });
    return report;
  } catch (error) {
    const failures = [...report.failures, failureOf('report', error, context)];
    return { ...report, outcome: 'failed', failures };
  }
}
