import { ReliveError } from '../core/error.ts';
import { createKey, publicKeysFile } from '../image/keys.ts';
import { createSecureBootKeys, secureBootDirectory } from '../image/secure-boot-keys.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const user = optionValue(call, 'name') ?? `relive ${site.directory.split('/').at(-1) ?? ''}`;
  const secureBoot = call.options['secureBoot'] === true;
  // Some firmware knows no longer keys; GnuPG's are to last.
  const bits = Number(optionValue(call, 'bits') ?? (secureBoot ? '2048' : '3072'));
  if (bits < 3072 && !secureBoot)
    throw new ReliveError('usage', `--bits ${bits}: images are signed with 3072 or 4096`);
  const replace = call.options['replace'] === true;
  const token = optionValue(call, 'token');
  if (token !== undefined && optionValue(call, 'bits') !== undefined && !secureBoot)
    throw new ReliveError('usage', '--bits: the key on a token is there, and has its length');
  if (secureBoot) {
    const { certificates } = await createSecureBootKeys(site, { user, bits, replace, token }, call.context);
    const directory = secureBootDirectory(site);
    const fingerprints = Object.entries(certificates).map(([name, each]) => [name, each.fingerprint256]);
    return {
      ok: true,
      data: { directory, fingerprints: Object.fromEntries(fingerprints) },
      text: `made PK, KEK and db (${user}), RSA ${bits}, in ${directory}\nrelive keys enroll DIRECTORY writes what firmware needs`,
    };
  }
  const key = await createKey(site, { user, bits, replace, token }, call.context);
  const publicKeys = publicKeysFile(site);
  return {
    ok: true,
    data: { ...key, publicKeys },
    text: `made ${key.fingerprint} (${key.user}), ${token === undefined ? `RSA ${bits}` : 'on the token'}\npublic keys: ${publicKeys}`,
  };
}
