import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import {
  Composer,
  Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  type Pair,
  Parser,
} from 'yaml';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Position } from './position.ts';
import type { Checked, Problem } from './problem.ts';

/** The longest file that is read, in bytes; a profile with two thousand packages has a tenth of it. */
export const longestFile = 256 * 1024;
/** The deepest nesting that is read, in the parser's levels (two or so for one of ours; the schemas need four). */
const deepestNesting = 60;
/** So many problems of syntax are shown: the first ones cause the rest. */
const mostSyntaxProblems = 5;

/** A value of a file together with the place it was read from. */
export type Located = LocatedScalar | LocatedList | LocatedMap;

export interface LocatedScalar {
  readonly kind: 'scalar';
  readonly at: Position;
  readonly value: string | number | boolean | null;
}

export interface LocatedList {
  readonly kind: 'list';
  readonly at: Position;
  readonly items: readonly Located[];
}

export interface LocatedMap {
  readonly kind: 'map';
  readonly at: Position;
  readonly entries: ReadonlyMap<string, LocatedEntry>;
}

export interface LocatedEntry {
  readonly keyAt: Position;
  readonly value: Located;
}

/** The value without its places, as JSON has it. */
export function plain(located: Located): unknown {
  if (located.kind === 'scalar') return located.value;
  if (located.kind === 'list') return located.items.map(plain);
  return Object.fromEntries([...located.entries].map(([key, { value }]) => [key, plain(value)]));
}

/** The value below `key`, where `located` is a map that has it. */
export function entry(located: Located | undefined, key: string): Located | undefined {
  return located?.kind === 'map' ? located.entries.get(key)?.value : undefined;
}

/** The value at a path of keys and indices. */
export function valueAt(located: Located, path: readonly PropertyKey[]): Located | undefined {
  let at: Located | undefined = located;
  for (const step of path) {
    if (at?.kind === 'list' && typeof step === 'number') at = at.items[step];
    else at = entry(at, String(step));
  }
  return at;
}

/** The texts of a list with their places; whatever else is in it is left out (the schema refuses that). */
export function textItems(located: Located | undefined): { readonly text: string; readonly at: Position }[] {
  if (located?.kind !== 'list') return [];
  return located.items.flatMap((item) =>
    item.kind === 'scalar' && typeof item.value === 'string' ? [{ text: item.value, at: item.at }] : [],
  );
}

/**
 * Reads a file that a user wrote.
 * @returns its bytes, or undefined where there is no such file
 * @throws ReliveError `configuration` for what is no regular file, is too long or may not be read
 */
async function readBounded(file: string): Promise<Buffer | undefined> {
  try {
    // Opening a FIFO without O_NONBLOCK would wait for a writer.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const status = await handle.stat();
      if (!status.isFile()) throw new ReliveError('configuration', `${file} is not a regular file`);
      const buffer = Buffer.alloc(longestFile + 1);
      let size = 0;
      for (;;) {
        const { bytesRead } = await handle.read(buffer, size, buffer.length - size, null);
        if (bytesRead === 0) return buffer.subarray(0, size);
        size += bytesRead;
        if (size > longestFile) {
          throw new ReliveError('configuration', `${file} is longer than ${longestFile} bytes`);
        }
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = error instanceof ReliveError ? undefined : systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code !== undefined) {
      throw new ReliveError('configuration', `${file} cannot be read (${code})`, { cause: error });
    }
    throw error;
  }
}

/**
 * Reads a YAML file.
 * @returns undefined where there is no such file
 * @throws ReliveError `configuration` for what is no regular file, is too long or may not be read
 */
export async function readYaml(file: string): Promise<Checked<Located> | undefined> {
  const bytes = await readBounded(file);
  return bytes === undefined ? undefined : parseYaml(file, bytes);
}

/** The place of the first byte that is not UTF-8, or undefined. */
function notUtf8(file: string, bytes: Uint8Array): Position | undefined {
  const decoded = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  // The decoder puts U+FFFD where the bytes are wrong: the first character that does not encode to them again.
  const again = new TextEncoder().encode(decoded);
  const differs = bytes.findIndex((byte, index) => byte !== again[index]);
  if (differs === -1) return undefined;
  const before = new TextDecoder().decode(bytes.subarray(0, differs)).split('\n');
  return { file, line: before.length, column: (before.at(-1) ?? '').length + 1 };
}

function refuse(at: Position, text: string, path = ''): Checked<never> {
  return { ok: false, problems: [{ at, path, text }] };
}

/**
 * Reads YAML 1.2 (core schema), of it what a configuration needs: one document of maps with text keys, lists, texts,
 * numbers, booleans. Anchors, aliases, merge keys and tags are refused: they make small files huge and readers unsure,
 * and profiles have `extends`.
 * @param bytes the content; never more than `longestFile`
 */
