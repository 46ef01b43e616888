import { lockedFiles } from '../mirror/closure.ts';
import { repairRepository } from '../mirror/repair.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { counted, repositoriesOf } from './mirror.ts';
import { summaryLine, verifyOptions } from './mirror-verify.ts';

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const done = [];
  for (const repository of repositoriesOf(site, manyArguments(call, 0))) {
    const options = {
      ...verifyOptions(call),
      keyring: repository.signedBy,
      fingerprints: repository.fingerprints,
    };
    const repaired = await repairRepository(
      site.mirror,
      repository,
      options,
      await lockedFiles(site.directory, repository.name),
      call.context,
    );
    done.push({ name: repository.name, ...repaired });
  }
  const lines: string[] = [];
  for (const { name, before, after, mended, quarantine } of done) {
    lines.push(
      before.wrong === 0
        ? `${name}: nothing to repair`
        : `${name}: ${counted(before.wrong, 'finding')} before, ${mended} mended`,
    );
    if (quarantine !== undefined) lines.push(`${name}: the damaged files are in ${quarantine}`);
    lines.push(summaryLine(name, after));
  }
  const wrong = done.reduce((sum, { after }) => sum + after.wrong, 0);
  return {
    ok: wrong === 0,
    data: { repositories: done, findings: wrong },
    text: lines.join('\n'),
  };
}
