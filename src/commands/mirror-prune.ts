import { ReliveError } from '../core/error.ts';
import { lockedFiles } from '../mirror/closure.ts';
import { pruneRepository } from '../mirror/prune.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments, optionValue } from './command.ts';
import { counted, repositoriesOf } from './mirror.ts';

function numberOf(call: Call, name: string, largest: number): number | undefined {
  const text = optionValue(call, name);
  if (text === undefined) return undefined;
  const value = Number(/^\d{1,4}$/.exec(text)?.[0] ?? Number.NaN);
  if (value <= largest) return value;
  throw new ReliveError(
    'usage',
    `--${name} wants a whole number from 0 to ${largest}, not ${JSON.stringify(text)}`,
  );
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const dryRun = call.options['dryRun'] === true;
  const graceDays = numberOf(call, 'grace', 3650);
  const limit = numberOf(call, 'limit', 100);
  const done = [];
  for (const repository of repositoriesOf(site, manyArguments(call, 0))) {
    const locked = await lockedFiles(site.directory, repository.name);
    const options = {
      graceDays,
      limit,
      dryRun,
      locked: locked.map(({ path }) => path),
      confirm: call.confirm,
    };
    const pruned = await pruneRepository(site.mirror, repository, options, call.context);
    done.push({ name: repository.name, ...pruned });
  }
  const lines: string[] = [];
  for (const { name, removed, bytes, waiting, kept } of done) {
    if (dryRun) for (const path of removed) lines.push(`${name}/${path}`);
    lines.push(
      `${name}: ${counted(removed.length, 'file')} (${formatBytes(bytes)}) ${dryRun ? 'would be removed' : 'removed'}, ${waiting} in their grace period, ${kept} kept`,
    );
  }
  return {
    ok: true,
    data: { repositories: done, dryRun },
    text: lines.join('\n'),
  };
}
