import { undoUpdate } from '../live/update.ts';
import type { CommandResult } from '../report/reporter.ts';
import type { Call } from './command.ts';
import { conflictChoice, conflictLines, leaveLines, section, unitLines } from './live-page.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { from, to, changes, conflicts, units, failed } = await undoUpdate(
    conflictChoice(call),
    call.context,
  );
  return {
    ok: failed.length === 0,
    data: { from: to, to: from, changes: changes.length, conflicts, units, failed },
    text: [
      `${to} -> ${from}: ${changes.length} entries as they were before`,
      ...section('services', unitLines(units)),
      ...section('to be started anew by you, or by a restart', leaveLines(units)),
      ...section('changed by hand since', conflictLines(conflicts)),
      ...section('failed', failed),
    ].join('\n'),
  };
}