export function parseYaml(file: string, bytes: Uint8Array): Checked<Located> {
  const start: Position = { file, line: 1, column: 1 };
  const wrong = notUtf8(file, bytes);
  if (wrong !== undefined) return refuse(wrong, 'found a byte that is not UTF-8; save the file as UTF-8');
  const text = new TextDecoder().decode(bytes);

  const lines = new LineCounter();
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  // The composer is recursive: nesting is bounded while the parser, which is not, goes through the tokens.
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  const tokens = [];
  for (const lexeme of new Lexer().lex(text)) {
    for (const token of parser.next(lexeme)) tokens.push(token);
    if (parser.stack.length > deepestNesting) return refuse(at(parser.offset), 'nested too deeply');
  }
  for (const token of parser.end()) tokens.push(token);

  // Repeated keys are found below: the composer's way takes the square of their number.
  const composer = new Composer({
    prettyErrors: false,
    schema: 'core',
    uniqueKeys: false,
    lineCounter: lines,
  });
  const [document, second] = [...composer.compose(tokens, false, text.length)];
  if (!(document instanceof Document)) return refuse(start, 'the file is empty');
  const faults = [...document.errors, ...document.warnings];
  if (faults.length > 0) {
    return {
      ok: false,
      problems: faults
        .slice(0, mostSyntaxProblems)
        .map(({ pos, message }) => ({ at: at(pos[0]), path: '', text: `not valid YAML: ${message}` })),
    };
  }
  if (second !== undefined) {
    return refuse(at(second.range[0]), 'found a second document; one file holds one document');
  }
  const { explicit, version } = document.directives?.yaml ?? {};
  if (explicit === true && version !== '1.2') {
    return refuse(start, `found a directive for YAML ${version}; relive reads YAML 1.2`);
  }
  if (document.contents === null || isEmpty(document.contents)) return refuse(start, 'the file is empty');
  return locate(document.contents, at, '');
}

function isEmpty(node: unknown): boolean {
  return isScalar(node) && node.value === null && (node.source ?? '') === '';
}

type PositionAt = (offset: number) => Position;

/** A node as a located value. */
function locate(node: Node, at: PositionAt, path: string): Checked<Located> {
  const position = at(node.range?.[0] ?? 0);
  if (isAlias(node)) return refuse(position, 'found an alias (*); write the value out, or use extends', path);
  if (node.anchor !== undefined)
    return refuse(position, 'found an anchor (&); aliases are not accepted', path);
  if (node.tag !== undefined)
    return refuse(position, `found the tag ${JSON.stringify(node.tag)}; tags are not accepted`, path);
  if (isScalar(node)) {
    const { value } = node;
    if (
      value === null ||
      typeof value === 'string' ||
      typeof value === 'number' ||
      typeof value === 'boolean'
    ) {
      return { ok: true, value: { kind: 'scalar', at: position, value } };
    }
    return refuse(position, 'found a value which is no text, number or boolean', path);
  }
  if (isSeq<Node>(node)) {
    const items = node.items.map((item, index) => locate(item, at, `${path}[${index}]`));
    const problems = items.flatMap((item) => (item.ok ? [] : item.problems));
    if (problems.length > 0) return { ok: false, problems };
    const values = items.flatMap((item) => (item.ok ? [item.value] : []));
    return { ok: true, value: { kind: 'list', at: position, items: values } };
  }
  if (isMap<Node, Node | null>(node)) return locateMap(node.items, position, at, path);
  return refuse(position, 'found something that is no map, list, text, number or boolean', path);
}

function locateMap(
  pairs: readonly Pair<Node, Node | null>[],
  position: Position,
  at: PositionAt,
  path: string,
): Checked<LocatedMap> {
  const entries = new Map<string, LocatedEntry>();
  const problems: Problem[] = [];
  for (const { key, value } of pairs) {
    const keyAt = at(key.range?.[0] ?? 0);
    if (
      !isScalar(key) ||
      typeof key.value !== 'string' ||
      key.anchor !== undefined ||
      key.tag !== undefined
    ) {
      problems.push({ at: keyAt, path, text: 'found a key that is no plain text' });
      continue;
    }
    const name = key.value;
    const below = path === '' ? name : `${path}.${name}`;
    const before = entries.get(name);
    if (before !== undefined) {
      const text = `found a second time (first in line ${before.keyAt.line}); a key stands once`;
      problems.push({ at: keyAt, path: below, text });
    } else if (name === '__proto__') {
      // An object cannot carry it as plain data: it would vanish before the schema sees it.
      problems.push({ at: keyAt, path: below, text: 'found an unknown key' });
    } else if (value === null) {
      // `? key` and `{key}` without a value.
      entries.set(name, { keyAt, value: { kind: 'scalar', at: keyAt, value: null } });
    } else {
      const located = locate(value, at, below);
      if (located.ok) entries.set(name, { keyAt, value: located.value });
      else problems.push(...located.problems);
    }
  }
  return problems.length > 0
    ? { ok: false, problems }
    : { ok: true, value: { kind: 'map', at: position, entries } };
}
