import { applyUpdate } from '../live/update.ts';
import type { CommandResult } from '../report/reporter.ts';
import { type Call, optionalArgument, optionValue } from './command.ts';
import { conflictChoice, conflictLines, leaveLines, leftLines, section, unitLines } from './live-page.ts';
import { run as plan } from './live-plan.ts';

export async function run(call: Call): Promise<CommandResult> {
  if (call.options['plan'] === true) return await plan(call);
  const options = {
    image: optionalArgument(call, 0),
    store: optionValue(call, 'store'),
    conflicts: conflictChoice(call),
    asDefault: call.options['default'] === true,
  };
  const { from, to, resumed, done, failed, next, plan: made } = await applyUpdate(options, call.context);
  const { changes, conflicts, left, units } = done;
  const wanted = made === undefined ? [] : [`for all of it to be in force: ${made.disturbance}`];
  return {
    ok: failed.length === 0,
    data: {
      ...{ from, to, resumed, changes: changes.length, conflicts, left, units, failed, next },
      ...(made === undefined ? {} : { disturbance: made.disturbance, demands: made.demands }),
    },
    text: [
      `${from} -> ${to}: ${changes.length} entries changed${resumed ? ', going on where it was cut off' : ''}`,
      ...section('services', unitLines(units)),
      ...section('to be started anew by you, or by a restart', leaveLines(units)),
      ...section('changed by hand', conflictLines(conflicts)),
      ...section('not touched', leftLines(left)),
      ...section('failed', failed),
      ...wanted,
      `relive live undo takes it back; a restart is into ${next}`,
    ].join('\n'),
  };
}
