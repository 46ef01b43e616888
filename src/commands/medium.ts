import { ReliveError } from '../core/error.ts';
import { type Call, optionValue } from './command.ts';

/** Media are mounted by root; without root disk files are made by other means. */
export function asRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** The values of an option, separated by commas; none where it was not given. */
export function listOption(call: Call, name: string): readonly string[] {
  const values = optionValue(call, name)?.split(',') ?? [];
  if (!values.includes('')) return values;
  throw new ReliveError('usage', `--${name} has an empty value`);
}

/** A whole number from 1, or undefined where the option was not given. */
export function countOption(call: Call, name: string): number | undefined {
  const text = optionValue(call, name);
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new ReliveError(
    'usage',
    `--${name} wants a whole number from 1 to 9999, not ${JSON.stringify(text)}`,
  );
}
