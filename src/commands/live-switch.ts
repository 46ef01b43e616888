import { livePlaces } from '../live/running.ts';
import { switchTo } from '../live/switch.ts';
import { withLock } from '../live/update.ts';
import type { CommandResult } from '../report/reporter.ts';
import type { Call } from './command.ts';
import { findStart } from './live-start.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const kind = 'switch';
  const { running, target, expected } = await findStart(call, kind);
  const { image } = target.manifest;
  const asDefault = call.options['default'] === true;
  const next = await withLock(
    livePlaces,
    context,
    async () => await switchTo(target, running, asDefault, context),
  );
  return {
    ok: true,
    data: { image, kind, expected, next },
    text: `switching to ${image}; a restart is into ${next}`,
  };
}
