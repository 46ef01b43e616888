import type { ReliveError } from '../core/error.ts';
import type { Finding, StageEvent, WarningEvent } from '../core/event.ts';
import { formatSeconds, printable, printableLine } from './format.ts';
import { plainProgressLine, Running } from './progress.ts';
import type { Output, Reporter } from './reporter.ts';
import type { Style } from './style.ts';

/** How often a log hears of a stage that is at work. */
const logMilliseconds = 30_000;

/** The line that says a stage's end. */
export function stageLine({ stage, state, seconds, detail }: StageEvent, style: Style): string {
  const name = printableLine(stage);
  const time = seconds === undefined ? '' : ` ${style.dim(formatSeconds(seconds))}`;
  const more = detail === undefined ? '' : ` ${style.dim(`(${printable(detail)})`)}`;
  return state === 'cached'
    ? `${style.dim('=')} ${name} ${style.dim('unchanged, taken from the cache')}${more}`
    : `${style.green('+')} ${name}${time}${more}`;
}

export function warningLines({ message, hint }: WarningEvent, style: Style): string {
  return `${style.yellow('warning:')} ${printable(message)}${hintLines(hint, style)}`;
}

export function findingLines({ kind, path, detail, hint }: Finding, style: Style): string {
  return `${style.red(`${kind}:`)} ${printableLine(path)}: ${printable(detail)}${hintLines(hint, style)}`;
}

export function errorLines({ message, hint }: ReliveError, style: Style): string {
  return `${style.red('error:')} ${printable(message)}${hintLines(hint, style)}`;
}

function hintLines(hint: string | undefined, style: Style): string {
  return hint === undefined ? '' : `\n  ${style.cyan('hint:')} ${printable(hint)}`;
}

/**
 * Lines without cursor movement, for logs and pipes: stages, warnings, findings and errors on `err`, the result on
 * `out`; every half a minute how far a long stage is. With `quiet` only findings, warnings, errors and the result.
 */
export function plainReporter(
  out: Output,
  err: Output,
  style: Style,
  options: { readonly quiet: boolean },
): Reporter {
  const stages = new Map<string, Running>();
  let timer: NodeJS.Timeout | undefined;
  const line = (text: string): void => {
    err.write(`${text}\n`);
  };
  const sayHowFar = (): void => {
    const now = performance.now();
    for (const [stage, running] of stages) {
      // A stage that has just begun has just been named.
      if (now - running.started >= logMilliseconds / 2) line(plainProgressLine(stage, running, now));
    }
  };
  const track = (): void => {
    if (stages.size > 0 && timer === undefined) {
      timer = setInterval(sayHowFar, logMilliseconds);
      timer.unref();
    } else if (stages.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
  const finish = (): void => {
    stages.clear();
    track();
  };
  return {
    emit: (event) => {
      switch (event.event) {
        case 'finding':
          return line(findingLines(event, style));
        case 'warning':
          return line(warningLines(event, style));
        case 'note': {
          const running = event.source === undefined ? undefined : stages.get(event.source);
          if (running !== undefined) running.note = event.message;
          else if (!options.quiet && event.source === undefined) line(printable(event.message));
          return;
        }
        case 'progress':
          stages.get(event.stage)?.update(event, performance.now());
          return;
        case 'stage':
          if (options.quiet) return;
          if (event.state === 'start') {
            stages.set(event.stage, new Running(performance.now()));
            line(`  ${printableLine(event.stage)} ...`);
          } else {
            stages.delete(event.stage);
            line(stageLine(event, style));
          }
          track();
          return;
      }
    },
    result: ({ text }) => {
      finish();
      if (text !== '') out.write(`${text.trimEnd()}\n`);
    },
    error: (error) => {
      finish();
      line(errorLines(error, style));
    },
  };
}
