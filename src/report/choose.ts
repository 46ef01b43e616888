import { jsonReporter } from './json.ts';
import { plainReporter } from './plain.ts';
import type { Reporter } from './reporter.ts';
import { makeStyle } from './style.ts';
import { terminalReporter } from './terminal.ts';

/**
 * The reporter for this caller: NDJSON when asked for; progress where standard error is a terminal; else plain
 * lines. `NO_COLOR` (no-color.org) and `TERM=dumb` give plain lines too.
 */
export function chooseReporter(options: { readonly json: boolean; readonly quiet: boolean }): Reporter {
  if (options.json) return jsonReporter(process.stdout);
  const dumb = (process.env['NO_COLOR'] ?? '') !== '' || process.env['TERM'] === 'dumb';
  const style = makeStyle(!dumb && process.stderr.isTTY);
  return dumb || options.quiet || !process.stderr.isTTY
    ? plainReporter(process.stdout, process.stderr, style, options)
    : terminalReporter(process.stdout, process.stderr, style);
}
