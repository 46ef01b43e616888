import { withoutPasswords } from '../core/error.ts';
import { jsonReporter } from './json.ts';
import { plainReporter } from './plain.ts';
import type { Output, Reporter } from './reporter.ts';
import { makeStyle } from './style.ts';
import { terminalReporter } from './terminal.ts';

/** A stream that no password of an address gets into, whichever event, program or configuration it comes from. */
function discreet(stream: NodeJS.WriteStream): Output {
  return {
    write: (text) => stream.write(withoutPasswords(text)),
    get columns() {
      return stream.columns;
    },
    get rows() {
      return stream.rows;
    },
  };
}

/**
 * The reporter for this caller: NDJSON when asked for; progress where standard error is a terminal; else plain
 * lines. `NO_COLOR` (no-color.org) and `TERM=dumb` give plain lines too.
 */
export function chooseReporter(options: { readonly json: boolean; readonly quiet: boolean }): Reporter {
  const [out, err] = [discreet(process.stdout), discreet(process.stderr)];
  if (options.json) return jsonReporter(out);
  const dumb = (process.env['NO_COLOR'] ?? '') !== '' || process.env['TERM'] === 'dumb';
  const style = makeStyle(!dumb && process.stderr.isTTY);
  return dumb || options.quiet || !process.stderr.isTTY
    ? plainReporter(out, err, style, options)
    : terminalReporter(out, err, style);
}
