import { ReliveError } from '../core/error.ts';
import type { Journal } from '../live/journal.ts';
import type { ConflictChoice } from '../live/transition.ts';
import type { UpdatePlan } from '../live/update.ts';
import { formatBytes, printableLine } from '../report/format.ts';
import type { Call } from './command.ts';

/** The bytes of a path as text for people. */
function shownPath(path: string): string {
  return printableLine(`/${Buffer.from(path, 'latin1').toString('utf8')}`);
}

export function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`${title}:`, ...lines.map((line) => `  ${line}`)];
}

/** What to do about entries that were changed by hand, by the options. @throws ReliveError `usage` */
export function conflictChoice(call: Call): ConflictChoice {
  const [theirs, ours] = [call.options['theirs'] === true, call.options['ours'] === true];
  if (theirs && ours) {
    throw new ReliveError('usage', '--theirs and --ours exclude each other', {
      hint: "--theirs takes the image's files, --ours keeps yours; neither keeps yours and puts the image's beside",
    });
  }
  return theirs ? 'theirs' : ours ? 'ours' : 'beside';
}

export function conflictLines(conflicts: Journal['conflicts']): string[] {
  return conflicts.map(({ path, why, beside }) => {
    const where = beside === undefined ? '' : `; the image's is ${shownPath(beside)}`;
    return `${shownPath(path)}: kept: ${why}${where}`;
  });
}

/** What was not touched, each reason with how many paths have it. */
export function leftLines(left: Journal['left']): string[] {
  const reasons = new Map<string, string[]>();
  for (const { path, why } of left) reasons.set(why, [...(reasons.get(why) ?? []), path]);
  return [...reasons].map(([why, paths]) => {
    const [first = ''] = paths;
    return `${shownPath(first)}${paths.length === 1 ? '' : ` and ${paths.length - 1} more`}: ${why}`;
  });
}

export function unitLines({ stop, restart, start }: Omit<Journal['units'], 'leave'>): string[] {
  return [
    ...stop.map(({ unit, why }) => `stop ${unit}: ${why}`),
    ...restart.map(({ unit, why }) => `restart ${unit}: ${why}`),
    ...start.map(({ unit, why }) => `start ${unit}: ${why}`),
  ].map(printableLine);
}

export function leaveLines({ leave }: Pick<Journal['units'], 'leave'>): string[] {
  return leave.map(({ unit, why }) => printableLine(`${unit}: ${why}`));
}

/** A plan for people. */
export function planText(plan: UpdatePlan, all: boolean): string {
  const { transition, units, packages, demands } = plan;
  const { changes, conflicts, left } = transition;
  const written = changes.filter(({ after }) => after !== null);
  const applied = plan.from === plan.booted ? '' : ` (booted: ${plan.booted})`;
  return [
    `${plan.from} -> ${plan.to}${applied}`,
    `${written.length} entries to write, ${changes.length - written.length} to remove; ${formatBytes(plan.memory)} of RAM; ${formatBytes(plan.read)} read from ${plan.store}`,
    ...section(
      'packages',
      packages.map(({ kind, name, from, to }) =>
        [kind, name, ...(from === undefined ? [] : [from]), ...(to === undefined ? [] : ['->', to])].join(
          ' ',
        ),
      ),
    ),
    ...(all
      ? section(
          'entries, in order',
          changes.map(({ path, after }) => `${after === null ? '-' : '*'} ${shownPath(path)}`),
        )
      : []),
    ...section('services', unitLines(units)),
    ...section('to be started anew by you, or by a restart', leaveLines(units)),
    ...section('changed by hand', conflictLines(conflicts)),
    ...section('not touched', leftLines(left)),
    `for all of it to be in force: ${plan.disturbance}`,
    ...demands
      .filter(({ disturbance }) => disturbance === plan.disturbance)
      .map(({ why }) => printableLine(`  ${why}`)),
  ].join('\n');
}

/** A plan for programs. */
export function planData(plan: UpdatePlan): Record<string, unknown> {
  const { transition, ...rest } = plan;
  return {
    ...rest,
    changes: transition.changes.map(({ path, before, after }) => ({
      path: `/${Buffer.from(path, 'latin1').toString('utf8')}`,
      kind: before === null ? 'added' : after === null ? 'removed' : 'changed',
    })),
    conflicts: transition.conflicts,
    left: transition.left,
  };
}
