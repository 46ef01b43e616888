import { ReliveError } from '../core/error.ts';
import type { Finding, FindingKind } from '../core/event.ts';
import { formatPosition, type Position } from './position.ts';

/** So many problems are shown in one error. */
const mostShown = 100;

/** One thing that is wrong in a file which the user wrote. */
export interface Problem {
  readonly at: Position;
  /** The key it is about: `users[0].name`; empty for the file as a whole. */
  readonly path: string;
  /** What was found and what is allowed. */
  readonly text: string;
  /** The nearest right spelling, where one is near. */
  readonly suggestion?: string | undefined;
}

/** A value, or all that is wrong with it. */
export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly Problem[] };

function details({ path, text, suggestion }: Problem): string {
  const where = path === '' ? '' : `${path}: `;
  return `${where}${text}${suggestion === undefined ? '' : `; did you mean ${suggestion}?`}`;
}

/** `file:line:column: path: what was found, what is allowed, did you mean X?` */
export function formatProblem(problem: Problem): string {
  return `${formatPosition(problem.at)}: ${details(problem)}`;
}

/** The same problem as a finding of a check. */
export function findingOf(problem: Problem, kind: FindingKind = 'unsuitable'): Finding {
  return {
    event: 'finding',
    kind,
    path: formatPosition(problem.at),
    detail: details(problem),
  };
}

/** Every problem once, in the order of files and lines. */
export function sortedProblems(problems: readonly Problem[]): Problem[] {
  const byText = new Map(problems.map((problem) => [formatProblem(problem), problem]));
  return [...byText.values()].toSorted(
    (a, b) =>
      (a.at.file < b.at.file ? -1 : a.at.file > b.at.file ? 1 : 0) ||
      a.at.line - b.at.line ||
      a.at.column - b.at.column,
  );
}

/** All problems as one error, one a line. */
export function problemsError(problems: readonly Problem[]): ReliveError {
  const lines = sortedProblems(problems).map(formatProblem);
  const more = lines.length > mostShown ? [`and ${lines.length - mostShown} more`] : [];
  return new ReliveError('configuration', [...lines.slice(0, mostShown), ...more].join('\n'));
}

/** The value, or the error with all its problems. */
export function valueOrThrow<T>(checked: Checked<T>): T {
  if (checked.ok) return checked.value;
  throw problemsError(checked.problems);
}
