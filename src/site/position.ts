import { relative } from 'node:path';

/** A place in a file: absolute path, line and column from 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** A path as a user at `directory` would type it: relative below that directory, else absolute. */
export function shortPath(file: string, directory = process.cwd()): string {
  const path = relative(directory, file);
  return path === '' || path === '..' || path.startsWith('../') ? file : path;
}

/** `file:line:column`, which editors and terminals make a link of; the column left out where `line` only is wanted. */
export function formatPosition(position: Position, precision: 'column' | 'line' = 'column'): string {
  const place = `${shortPath(position.file)}:${position.line}`;
  return precision === 'line' ? place : `${place}:${position.column}`;
}
