import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseStanzas } from '../../../src/debian/control.ts';
import { startCommand } from '../../fixtures/command.ts';
import { allProcesses, leftOf, namespaceOf } from '../../fixtures/processes.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;

beforeAll(async () => {
  site = await freshSite({ cache: true });
});
afterAll(() => removeSite(site));

const daemons = ['cron', 'nginx', 'sshd'];

test('in a system that is built no service starts, and it gets no ssh host keys', async () => {
  const file = join(site.directory, 'profiles/demo.yaml');
  writeFileSync(
    file,
    readFileSync(file, 'utf8').replace(
      '  - nano\n',
      '  - nano\n  - cron\n  - nginx-light\n  - openssh-server\n',
    ),
  );
  const build = startCommand(['build', 'demo'], { site: site.directory });
  const started = await build.line(({ stage, state }) => stage === 'packages' && state === 'start');
  expect(started).toBeDefined();
  const namespace = namespaceOf(build.child.pid ?? 0) ?? 'none';
  const ran = new Set<string>();
  const look = setInterval(() => {
    for (const { namespace: its, name, command } of allProcesses()) {
      if (its !== namespace) continue;
      // The package asks for settings: that prints them and ends.
      if (name === 'sshd' && command.split(' ').includes('-G')) continue;
      ran.add(name);
    }
  }, 50);
  const next = await build.line(({ stage, state }) => stage === 'files' && state === 'start');
  clearInterval(look);
  // The rest of the build is no matter here; what is left now would be left then.
  const after = allProcesses().filter((each) => each.namespace === namespace);
  build.child.kill('SIGINT');
  const { status, last } = await build.ended;
  expect({ status, last }).toMatchObject({ status: 130, last: { code: 'interrupted' } });
  expect(next).toBeDefined();

  // That we looked at the right processes.
  expect([...ran]).toEqual(expect.arrayContaining(['apt-get', 'dpkg']));
  expect(daemons.filter((name) => ran.has(name))).toEqual([]);
  expect(after.filter(({ command }) => !command.includes('relive') && !command.includes('cli.cjs'))).toEqual(
    [],
  );
  expect(await leftOf(site.directory, new Set([namespace]))).toEqual([]);

  const stages = join(site.cache, 'stages');
  const layers = readdirSync(stages).filter((name) => /^packages-[0-9a-f]+$/.test(name));
  const trees = layers
    .map((name) => join(stages, name, 'tree'))
    .filter((tree) => readdirSync(join(tree, 'etc')).includes('nginx'));
  expect(trees).toHaveLength(1);
  const [tree = ''] = trees;
  const installed = parseStanzas(readFileSync(join(tree, 'var/lib/dpkg/status')), 'status');
  const states = new Map(installed.map((stanza) => [stanza.get('package'), stanza.get('status')]));
  for (const name of ['cron', 'nginx-light', 'openssh-server'])
    expect(states.get(name)).toBe('install ok installed');
  expect(readdirSync(join(tree, 'etc/ssh')).filter((name) => name.startsWith('ssh_host_'))).toEqual([]);
  expect(readdirSync(join(tree, 'usr/sbin'))).not.toContain('policy-rc.d');
  // They start in the finished system.
  expect(readdirSync(join(tree, 'etc/systemd/system/multi-user.target.wants'))).toEqual(
    expect.arrayContaining(['cron.service', 'nginx.service', 'ssh.service']),
  );
});
