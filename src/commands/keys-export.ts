import { writeFileAtomic } from '../host/files.ts';
import { dearmour } from '../host/gpgv.ts';
import { publicKeysFile, trustedKeys } from '../image/keys.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionalArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const armoured = await trustedKeys(site);
  const file = optionalArgument(call, 0);
  if (file === undefined) return { ok: true, data: { keys: armoured }, text: armoured };
  await writeFileAtomic(
    file,
    call.options['binary'] === true ? dearmour(armoured, publicKeysFile(site)) : armoured,
  );
  return { ok: true, data: { file }, text: `the public keys are in ${file}` };
}
