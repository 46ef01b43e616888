import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ProgressEvent } from '../../../src/core/event.ts';
import { displayWidth } from '../../../src/report/format.ts';
import { plainProgressLine, progressLine, Running } from '../../../src/report/progress.ts';
import { makeStyle } from '../../../src/report/style.ts';

const style = makeStyle(false);
const bytes = (done: number, total?: number): ProgressEvent => ({
  event: 'progress',
  stage: 'fetch',
  unit: 'bytes',
  done,
  ...(total === undefined ? {} : { total }),
});

describe('rate', () => {
  test('is unknown at first', () => {
    const running = new Running(0);
    expect(running.rate(5000)).toBeUndefined();
    running.update(bytes(100), 5000);
    expect(running.rate(5500)).toBeUndefined();
  });

  test('does not count what was there at the start', () => {
    const running = new Running(0);
    running.update(bytes(5_000_000), 1000);
    running.update(bytes(5_002_000), 3000);
    expect(running.rate(3000)).toBe(1000);
  });

  test('is that of the last ten seconds, not of the whole time', () => {
    const running = new Running(0);
    for (let second = 0; second <= 100; second += 1) running.update(bytes(second * 10), second * 1000);
    for (let second = 1; second <= 20; second += 1)
      running.update(bytes(1000 + second * 500), (100 + second) * 1000);
    expect(running.rate(120_000)).toBe(500);
  });

  test('falls to nothing when nothing comes', () => {
    const running = new Running(0);
    running.update(bytes(0), 0);
    running.update(bytes(10_000), 1000);
    expect(running.rate(1000)).toBe(10_000);
    expect(running.rate(5000)).toBe(2000);
    expect(running.rate(60_000)).toBe(0);
  });

  test('does not depend on how many events say it', () => {
    const running = new Running(0);
    for (let at = 0; at <= 20_000; at += 1) running.update(bytes(at * 3), at);
    expect(running.rate(20_000)).toBeCloseTo(3000, -1);
  });

  test('starts anew when the count does', () => {
    const running = new Running(0);
    running.update(bytes(1_000_000), 1000);
    running.update(bytes(10), 2000);
    running.update(bytes(2010), 4000);
    expect(running.rate(4000)).toBe(1000);
  });
});

describe('line', () => {
  test('has time, bar, amount, rate, time left and what is worked on', () => {
    const running = new Running(0);
    running.update(bytes(0, 4_000_000), 0);
    running.update({ ...bytes(1_000_000, 4_000_000), item: 'linux-image.deb' }, 10_000);
    expect(progressLine('fetch', running, 10_000, 200, style)).toBe(
      '  fetch 10 s  [######..................] 25 %  1.00 MB of 4.00 MB  100 kB/s  30 s left  linux-image.deb',
    );
    expect(plainProgressLine('fetch', running, 10_000)).toBe(
      '  fetch: 10 s, 25 %, 1.00 MB of 4.00 MB, 100 kB/s, 30 s left, linux-image.deb',
    );
  });

  test('says what it knows where there is no total, and counts other things too', () => {
    const running = new Running(0);
    running.update(bytes(0), 0);
    running.update(bytes(3_000_000), 3000);
    expect(progressLine('fetch', running, 3000, 200, style)).toBe('  fetch 3.0 s  3.00 MB  1.00 MB/s');
    const files = new Running(0);
    files.update({ event: 'progress', stage: 'walk', done: 7, total: 10, unit: 'files' }, 500);
    expect(progressLine('walk', files, 500, 200, style)).toBe(
      '  walk 0.5 s  [#################.......] 70 %  7 of 10 files',
    );
    const percent = new Running(0);
    percent.update({ event: 'progress', stage: 'pack', done: 0, unit: 'percent' }, 0);
    percent.update({ event: 'progress', stage: 'pack', done: 50, unit: 'percent' }, 2000);
    expect(progressLine('pack', percent, 2000, 200, style)).toBe(
      '  pack 2.0 s  [############............] 50 %  2.0 s left',
    );
  });

  test('shows what a foreign program says, on one line', () => {
    const running = new Running(0);
    running.note = 'Setting up\n\u001b[31mfoo';
    expect(progressLine('configure', running, 100, 200, style)).toBe(
      '  configure 0.1 s  Setting up\\x0a\\x1b[31mfoo',
    );
  });

  test('never wraps', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 120 }), (item, columns) => {
        const running = new Running(0);
        running.update({ ...bytes(1, 2), item }, 0);
        expect(displayWidth(progressLine('fetch', running, 1000, columns, style))).toBeLessThan(columns);
      }),
    );
  });
});
