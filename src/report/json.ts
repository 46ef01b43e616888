import type { Output, Reporter } from './reporter.ts';

/** One JSON object a line on standard output; the last line is the result or the error. */
export function jsonReporter(out: Output): Reporter {
  const line = (value: object): void => {
    out.write(`${JSON.stringify(value)}\n`);
  };
  return {
    emit: line,
    // These two are ours, whatever the data calls its fields.
    result: ({ ok, data }) => line(Object.assign({ event: 'result', ok }, data, { event: 'result', ok })),
    error: ({ code, message, hint }) => line({ event: 'error', ok: false, code, message, hint }),
  };
}
