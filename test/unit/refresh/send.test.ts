import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sendReport } from '../../../src/refresh/send.ts';
import { readReported } from '../../../src/refresh/state.ts';
import { type Site, usualMenu } from '../../../src/site/site.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';
import { exampleReport } from './example.ts';

function siteWith(report: readonly string[] | undefined): Site {
  const directory = temporaryDirectory();
  const inside = (name: string): string => join(directory, name);
  return {
    ...{ directory, store: inside('store'), mirror: inside('mirror'), cache: inside('cache') },
    ...{ keys: inside('keys'), repositories: {}, refresh: { media: [], report } },
    menu: usualMenu,
  };
}

test('the program of the site gets the text, the subject and a file with all of it', async () => {
  const script =
    'cat >text; printf "%s|%s|%s|%s" "$RELIVE_SUBJECT" "$RELIVE_OUTCOME" "$RELIVE_SITE" "$1" >said; cp "$RELIVE_REPORT" json; printf "%s" "$RELIVE_REPORT" >place';
  const site = siteWith(['sh', '-c', script, 'sh', '$HOME; argument']);
  const read = (name: string): string => readFileSync(join(site.directory, name), 'utf8');
  expect(await sendReport(site, exampleReport, 'the text\n', recordingContext())).toEqual(exampleReport);
  expect(read('text')).toBe('the text\n');
  expect(read('said')).toBe(
    `relive: failed: mirror local, profile kiosk; new: server-20261122.01; 1 medium brought up to date|failed|${site.directory}|$HOME; argument`,
  );
  expect(JSON.parse(read('json'))).toEqual(JSON.parse(JSON.stringify(exampleReport)));
  expect(existsSync(read('place'))).toBe(false);
  // What failed is told of once it works.
  expect(await readReported(site)).toEqual({ server: 'server-20261122.01', box: 'box-20261120.01' });
});

test('what a program that failed was to tell stays to be told, and its failure is one of the report', async () => {
  const site = siteWith(['sh', '-c', 'echo "no such user" >&2; exit 7']);
  const told = await sendReport(site, { ...exampleReport, failures: [] }, 'text', recordingContext());
  expect(told.outcome).toBe('failed');
  expect(told.failures).toMatchObject([
    { what: 'report', code: 'tool-failed', message: expect.stringContaining('no such user') },
  ]);
  expect(await readReported(site)).toEqual({});
  const missing = await sendReport(siteWith(['/nowhere/mail']), exampleReport, '', recordingContext());
  expect(missing.failures.at(-1)).toMatchObject({ what: 'report', code: 'tool-missing' });
});

test('without a program the report counts as told', async () => {
  const site = siteWith(undefined);
  await sendReport(site, exampleReport, '', recordingContext());
  expect(await readReported(site)).toMatchObject({ server: 'server-20261122.01' });
});
