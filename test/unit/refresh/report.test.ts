import { describe, expect, test } from 'vitest';
import { reportText } from '../../../src/commands/refresh-report.ts';
import { ReliveError } from '../../../src/core/error.ts';
import { failureOf, subjectOf } from '../../../src/refresh/report.ts';
import { recordingContext } from '../../support.ts';
import { exampleReport } from './example.ts';

describe('the subject', () => {
  test('names what failed and what is new', () => {
    expect(subjectOf(exampleReport)).toBe(
      'failed: mirror local, profile kiosk; new: server-20261122.01; 1 medium brought up to date',
    );
  });

  test('says that nothing is new, and what media got all the same', () => {
    const quiet = { ...exampleReport, failures: [], profiles: [] };
    expect(subjectOf({ ...quiet, media: [] })).toBe('nothing new');
    expect(subjectOf(quiet)).toBe('nothing new; 1 medium brought up to date');
  });
});

test('the text has failures first, with their hints, and what each part gained', () => {
  expect(reportText(exampleReport)).toBe(`${subjectOf(exampleReport)}
/srv/lab, 2026-11-22 03:11 UTC, 1 min 23 s

Failed
  mirror local: no route to it (no-network)
  profile kiosk: apt says:
    no (unsolvable)
    hint: look at it

Profiles
  kiosk: FAILED; kiosk-20261101.01 stays the newest image
  server: server-20261122.01 (1 min 01 s)
    on server-20261121.01: 2.50 MB new of 240 MB, 212 packages, kernel 6.12.57+deb13-amd64
     ~  openssl  3.5.1-1 -> 3.5.1-1+deb13u1
     -  less     668-1
     +  most     5.2.0-1
    tested by bios (healthy after 12 s), uefi (healthy after 14 s)
  box: nothing changed since box-20261120.01

Mirrors
  debian: published trixie; 3 files (1.50 MB) brought; 1 file removed; 812 files verified, nothing wrong
  local: not synchronised; 2 files verified, 1 finding

Media
  LAB (/dev/sdb): up to date; brought server-20261122.01 (2.50 MB); 3.00 GB free
  UUID=1111-2222: not attached

Removed
  server-20261001.01
  1 layer, 9.00 MB in all
`);
});

test('a failure keeps what an error says; what nobody expected is a bug; an interrupt ends the run', () => {
  const context = recordingContext();
  const error = new ReliveError('locked', 'in use', { hint: 'wait' });
  expect(failureOf('profile a', error, context)).toEqual({
    what: 'profile a',
    code: 'locked',
    message: 'in use',
    hint: 'wait',
  });
  expect(failureOf('profile a', new TypeError('odd'), context)).toMatchObject({
    code: 'bug',
    message: expect.stringContaining('TypeError: odd'),
  });
  const controller = new AbortController();
  controller.abort(new ReliveError('interrupted', 'by SIGTERM'));
  expect(() => failureOf('profile a', error, recordingContext(controller.signal))).toThrow('by SIGTERM');
});
