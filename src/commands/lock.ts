import { tmpdir } from 'node:os';
import { withScratchDirectory } from '../host/anonymous.ts';
import { lockProfile } from '../image/lock.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { compareLocks, type LockChanges, lockFile, type PackageVersion } from '../site/lock.ts';
import { listProfiles, loadProfile } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';

/** One line for each package that comes, goes or changes. */
export function changesText({ added, removed, changed }: LockChanges<PackageVersion>): string {
  return formatTable([
    ...added.map(({ name, version, why }) => ['+', name, version, `(${why})`]),
    ...removed.map(({ name, version }) => ['-', name, version, '']),
    ...changed.map(({ from, to }) => ['~', to.name, `${from.version} -> ${to.version}`, '']),
  ]);
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const named = manyArguments(call, 0);
  const complete = named.length > 0 ? [] : (await listProfiles(site)).filter((each) => each.complete);
  const profiles: Record<string, object> = {};
  const lines: string[] = [];
  await withScratchDirectory(tmpdir(), async (scratch) => {
    for (const name of named.length > 0 ? named : complete.map((each) => each.name)) {
      const profile = await loadProfile(site, name);
      const options = { offline: call.options['offline'] === true, scratch };
      const { before, lock } = await lockProfile(site, profile, options, call.context);
      const changes = compareLocks(before, lock);
      const count = changes.added.length + changes.removed.length + changes.changed.length;
      const file = lockFile(site, profile);
      profiles[name] = { file, packages: lock.packages.length, ...changes };
      lines.push(
        `${name}: ${lock.packages.length} packages, ${count === 0 ? 'nothing changed' : `${count} changed`}`,
      );
      if (count > 0) lines.push(before === undefined ? `  all of them new: ${file}` : changesText(changes));
    }
  });
  return { ok: true, data: { profiles }, text: lines.join('\n') };
}
