import { z } from 'zod';
import { withoutPasswords } from '../core/error.ts';
import { nearest } from './nearest.ts';
import type { Position } from './position.ts';
import type { Checked, Problem } from './problem.ts';
import { type Located, plain, valueAt } from './yaml.ts';

/** As much of a value as a message shows. */
const longestShown = 60;

/** What zod calls the types of JSON, in the words of an administrator. */
const typeNames: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map',
  record: 'a map',
};

/** YAML 1.1 took these for booleans; YAML 1.2 does not. */
const formerBooleans: Readonly<Record<string, string>> = {
  yes: 'true',
  on: 'true',
  y: 'true',
  no: 'false',
  off: 'false',
  n: 'false',
};

/** `users[0].name`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    return text === '' ? String(step) : `${text}.${String(step)}`;
  }, '');
}

/** What was found, in words. A password is never repeated: somebody may have written the real one. */
function found(located: Located | undefined, path: readonly PropertyKey[]): string {
  if (located === undefined) return 'is missing';
  if (located.kind !== 'scalar') return located.kind === 'list' ? 'found a list' : 'found a map';
  const { value } = located;
  if (value === null) return 'found nothing';
  if (path.at(-1) === 'password') return 'found something else';
  if (typeof value !== 'string') return `found the ${typeof value} ${String(value)}`;
  const known = withoutPasswords(value);
  const shown = known.length > longestShown ? `${known.slice(0, longestShown)}...` : known;
  return `found ${JSON.stringify(shown)}`;
}

/** The schema of the value at `path`, with what makes it optional taken off. */
function schemaAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): z.core.$ZodType | undefined {
  let at: z.core.$ZodType | undefined = schema;
  for (const step of [...path, undefined]) {
    while (at instanceof z.ZodOptional || at instanceof z.ZodDefault || at instanceof z.ZodPrefault) {
      at = at.unwrap();
    }
    if (step === undefined) return at;
    if (at instanceof z.ZodObject) at = (at.shape as Record<string, z.core.$ZodType>)[String(step)];
    else if (at instanceof z.ZodRecord) at = at.valueType;
    else if (at instanceof z.ZodArray) at = at.element;
    else return undefined;
  }
  return at;
}

/** Where a key stands, or the value that misses it. */
function positionAt(located: Located, path: readonly PropertyKey[], ofKey: boolean): Position {
  const parent = valueAt(located, path.slice(0, -1));
  const last = path.at(-1);
  if (parent?.kind === 'map' && last !== undefined) {
    const entry = parent.entries.get(String(last));
    if (entry !== undefined) return ofKey ? entry.keyAt : entry.value.at;
  }
  for (let length = path.length; length >= 0; length -= 1) {
    const value = valueAt(located, path.slice(0, length));
    if (value !== undefined) return value.at;
  }
  return located.at;
}

type Issue = z.core.$ZodIssue;

/** The issues of the alternative of a union which the value was meant for: the one whose type it has. */
function meantIssues(issue: z.core.$ZodIssueInvalidUnion): readonly Issue[] {
  const ofRightType = issue.errors.find((list) => {
    return list.length > 0 && !list.some(({ code, path }) => code === 'invalid_type' && path.length === 0);
  });
  return ofRightType ?? [];
}

function listed(values: readonly unknown[]): string {
  return values.map(String).join(', ');
}

function problemsOf(
  issue: Issue,
  located: Located,
  schema: z.core.$ZodType,
  candidates: (path: readonly PropertyKey[]) => readonly string[],
  before: readonly PropertyKey[] = [],
): Problem[] {
  const path = [...before, ...issue.path];
  const value = valueAt(located, path);
  const text = value?.kind === 'scalar' && typeof value.value === 'string' ? value.value : undefined;
  const here = {
    at: positionAt(located, path, false),
    path: formatPath(path),
  };
  const say = (allowed: string, suggestion?: string): Problem[] => [
    { ...here, text: `${found(value, path)}; allowed: ${allowed}`, suggestion },
  ];
  switch (issue.code) {
    case 'unrecognized_keys': {
      const object = schemaAt(schema, path);
      const known = object instanceof z.ZodObject ? Object.keys(object.shape) : [];
      return issue.keys.map((key) => ({
        at: positionAt(located, [...path, key], true),
        path: formatPath([...path, key]),
        text: `found an unknown key; allowed: ${listed(known)}`,
        suggestion: nearest(key, known),
      }));
    }
    case 'invalid_value': {
      const suggestion = text === undefined ? undefined : nearest(text, issue.values.map(String));
      const unquoted = issue.values.some(
        (allowed) => typeof allowed !== 'string' && String(allowed) === text,
      );
      return say(listed(issue.values), unquoted ? `${String(text)} without quotes` : suggestion);
    }
    case 'invalid_type': {
      const allowed = typeNames[issue.expected] ?? issue.expected;
      if (issue.expected === 'boolean' && text !== undefined) {
        return say(allowed, formerBooleans[text.toLowerCase()] ?? nearest(text, ['true', 'false']));
      }
      if ((issue.expected === 'number' || issue.expected === 'int') && text !== undefined) {
        return say(allowed, /^[0-9]+$/.test(text) ? `${text} without quotes` : undefined);
      }
      const quote = issue.expected === 'string' && value?.kind === 'scalar' && value.value !== null;
      return say(
        allowed,
        quote && path.at(-1) !== 'password' ? `"${String(value.value)}" in quotes` : undefined,
      );
    }
    case 'invalid_union': {
      const meant = meantIssues(issue);
      if (meant.length > 0) {
        return meant.flatMap((inner) => problemsOf(inner, located, schema, candidates, path));
      }
      return say('a text or a list of texts');
    }
    case 'invalid_key': {
      const key = String(path.at(-1));
      const allowed = issue.issues[0]?.message ?? 'another name';
      return [
        {
          at: positionAt(located, path, true),
          path: here.path,
          text: `found ${JSON.stringify(key)}; allowed: ${allowed}`,
        },
      ];
    }
    case 'too_small':
    case 'too_big':
      // zod's own bounds of whole numbers have a message that is not ours.
      return say(/^(Too|Invalid)/.test(issue.message) ? 'a smaller number' : issue.message);
    case 'invalid_format':
    case 'invalid_element':
    case 'not_multiple_of':
    case 'custom':
      break;
  }
  return say(issue.message, text === undefined ? undefined : nearest(text, candidates(path)));
}

/**
 * Checks a located value against a schema.
 * @param candidates the right spellings that a refused text at a path may mean
 * @returns what the schema makes of the value, or a problem for each thing in it that is wrong
 */
export function validate<Schema extends z.ZodType>(
  schema: Schema,
  located: Located,
  candidates: (path: readonly PropertyKey[]) => readonly string[] = () => [],
): Checked<z.output<Schema>> {
  const result = schema.safeParse(plain(located));
  if (result.success) return { ok: true, value: result.data };
  const problems = result.error.issues.flatMap((issue) => problemsOf(issue, located, schema, candidates));
  // One value may fail several checks; the first says enough.
  const first = new Map(problems.toReversed().map((problem) => [problem.path, problem]));
  return { ok: false, problems: problems.filter((problem) => first.get(problem.path) === problem) };
}
