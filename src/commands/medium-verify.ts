import { verifyMedium } from '../medium/verify.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, requiredArgument } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const { target, findings, images } = await verifyMedium(site, requiredArgument(call, 0), call.context);
  const lines = Object.entries(images).map(
    ([name, count]) => `${name}: ${count === 0 ? 'ok' : `${count} found`}`,
  );
  const summary = findings.length === 0 ? 'ok' : `${findings.length} found`;
  return {
    ok: findings.length === 0,
    data: { target, images, findings: findings.length },
    text: [...lines, `${target}: ${summary}`].join('\n'),
  };
}
