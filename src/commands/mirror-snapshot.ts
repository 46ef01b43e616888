import { ReliveError } from '../core/error.ts';
import { createSnapshot, diffSnapshots, listSnapshots, removeSnapshot } from '../mirror/snapshot.ts';
import { formatTable } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite, type Site } from '../site/site.ts';
import { type Call, manyArguments, optionalArgument, requiredArgument } from './command.ts';
import { counted, repositoriesOf, repositoryOf } from './mirror.ts';

function needs(what: string, example: string): ReliveError {
  return new ReliveError('usage', `relive mirror snapshot: ${what}`, {
    hint: `example: relive mirror snapshot ${example}`,
  });
}

async function create(call: Call, site: Site, name: string, ids: readonly string[]): Promise<CommandResult> {
  if (ids.length > 1) throw needs('one name at most', 'create debian before-upgrade');
  const repository = repositoryOf(site, name);
  const snapshot = await createSnapshot(site.mirror, repository, ids[0], call.context);
  return {
    ok: true,
    data: { repository: name, snapshot },
    text: `${name}: the snapshot ${snapshot.id} of ${snapshot.suites.map(({ suite }) => suite).join(', ')}`,
  };
}

async function list(site: Site, name: string | undefined): Promise<CommandResult> {
  const repositories = [];
  for (const repository of repositoriesOf(site, name === undefined ? [] : [name])) {
    repositories.push({ name: repository.name, snapshots: await listSnapshots(site.mirror, repository) });
  }
  const rows = repositories.flatMap(({ name: repository, snapshots }) =>
    snapshots.map(({ id, created, suites }) => [
      repository,
      id,
      created.replace(/\.\d+Z$/, 'Z'),
      suites.map(({ suite, date }) => `${suite} of ${date.slice(0, 10)}`).join(', '),
    ]),
  );
  return {
    ok: true,
    data: { repositories },
    text:
      rows.length === 0
        ? 'There are no snapshots.'
        : formatTable([['REPOSITORY', 'SNAPSHOT', 'CREATED', 'SUITES'], ...rows]),
  };
}

async function remove(call: Call, site: Site, name: string, ids: readonly string[]): Promise<CommandResult> {
  if (ids.length === 0) throw needs('which snapshot?', 'remove debian before-upgrade');
  for (const id of ids) await removeSnapshot(site.mirror, repositoryOf(site, name), id, call.context);
  return {
    ok: true,
    data: { repository: name, removed: ids },
    text: `${name}: ${counted(ids.length, 'snapshot')} removed; relive mirror prune frees what only they needed`,
  };
}

async function diff(call: Call, site: Site, name: string, ids: readonly string[]): Promise<CommandResult> {
  const [from, to = 'current', ...more] = ids;
  if (from === undefined || more.length > 0)
    throw needs('one or two snapshots', 'diff debian before-upgrade current');
  const changes = await diffSnapshots(site.mirror, repositoryOf(site, name), [from, to], call.context);
  const rows = changes.map((change) => [
    change.kind,
    change.package,
    change.architecture,
    change.suite,
    change.before.join(' ') || '-',
    change.after.join(' ') || '-',
  ]);
  return {
    ok: changes.length === 0,
    data: { repository: name, from, to, changes },
    text:
      rows.length === 0
        ? `${name}: ${from} and ${to} have the same packages`
        : formatTable([['CHANGE', 'PACKAGE', 'ARCH', 'SUITE', 'BEFORE', 'AFTER'], ...rows]),
  };
}

export async function run(call: Call): Promise<CommandResult> {
  const action = requiredArgument(call, 0);
  const name = optionalArgument(call, 1);
  const ids = manyArguments(call, 2);
  const site = await loadSite(call.siteDirectory);
  if (action === 'list') return await list(site, name);
  if (!['create', 'remove', 'diff'].includes(action)) {
    throw new ReliveError('usage', `${JSON.stringify(action)} cannot be done with snapshots`, {
      hint: 'create, list, remove or diff',
    });
  }
  if (name === undefined) throw needs('of which repository?', `${action} debian`);
  if (action === 'create') return await create(call, site, name, ids);
  return action === 'remove' ? await remove(call, site, name, ids) : await diff(call, site, name, ids);
}
