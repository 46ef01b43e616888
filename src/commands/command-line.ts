import { resolve } from 'node:path';
import { Argument, Command, Option } from 'commander';
import { version } from '../core/version.ts';
import type { Call, CommandSpec, OptionSpec } from './command.ts';
import { commands, commonOptions, groups, hiddenCommands, summary } from './table.ts';

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

/** The commands that a command line can mean: those of a group alone where it begins with its name, else all. */
function meant([first]: readonly string[]): readonly CommandSpec[] {
  const all = [...commands, ...hiddenCommands];
  if (first === undefined || groups[first] === undefined) return all;
  return all.filter(({ name }) => name.startsWith(`${first} `));
}

/**
 * The command line as commander reads it, made from the table. What it cannot read it throws as a CommanderError.
 * @param call gets the command that was called, and with what
 * @param argv what will be read: what cannot be meant by it is left out; nothing unless given
 */
export function commandLine(
  call: (spec: CommandSpec, parsed: Omit<Call, 'context' | 'confirm'>) => Promise<void>,
  argv: readonly string[] = [],
): Command {
  const program = withCommonOptions(new Command('relive'))
    .description(summary)
    .version(version, '-V, --version', 'print the version')
    .showSuggestionAfterError()
    .exitOverride();
  const parents = new Map<string, Command>();
  for (const spec of meant(argv)) {
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
      await call(spec, {
        siteDirectory: resolve(typeof site === 'string' ? site : '.'),
        arguments: command.processedArgs as Call['arguments'],
        options,
      });
    });
  }
  return program;
}
