import type { ProgressEvent } from '../core/event.ts';
import { formatBytes, formatSeconds, printable } from './format.ts';
import { errorLines, findingLines, plainReporter, stageLine, warningLines } from './plain.ts';
import type { Output, Reporter } from './reporter.ts';
import type { Style } from './style.ts';

const redrawMilliseconds = 100;
const barWidth = 24;

/** What is shown of a stage which is at work. */
interface Running {
  readonly started: number;
  progress?: ProgressEvent;
  note?: string;
}

function amount(value: number, unit: ProgressEvent['unit']): string {
  if (unit === 'bytes') return formatBytes(value);
  return unit === 'percent' ? `${Math.round(value)} %` : String(value);
}

/** One line for a stage at work: bar, amounts, rate and time left as far as they are known; cut to `columns`. */
export function progressLine(
  stage: string,
  running: Readonly<Running>,
  now: number,
  columns: number,
  style: Style,
): string {
  const seconds = (now - running.started) / 1000;
  const { progress, note } = running;
  const parts = [`${stage} ${formatSeconds(seconds)}`];
  if (progress !== undefined) {
    const { done, total, unit } = progress;
    if (total !== undefined && total > 0) {
      const share = Math.min(1, done / total);
      const filled = Math.round(share * barWidth);
      parts.push(`[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}] ${Math.floor(share * 100)} %`);
    }
    if (unit !== 'percent') {
      parts.push(
        amount(done, unit) +
          (total === undefined ? '' : ` of ${amount(total, unit)} ${unit === 'bytes' ? '' : unit}`.trimEnd()),
      );
    }
    if (seconds > 1 && done > 0) {
      if (unit === 'bytes') parts.push(`${formatBytes(done / seconds)}/s`);
      if (total !== undefined && done < total) {
        parts.push(`${formatSeconds((seconds / done) * (total - done))} left`);
      }
    }
  }
  const item = progress?.item ?? note;
  if (item !== undefined) parts.push(printable(item));
  const text = `  ${parts.join('  ')}`;
  return style.dim(text.length > columns - 1 ? `${text.slice(0, columns - 2)}…` : text);
}

/** Progress with rate and time left, redrawn in place below the lines of what is finished. */
export function terminalReporter(out: Output, err: Output, style: Style): Reporter {
  const stages = new Map<string, Running>();
  const plain = plainReporter(out, err, style, { quiet: false });
  let drawn = 0;
  let lastDraw = 0;
  let timer: NodeJS.Timeout | undefined;

  const erase = (): void => {
    if (drawn > 0) err.write(`\u001b[${drawn}A\u001b[J`);
    drawn = 0;
  };
  const draw = (): void => {
    erase();
    const now = performance.now();
    for (const [stage, running] of stages) {
      err.write(`${progressLine(stage, running, now, err.columns ?? 80, style)}\n`);
      drawn += 1;
    }
    lastDraw = now;
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
            stages.set(event.stage, { started: performance.now() });
            draw();
          } else {
            stages.delete(event.stage);
            above(stageLine(event, style));
          }
          tick();
          return;
        case 'progress': {
          const running = stages.get(event.stage);
          if (running !== undefined) running.progress = event;
          if (performance.now() - lastDraw > redrawMilliseconds) draw();
          return;
        }
        case 'note': {
          if (event.source === undefined) return above(printable(event.message));
          // What a foreign program says moves beside the stage that it works for.
          const running = stages.get(event.source);
          if (running !== undefined) running.note = event.message;
          if (performance.now() - lastDraw > redrawMilliseconds) draw();
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
