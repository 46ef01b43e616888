import { readFile } from 'node:fs/promises';
import { rebootByFirmware, rebootByKexec } from '../live/reboot.ts';
import type { CommandResult } from '../report/reporter.ts';
import type { Call } from './command.ts';
import { findStart } from './live-start.ts';

export async function run(call: Call): Promise<CommandResult> {
  const kind = call.options['firmware'] === true ? 'firmware' : 'kexec';
  const { target, expected } = await findStart(call, kind);
  const { image } = target.manifest;
  if (kind === 'firmware') {
    await rebootByFirmware(target, call.context);
    return { ok: true, data: { image, kind, expected }, text: `restarting into ${image}` };
  }
  const commandLine = (await readFile('/proc/cmdline', 'utf8')).trim();
  const plan = await rebootByKexec(target, commandLine, call.context);
  return {
    ok: true,
    data: { image, kind, expected, ...plan },
    text: `restarting into ${image}${plan.trial ? ', on trial' : ''}`,
  };
}
