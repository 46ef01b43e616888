import { growMedium } from '../medium/grow.ts';
import { parseSize } from '../medium/layout.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const size = optionValue(call, 'size');
  const bytes = size === undefined ? undefined : parseSize(size, '--size');
  const grown = await growMedium(site, requiredArgument(call, 0), bytes, call.context);
  const { target, storeBefore, store } = grown;
  return {
    ok: true,
    data: { ...grown },
    text:
      store === storeBefore
        ? `${target}: nothing to do, the store has ${formatBytes(store)}`
        : `${target}: the store has ${formatBytes(store)} instead of ${formatBytes(storeBefore)}`,
  };
}
