import { createKey, publicKeysFile } from '../image/keys.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const user = optionValue(call, 'name') ?? `relive ${site.directory.split('/').at(-1) ?? ''}`;
  const bits = Number(optionValue(call, 'bits'));
  const key = await createKey(site, { user, bits, replace: call.options['replace'] === true }, call.context);
  const publicKeys = publicKeysFile(site);
  return {
    ok: true,
    data: { ...key, publicKeys },
    text: `made ${key.fingerprint} (${key.user}), RSA ${bits}\npublic keys: ${publicKeys}`,
  };
}
