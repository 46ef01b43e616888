import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ReliveError } from '../../../src/core/error.ts';
import type { WorkEvent } from '../../../src/core/event.ts';
import { jsonReporter } from '../../../src/report/json.ts';
import { plainReporter } from '../../../src/report/plain.ts';
import { makeStyle } from '../../../src/report/style.ts';
import { terminalReporter } from '../../../src/report/terminal.ts';

const style = makeStyle(false);

/** An output that keeps what was written. */
function paper(size: { readonly columns?: number; readonly rows?: number } = {}) {
  let text = '';
  return {
    ...size,
    write: (more: string) => {
      text += more;
    },
    get text() {
      return text;
    },
  };
}

const start: WorkEvent = { event: 'stage', stage: 'pack', state: 'start' };
const done: WorkEvent = { event: 'stage', stage: 'pack', state: 'done', seconds: 65, detail: '3 layers' };
const progress = (part: number): WorkEvent => ({
  event: 'progress',
  stage: 'pack',
  done: part,
  total: 100,
  unit: 'files',
});
const finding: WorkEvent = {
  event: 'finding',
  kind: 'corrupt',
  path: 'live/a\n.squashfs',
  detail: 'not the digest',
  hint: 'fetch it again',
};
const warning: WorkEvent = { event: 'warning', message: 'the clock\u001b[2J is wrong', hint: 'set it' };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('plain lines', () => {
  test('say what starts, what is done, what is wrong, and the result', () => {
    const [out, err] = [paper(), paper()];
    const reporter = plainReporter(out, err, style, { quiet: false });
    for (const event of [start, progress(50), done, finding, warning]) reporter.emit(event);
    reporter.emit({ event: 'stage', stage: 'bootstrap', state: 'cached' });
    reporter.emit({ event: 'note', message: 'a note' });
    reporter.emit({ event: 'note', source: 'pack', message: 'what mksquashfs says' });
    reporter.result({ ok: true, data: {}, text: 'the result\n\n' });
    expect(err.text).toBe(
      [
        '  pack ...',
        '+ pack 1 min 05 s (3 layers)',
        'corrupt: live/a\\x0a.squashfs: not the digest',
        '  hint: fetch it again',
        'warning: the clock\\x1b[2J is wrong',
        '  hint: set it',
        '= bootstrap unchanged, taken from the cache',
        'a note',
        '',
      ].join('\n'),
    );
    expect(out.text).toBe('the result\n');
  });

  test('tell every half a minute how far a long stage is, and stop with it', () => {
    const [out, err] = [paper(), paper()];
    const reporter = plainReporter(out, err, style, { quiet: false });
    reporter.emit(start);
    vi.advanceTimersByTime(29_000);
    reporter.emit(progress(40));
    expect(err.text).toBe('  pack ...\n');
    vi.advanceTimersByTime(31_000);
    expect(err.text).toBe(
      '  pack ...\n  pack: 30 s, 40 %, 40 of 100 files, 0.0 s left\n'.replace(', 0.0 s left', '') +
        '  pack: 1 min 00 s, 40 %, 40 of 100 files\n',
    );
    reporter.emit(done);
    vi.advanceTimersByTime(120_000);
    expect(err.text.split('\n')).toHaveLength(5);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('in quiet leave out what is not wrong', () => {
    const [out, err] = [paper(), paper()];
    const reporter = plainReporter(out, err, style, { quiet: true });
    for (const event of [start, progress(1), { event: 'note', message: 'a note' } as const, done]) {
      reporter.emit(event);
      vi.advanceTimersByTime(60_000);
    }
    expect(err.text).toBe('');
    reporter.emit(finding);
    reporter.error(new ReliveError('corrupt', 'bad', { hint: 'do' }));
    reporter.result({ ok: true, data: {}, text: '' });
    expect(err.text).toContain('corrupt: live/a');
    expect(err.text).toContain('error: bad\n  hint: do\n');
    expect(out.text).toBe('');
  });

  test('an error ends what was at work', () => {
    const err = paper();
    const reporter = plainReporter(paper(), err, style, { quiet: false });
    reporter.emit(start);
    reporter.error(new ReliveError('corrupt', 'bad'));
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('JSON', () => {
  test('is one object a line, the result last', () => {
    const out = paper();
    const reporter = jsonReporter(out);
    for (const event of [start, progress(1), done, finding, warning]) reporter.emit(event);
    reporter.result({
      ok: false,
      data: { event: 'mine', ok: 'mine', images: ['a\nb\u001b'] },
      text: 'not shown',
    });
    const lines = out.text.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      start,
      progress(1),
      done,
      finding,
      warning,
      { event: 'result', ok: false, images: ['a\nb\u001b'] },
    ]);
    expect(lines.at(-1)).toMatch(/^\{"event":"result","ok":false/);
    expect(out.text).not.toContain('\u001b');
  });

  test('has the error with its code and hint', () => {
    const out = paper();
    jsonReporter(out).error(new ReliveError('disk-full', 'no room', { hint: 'make room' }));
    expect(JSON.parse(out.text)).toEqual({
      event: 'error',
      ok: false,
      code: 'disk-full',
      message: 'no room',
      hint: 'make room',
    });
  });
});

/** What a terminal shows after `text`: only line feeds, cursor up, and erasing below are understood. */
function screen(text: string, columns: number): string[] {
  let lines = [''];
  // eslint-disable-next-line no-control-regex -- the terminal's own
  for (const [, up, below, plain = ''] of text.matchAll(/\u001b\[(\d+)A|(\u001b\[J)|([^\u001b]+)/g)) {
    if (up !== undefined) lines = lines.slice(0, Math.max(1, lines.length - Number(up)));
    else if (below !== undefined) lines[lines.length - 1] = '';
    else {
      for (const character of plain) {
        if (character === '\n') lines.push('');
        else {
          if ((lines.at(-1) ?? '').length >= columns) lines.push('');
          lines[lines.length - 1] += character;
        }
      }
    }
  }
  return lines;
}

describe('terminal', () => {
  test('progress is redrawn in place, below what is finished, and is gone at the end', () => {
    const [out, err] = [paper(), paper({ columns: 60, rows: 20 })];
    const reporter = terminalReporter(out, err, style);
    reporter.emit(start);
    vi.advanceTimersByTime(3200);
    reporter.emit(progress(40));
    expect(screen(err.text, 60)).toEqual(['  pack 3.2 s  [##########..............] 40 %  40 of 100 f…', '']);
    reporter.emit(warning);
    expect(screen(err.text, 60).slice(0, 2)).toEqual([
      'warning: the clock\\x1b[2J is wrong',
      '  hint: set it',
    ]);
    reporter.emit(done);
    reporter.result({ ok: true, data: {}, text: 'the result' });
    expect(screen(err.text, 60)).toEqual([
      'warning: the clock\\x1b[2J is wrong',
      '  hint: set it',
      '+ pack 1 min 05 s (3 layers)',
      '',
    ]);
    expect(out.text).toBe('the result\n');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('the clock of a stage goes on while it says nothing', () => {
    const err = paper({ columns: 60 });
    const reporter = terminalReporter(paper(), err, style);
    reporter.emit(start);
    vi.advanceTimersByTime(5000);
    expect(screen(err.text, 60)).toEqual(['  pack 5.0 s', '']);
  });

  test('a line that a narrower window has wrapped is erased whole', () => {
    const err = { ...paper(), columns: 60 };
    let text = '';
    err.write = (more) => {
      text += more;
    };
    const reporter = terminalReporter(paper(), err, style);
    reporter.emit(start);
    vi.advanceTimersByTime(1200);
    reporter.emit(progress(40));
    const before = screen(text, 60)[0] ?? '';
    text = '';
    err.columns = 30;
    vi.advanceTimersByTime(1000);
    const wrapped = screen(`above\n${before}\n`, 30).length - 2;
    expect(wrapped).toBe(2);
    expect(screen(`above\n${before}\n${text}`, 30)).toEqual(['above', '  pack 2.0 s  [##########...…', '']);
  });

  test('a terminal that does not tell its size gets lines for 80 columns', () => {
    const err = paper({ columns: 0, rows: 0 });
    const reporter = terminalReporter(paper(), err, style);
    reporter.emit(start);
    reporter.emit({ event: 'note', source: 'pack', message: 'x'.repeat(200) });
    vi.advanceTimersByTime(1000);
    expect(screen(err.text, 80)[0]).toHaveLength(79);
  });

  test('an error takes the progress away and is shown', () => {
    const err = paper({ columns: 60 });
    const reporter = terminalReporter(paper(), err, style);
    reporter.emit(start);
    reporter.error(new ReliveError('corrupt', 'bad', { hint: 'do' }));
    expect(screen(err.text, 60)).toEqual(['error: bad', '  hint: do', '']);
    expect(vi.getTimerCount()).toBe(0);
  });
});
