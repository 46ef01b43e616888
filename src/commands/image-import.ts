import { resolve } from 'node:path';
import { openBundle } from '../image/bundle-head.ts';
import { importBundle, planImport } from '../image/bundle-import.ts';
import type { ImportPlan } from '../image/bundle-plan.ts';
import { trustedKeys } from '../image/keys.ts';
import { formatBytes, formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite, type Site } from '../site/site.ts';
import { type Call, optionValue, requiredArgument } from './command.ts';

const sources = {
  store: 'in the store already',
  received: 'received before',
  bundle: 'from the bundle',
  patch: 'from the bundle, as a patch',
} as const;

function planText(plan: ImportPlan): string {
  const standing =
    plan.standing === 'there'
      ? 'is in the store already'
      : `${plan.standing === 'damaged' ? 'is damaged in the store, which would be mended' : 'is new'}: ${formatBytes(plan.bytes)} to write`;
  const rows = plan.layers.map(({ digest, role, size, from }) => [
    digest.slice(0, 16),
    role,
    formatBytes(size),
    sources[from],
  ]);
  return `${plan.image}, ${plan.kind}, ${standing}\n${formatTable([['LAYER', 'ROLE', 'SIZE', ''], ...rows])}`;
}

/** Whose images are taken: the site's own, unless a keyring is named. */
async function trusted(site: Site, keyring: string | undefined) {
  if (keyring === undefined) return { keyring: await trustedKeys(site) };
  const own = await trustedKeys(site).catch(() => undefined);
  return { keyring: resolve(keyring), own };
}

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const site = await loadSite(call.siteDirectory);
  const options = await trusted(site, optionValue(call, 'keyring'));
  const source = await openBundle(requiredArgument(call, 0), context);
  try {
    if (call.options['plan'] === true) {
      const plan = await planImport(site.store, source, options, context);
      return { ok: true, data: { plan }, text: planText(plan) };
    }
    const imported = await importBundle(site.store, source, options, context);
    const { image, directory, unchanged, bytes } = imported;
    return {
      ok: true,
      data: { ...imported },
      text: unchanged
        ? `${image} is in the store already: ${directory}`
        : `${image}: ${formatBytes(bytes)} written\n${directory}`,
    };
  } finally {
    source.close();
  }
}
