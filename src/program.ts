import { CommanderError } from 'commander';
import type { Call, CommandSpec } from './commands/command.ts';
import { commandLine } from './commands/command-line.ts';
import { isReliveError, ReliveError } from './core/error.ts';
import { version } from './core/version.ts';
import { explainRefusal } from './host/files.ts';
import { interruptSignal } from './host/interrupt.ts';
import {
  enterMountNamespace,
  enterNamespaces,
  hideHostName,
  insideMountNamespace,
  insideNamespaces,
  requireRoot,
  sayInside,
} from './host/namespace.ts';
import { chooseReporter } from './report/choose.ts';
import { confirm } from './report/confirm.ts';
import type { CommandResult } from './report/reporter.ts';

/** What is to be reported of anything that a command threw. */
function knownError(error: unknown, signal: AbortSignal | undefined): ReliveError {
  if (isReliveError(error)) return error;
  // What Node.js throws from an aborted call is its own AbortError; why it was aborted is what counts.
  if (signal?.aborted === true && isReliveError(signal.reason)) return signal.reason;
  const refused = explainRefusal(error);
  if (refused !== undefined) return refused;
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new ReliveError('bug', `this should not happen, it is a bug of relive ${version}\n${stack}`, {
    cause: error,
    hint: 'please report it with the lines above and what was done before',
  });
}

function statusAfter({ ok, failed }: CommandResult): number {
  if (ok) return 0;
  return failed === true ? 3 : 1;
}

/** Runs a command to its end and gives the exit status. */
async function execute(spec: CommandSpec, parsed: Omit<Call, 'context' | 'confirm'>): Promise<number> {
  const reporter = chooseReporter({
    json: parsed.options['json'] === true,
    quiet: parsed.options['quiet'] === true,
  });
  const fail = (error: unknown, signal?: AbortSignal): number => {
    const known = knownError(error, signal);
    reporter.error(known);
    return known.exitStatus;
  };
  // Thrown where nobody waits for it, in a listener say. The status that Node.js gives would mean a finding.
  process.once('uncaughtException', (error) => process.exit(fail(error)));
  let signal: AbortSignal | undefined;
  try {
    const mounts = typeof spec.mounts === 'function' ? spec.mounts(parsed.options) : spec.mounts === true;
    const privateMounts = spec.privateMounts === true;
    if (spec.needsRoot === true || mounts || privateMounts) requireRoot(spec.name);
    const inside = mounts && insideNamespaces();
    if (mounts && !inside) return await enterNamespaces();
    if (privateMounts && !insideMountNamespace()) return await enterMountNamespace();
    signal = interruptSignal();
    if (inside) {
      sayInside();
      hideHostName();
    }
    const context = { emit: reporter.emit, signal };
    const mayAsk = parsed.options['json'] !== true && parsed.options['quiet'] !== true;
    const ask = async (question: string): Promise<boolean> =>
      mayAsk && (await confirm(question, context.signal));
    const { run } = await spec.load();
    const result = await run({ ...parsed, context, confirm: ask });
    reporter.result(result);
    return statusAfter(result);
  } catch (error) {
    return fail(error, signal);
  }
}

/** The exit status of a command line. */
async function statusOf(argv: readonly string[]): Promise<number> {
  // Whoever read our output is gone (EPIPE): end the work in order.
  process.stdout.on('error', () => process.kill(process.pid, 'SIGTERM'));
  process.stderr.on('error', () => undefined);
  let status = 0;
  const program = commandLine(async (spec, parsed) => {
    status = await execute(spec, parsed);
  }, argv);
  const json = argv.includes('--json');
  const quietOutput = { writeErr: () => undefined };
  for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands: c }) => c)]) {
    if (json) command.configureOutput(quietOutput);
  }
  try {
    await program.parseAsync(argv, { from: 'user' });
    return status;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return 0;
    if (json) {
      const message =
        error.code === 'commander.help' ? 'no command was given' : error.message.replace(/^error: /, '');
      chooseReporter({ json, quiet: false }).error(
        new ReliveError('usage', message, { hint: 'relive --help shows the usage' }),
      );
    }
    return 2;
  }
}

async function main(): Promise<void> {
  process.exitCode = await statusOf(process.argv.slice(2));
}

void main();
