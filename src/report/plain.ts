import type { ReliveError } from '../core/error.ts';
import type { Finding, StageEvent, WarningEvent } from '../core/event.ts';
import { formatSeconds, printable } from './format.ts';
import type { Output, Reporter } from './reporter.ts';
import type { Style } from './style.ts';

/** The line that says a stage's end. */
export function stageLine({ stage, state, seconds, detail }: StageEvent, style: Style): string {
  const time = seconds === undefined ? '' : ` ${style.dim(formatSeconds(seconds))}`;
  const more = detail === undefined ? '' : ` ${style.dim(`(${printable(detail)})`)}`;
  return state === 'cached'
    ? `${style.dim('=')} ${stage} ${style.dim('unchanged, taken from the cache')}${more}`
    : `${style.green('+')} ${stage}${time}${more}`;
}

export function warningLines({ message, hint }: WarningEvent, style: Style): string {
  return `${style.yellow('warning:')} ${printable(message)}${hintLines(hint, style)}`;
}

export function findingLines({ kind, path, detail, hint }: Finding, style: Style): string {
  return `${style.red(`${kind}:`)} ${printable(path)}: ${printable(detail)}${hintLines(hint, style)}`;
}

export function errorLines({ message, hint }: ReliveError, style: Style): string {
  return `${style.red('error:')} ${printable(message)}${hintLines(hint, style)}`;
}

function hintLines(hint: string | undefined, style: Style): string {
  return hint === undefined ? '' : `\n  ${style.cyan('hint:')} ${printable(hint)}`;
}

/**
 * Lines without cursor movement, for logs and pipes: stages, warnings, findings and errors on `err`, the result on
 * `out`. With `quiet` only findings, warnings, errors and the result.
 */
export function plainReporter(
  out: Output,
  err: Output,
  style: Style,
  options: { readonly quiet: boolean },
): Reporter {
  const line = (text: string): void => {
    err.write(`${text}\n`);
  };
  return {
    emit: (event) => {
      if (event.event === 'finding') line(findingLines(event, style));
      else if (event.event === 'warning') line(warningLines(event, style));
      else if (options.quiet) return;
      else if (event.event === 'note') {
        if (event.source === undefined) line(printable(event.message));
      } else if (event.event === 'stage') {
        line(event.state === 'start' ? `  ${event.stage} ...` : stageLine(event, style));
      }
    },
    result: ({ text }) => {
      if (text !== '') out.write(`${text.trimEnd()}\n`);
    },
    error: (error) => line(errorLines(error, style)),
  };
}
