import { resolve } from 'node:path';
import { Argument, Command, CommanderError, Option } from 'commander';
import type { Call, CommandSpec, OptionSpec } from './commands/command.ts';
import { commands, commonOptions, groups, hiddenCommands, summary } from './commands/table.ts';
import { isReliveError, ReliveError } from './core/error.ts';
import { version } from './core/version.ts';
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

function optionOf({ flags, description, choices, default: otherwise }: OptionSpec): Option {
  const option = new Option(flags, description);
  if (choices !== undefined) option.choices(choices);
  if (otherwise !== undefined) option.default(otherwise);
  return option;
}

/** Adds what every command takes. */
function withCommonOptions(command: Command): Command {
  for (const option of commonOptions) command.addOption(optionOf(option));
  return command.helpOption('-h, --help', 'show this help');
}

function helpText({ description, examples }: CommandSpec): string {
  const more = description === undefined ? '' : `\n${description}\n`;
  return `${more}\nExamples:\n${examples.map(({ command, says }) => `  ${command.padEnd(44)} ${says}`).join('\n')}\n`;
}

/** What is to be reported of anything that a command threw. */
function knownError(error: unknown, signal: AbortSignal | undefined): ReliveError {
  if (isReliveError(error)) return error;
  // What Node.js throws from an aborted call is its own AbortError; why it was aborted is what counts.
  if (signal?.aborted === true && isReliveError(signal.reason)) return signal.reason;
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

/** The command line as commander reads it, made from the table. */
function makeProgram(done: (status: number) => void): Command {
  const program = withCommonOptions(new Command('relive'))
    .description(summary)
    .version(version, '-V, --version', 'print the version')
    .showSuggestionAfterError()
    .exitOverride();
  const parents = new Map<string, Command>();
  for (const spec of [...commands, ...hiddenCommands]) {
    const words = spec.name.split(' ');
    const leaf = words.at(-1) ?? spec.name;
    let parent = program;
    if (words.length > 1) {
      const group = words[0] ?? '';
      parent =
        parents.get(group) ??
        program
          .command(group)
          .description(groups[group] ?? '')
          .exitOverride();
      parents.set(group, parent);
    }
    const hidden = hiddenCommands.includes(spec);
    const command = withCommonOptions(parent.command(leaf, { hidden }))
      .description(spec.summary)
      .exitOverride();
    for (const { name, description, choices } of spec.arguments ?? []) {
      const argument = new Argument(name, description);
      if (choices !== undefined) argument.choices(choices);
      command.addArgument(argument);
    }
    for (const option of spec.options ?? []) command.addOption(optionOf(option));
    command.addHelpText('after', helpText(spec));
    command.action(async () => {
      const options = command.optsWithGlobals<Record<string, string | boolean | undefined>>();
      const site = options['site'];
      done(
        await execute(spec, {
          siteDirectory: resolve(typeof site === 'string' ? site : '.'),
          arguments: command.processedArgs as Call['arguments'],
          options,
        }),
      );
    });
  }
  return program;
}

/** The exit status of a command line. */
async function statusOf(argv: readonly string[]): Promise<number> {
  // Whoever read our output is gone (EPIPE): end the work in order.
  process.stdout.on('error', () => process.kill(process.pid, 'SIGTERM'));
  process.stderr.on('error', () => undefined);
  let status = 0;
  const program = makeProgram((result) => {
    status = result;
  });
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
