import type { CommandResult } from '../report/reporter.ts';
import type { Call } from './command.ts';
import { setPin } from './image-pin.ts';

export async function run(call: Call): Promise<CommandResult> {
  return await setPin(call, false);
}
