import { planUpdate } from '../live/update.ts';
import type { CommandResult } from '../report/reporter.ts';
import { type Call, optionalArgument, optionValue } from './command.ts';
import { conflictChoice, planData, planText } from './live-page.ts';

export async function run(call: Call): Promise<CommandResult> {
  const options = {
    image: optionalArgument(call, 0),
    store: optionValue(call, 'store'),
    conflicts: conflictChoice(call),
  };
  const plan = await planUpdate(options, call.context);
  return { ok: true, data: planData(plan), text: planText(plan, call.options['all'] === true) };
}
