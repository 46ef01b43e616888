import { listSecretKeys } from '../host/gpg.ts';
import { keysHome } from '../image/keys.ts';
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
  return {
    ok: true,
    data: { keys },
    text: keys.length === 0 ? 'no keys: relive keys create makes one' : formatTable(rows),
  };
}
