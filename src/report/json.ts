import type { Output, Reporter } from './reporter.ts';

/** One JSON object a line on standard output; the last line is the result or the error. */
export function jsonReporter(out: Output): Reporter {
  const line = (value: object): void => {
    out.write(`${JSON.stringify(value)}\n`);
  };
  return {
    emit: line,
    result: ({ ok, data }) => line({ event: 'result', ok, ...data }),
    error: ({ code, message, hint }) => line({ event: 'error', ok: false, code, message, hint }),
  };
}
