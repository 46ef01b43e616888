import { entryExists } from '../host/files.ts';
import { listSecretKeys } from '../host/gpg.ts';
import { keysHome } from '../image/keys.ts';
import { secureBootCertificates, secureBootDirectory } from '../image/secure-boot-keys.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import type { Call } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const keys = await listSecretKeys(keysHome(site), call.context);
  const rows = keys.map(({ fingerprint, created, user }, index) => [
    index === 0 ? 'signs' : '',
    fingerprint,
    new Date(created * 1000).toISOString().slice(0, 10),
    user,
  ]);
  const secureBoot = (await entryExists(secureBootDirectory(site)))
    ? Object.entries((await secureBootCertificates(site)).certificates).map(([name, { fingerprint256 }]) => ({
        name,
        fingerprint: fingerprint256.replaceAll(':', ''),
      }))
    : [];
  const text = [
    keys.length === 0 ? 'no keys: relive keys create makes one' : formatTable(rows),
    ...(secureBoot.length === 0
      ? []
      : ['Secure Boot:', formatTable(secureBoot.map(({ name, fingerprint }) => [name, fingerprint]))]),
  ];
  return { ok: true, data: { keys, secureBoot }, text: text.join('\n') };
}
