import type { ArgumentSpec, CommandSpec, Completion, OptionSpec } from '../../src/commands/command.ts';
import { commands, commonOptions, groups } from '../../src/commands/table.ts';

/** An option as shells need it. */
export interface OptionWords {
  /** With their dashes: -q, --quiet. */
  readonly names: readonly string[];
  readonly description: string;
  /** Whether a value follows it always, may follow it, or never. */
  readonly value: 'always' | 'perhaps' | 'never';
  readonly offers: Completion | undefined;
}

/** A command as shells need it. */
export interface CommandWords {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly OptionWords[];
  /** What each positional argument offers; the last one once more for all that follow where `many`. */
  readonly positional: readonly (Completion | undefined)[];
  readonly many: boolean;
}

const help: OptionSpec = { flags: '-h, --help', description: 'show this help' };

function optionWords({ flags, description, choices, completes }: OptionSpec): OptionWords {
  return {
    names: flags.split(/[ ,]+/).filter((word) => word.startsWith('-')),
    description,
    value: flags.includes('<') ? 'always' : flags.includes('[') ? 'perhaps' : 'never',
    offers: choices ?? completes,
  };
}

function offersOf({ choices, completes }: ArgumentSpec): Completion | undefined {
  return choices ?? completes;
}

function commandWords({
  name,
  summary,
  options = [],
  arguments: positional = [],
}: CommandSpec): CommandWords {
  return {
    name,
    summary,
    options: [...options, ...commonOptions, help].map(optionWords),
    positional: positional.map(offersOf),
    many: positional.at(-1)?.name.includes('...') === true,
  };
}

/** Every command of the table, and what the groups are about. */
export function wordsForShells(): {
  readonly commands: readonly CommandWords[];
  readonly groups: Readonly<Record<string, string>>;
} {
  return { commands: commands.map(commandWords), groups };
}

/** What may stand behind `relive`: commands of one word, and groups. */
export function firstWords(): (readonly [string, string])[] {
  const single = commands.filter(({ name }) => !name.includes(' '));
  const both = [...single.map(({ name, summary }) => [name, summary] as const), ...Object.entries(groups)];
  return both.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** What may stand behind a group. */
export function secondWords(group: string): (readonly [string, string])[] {
  return commands
    .filter(({ name }) => name.startsWith(`${group} `))
    .map(({ name, summary }) => [name.slice(group.length + 1), summary] as const);
}

/** Text as one word of a shell. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
