import { resolve } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { trustedKeys } from '../image/keys.ts';
import { findImage } from '../image/store.ts';
import { chooseOnce } from '../medium/environment.ts';
import { grubChecks } from '../medium/grub.ts';
import { menuOf } from '../medium/menu.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionalArgument, optionValue } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const site = await loadSite(call.siteDirectory);
  const place = optionalArgument(call, 0);
  const store = place === undefined ? site.store : resolve(place);
  const wanted = optionValue(call, 'check') ?? 'signature';
  const check = grubChecks.find((each) => each === wanted);
  if (check === undefined) {
    throw new ReliveError('usage', `--check takes one of ${grubChecks.join(', ')}, not ${wanted}`);
  }
  const next = optionValue(call, 'next');
  if (next !== undefined) await chooseOnce(store, (await findImage(store, next)).name);
  const keyring = check === 'signature' ? await trustedKeys(site) : '';
  const { entries, notes } = await menuOf(store, { check, keyring }, context);
  const refused = entries.filter((entry) => entry.refused !== undefined);
  const lines = entries.map((entry) => `${entry.default ? '*' : ' '} ${entry.title}`);
  return {
    ok: refused.length === 0,
    data: { store, entries, notes },
    text: [...notes, ...lines].join('\n') || `${store} holds nothing that a menu could offer`,
  };
}
