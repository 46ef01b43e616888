import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  expectation,
  interruptions,
  leaveStart,
  measured,
  parseInterruptions,
} from '../../../src/live/interruption.ts';
import { livePlaces } from '../../../src/live/running.ts';
import { temporaryDirectory } from '../../support.ts';

test('only whole lines of known kinds are measurements', () => {
  expect(
    parseInterruptions('switch 15700\nkexec \nfirmware 1e9\n\nreset 5\nkexec 61000\nswitch 9999999999\n'),
  ).toEqual([
    { kind: 'switch', milliseconds: 15_700 },
    { kind: 'kexec', milliseconds: 61_000 },
  ]);
});

test('what is expected is the middle of the last ones', () => {
  expect(expectation('switch', [])).toBe('how long a switch interrupts this machine was not yet measured');
  expect(expectation('kexec', [61_000])).toBe(
    'a restart by kexec interrupts this machine for about 61 s (the last one)',
  );
  expect(expectation('firmware', [90_000, 70_000, 81_000])).toBe(
    'a restart through the firmware interrupts this machine for about 81 s (the last 3: 70 to 90 s)',
  );
});

test('the last five of a kind count; without a volume they are in RAM', async () => {
  const home = temporaryDirectory();
  const places = { ...livePlaces, home };
  expect(await interruptions(places)).toEqual([]);
  const lines = [1, 2, 3, 4, 5, 6].map((each) => `switch ${each}000\nkexec ${each}\n`);
  writeFileSync(join(home, 'interruptions'), lines.join(''));
  expect(await measured('switch', places)).toEqual([2000, 3000, 4000, 5000, 6000]);
  // A volume that is not in use is no place.
  mkdirSync(join(home, 'volumes'));
  writeFileSync(join(home, 'volumes/DATA'), 'no disk has it\n');
  await leaveStart('firmware', 1234, places);
  expect(readFileSync(join(home, 'interrupting'), 'utf8')).toBe('firmware 1234\n');
});
