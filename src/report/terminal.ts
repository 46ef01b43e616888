import { displayWidth, printable } from './format.ts';
import { errorLines, findingLines, plainReporter, stageLine, warningLines } from './plain.ts';
import { progressLine, Running } from './progress.ts';
import type { Output, Reporter } from './reporter.ts';
import { makeStyle, type Style } from './style.ts';

const redrawMilliseconds = 100;
/** For a terminal that does not tell its size. */
const usualColumns = 80;
const usualRows = 24;
const noColour = makeStyle(false);

/** Progress with rate and time left, redrawn in place below the lines of what is finished. */
export function terminalReporter(out: Output, err: Output, style: Style): Reporter {
  const stages = new Map<string, Running>();
  const plain = plainReporter(out, err, style, { quiet: false });
  /** The widths of the lines that are drawn, to be erased before the next. */
  let drawn: number[] = [];
  let lastDraw = 0;
  let timer: NodeJS.Timeout | undefined;
  // 0 is what a pseudo-terminal says whose size nobody has set.
  const columns = (): number => (err.columns === undefined || err.columns < 1 ? usualColumns : err.columns);
  const rows = (): number => (err.rows === undefined || err.rows < 1 ? usualRows : err.rows);

  const erase = (): void => {
    // A window that has become narrower has wrapped them.
    const lines = drawn.reduce((sum, width) => sum + Math.max(1, Math.ceil(width / columns())), 0);
    if (lines > 0) err.write(`\u001b[${Math.min(lines, rows() - 1)}A\u001b[J`);
    drawn = [];
  };
  const draw = (): void => {
    erase();
    const now = performance.now();
    for (const [stage, running] of [...stages].slice(0, Math.max(1, rows() - 2))) {
      drawn.push(displayWidth(progressLine(stage, running, now, columns(), noColour)));
      err.write(`${progressLine(stage, running, now, columns(), style)}\n`);
    }
    lastDraw = now;
  };
  const drawSoon = (): void => {
    if (performance.now() - lastDraw > redrawMilliseconds) draw();
  };
  /** Writes lines above the progress. */
  const above = (text: string): void => {
    erase();
    err.write(`${text}\n`);
    draw();
  };
  /** The clock of a stage moves while nothing happens. */
  const tick = (): void => {
    if (stages.size > 0 && timer === undefined) {
      timer = setInterval(draw, 1000);
      timer.unref();
    } else if (stages.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
  const finish = (): void => {
    erase();
    stages.clear();
    tick();
  };

  return {
    emit: (event) => {
      switch (event.event) {
        case 'stage':
          if (event.state === 'start') {
            stages.set(event.stage, new Running(performance.now()));
            draw();
          } else {
            stages.delete(event.stage);
            above(stageLine(event, style));
          }
          tick();
          return;
        case 'progress':
          stages.get(event.stage)?.update(event, performance.now());
          drawSoon();
          return;
        case 'note': {
          if (event.source === undefined) return above(printable(event.message));
          // What a foreign program says moves beside the stage that it works for.
          const running = stages.get(event.source);
          if (running !== undefined) running.note = event.message;
          drawSoon();
          return;
        }
        case 'warning':
          return above(warningLines(event, style));
        case 'finding':
          return above(findingLines(event, style));
      }
    },
    result: (result) => {
      finish();
      plain.result(result);
    },
    error: (error) => {
      finish();
      err.write(`${errorLines(error, style)}\n`);
    },
  };
}
