import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import type { CommandResult } from '../report/reporter.ts';

/** Names that a site has, or relive ships, which shells complete. */
export const nouns = ['profile', 'image', 'repository', 'shipped'] as const;
export type Noun = (typeof nouns)[number];

/** What a shell offers for a value: names, files, directories, or these words. */
export type Completion = Noun | 'file' | 'directory' | readonly string[];

/** A positional argument: `<name>` required, `[name]` optional, `<name...>` and `[name...]` many. */
export interface ArgumentSpec {
  readonly name: string;
  readonly description: string;
  readonly choices?: readonly string[];
  readonly completes?: Completion;
}

/** An option: `--flag`, `--option VALUE`, with `choices` where only these are allowed. */
export interface OptionSpec {
  readonly flags: string;
  readonly description: string;
  readonly choices?: readonly string[];
  readonly default?: string;
  readonly completes?: Completion;
}

export interface Example {
  readonly command: string;
  readonly says: string;
}

/**
 * All that is known of a command before it is called. Usage, help, documents, completions and man pages come from
 * these records; the code behind is imported only when the command runs.
 */
export interface CommandSpec {
  /** The words that call it: `image verify`. */
  readonly name: string;
  readonly summary: string;
  readonly description?: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options?: readonly OptionSpec[];
  readonly examples: readonly Example[];
  /** Refused at once for anybody but root. */
  readonly needsRoot?: boolean;
  /** Run in a private mount and PID namespace (implies needsRoot); or whether these options make it so. */
  readonly mounts?: boolean | ((options: Call['options']) => boolean);
  /** Run in a private mount namespace, among the processes of this machine (implies needsRoot). */
  readonly privateMounts?: boolean;
  readonly load: () => Promise<{ readonly run: (call: Call) => Promise<CommandResult> }>;
}

/** One call of a command, parsed. */
export interface Call {
  readonly context: Context;
  /** Asks what cannot be undone; false where nobody can be asked. */
  readonly confirm: (question: string) => Promise<boolean>;
  /** The directory given by --site, or the current one; absolute. */
  readonly siteDirectory: string;
  /** Positional arguments in the order of the spec; many in one array. */
  readonly arguments: readonly (string | readonly string[] | undefined)[];
  /** Options by their long name in camel case. */
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
}

/** The positional argument at `index`, which the table says is required. */
export function requiredArgument(call: Call, index: number): string {
  const value = call.arguments[index];
  if (typeof value !== 'string') throw new TypeError(`argument ${index} is not a string`);
  return value;
}

/** The positional argument at `index`, or undefined where it was not given. */
export function optionalArgument(call: Call, index: number): string | undefined {
  const value = call.arguments[index];
  if (value !== undefined && typeof value !== 'string')
    throw new TypeError(`argument ${index} is not a string`);
  return value;
}

/** The value of an option that takes one, or undefined where it was not given. */
export function optionValue(call: Call, name: string): string | undefined {
  const value = call.options[name];
  return typeof value === 'string' ? value : undefined;
}

/** The values of a positional argument that takes many. */
export function manyArguments(call: Call, index: number): readonly string[] {
  const values = call.arguments[index];
  if (values === undefined) return [];
  if (typeof values === 'string') throw new TypeError(`argument ${index} takes one value only`);
  return values;
}

/**
 * A whole number, or undefined where the option was not given.
 * @param name the option's, in camel case
 * @param least 1 unless given
 * @throws ReliveError `usage`
 */
export function numberOption(call: Call, name: string, most: number, least = 1): number | undefined {
  const text = optionValue(call, name);
  if (text === undefined) return undefined;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
  if (value >= least && value <= most) return value;
  const flag = name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new ReliveError('usage', `--${flag} ${text}: a whole number from ${least} to ${most} is wanted`);
}

/** Which of the choices an option names; the table sees to it that it is none else. */
export function choiceOption<T extends string>(
  call: Call,
  name: string,
  choices: readonly T[],
): T | undefined {
  const value = optionValue(call, name);
  return choices.find((one) => one === value);
}
