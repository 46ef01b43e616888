import { execFileSync } from 'node:child_process';
import { chownSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Line, runCommand } from '../../fixtures/command.ts';
import { throughNobody } from '../../fixtures/nobody.ts';
import { builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;

beforeAll(async () => {
  const built = await builtSite();
  site = await freshSite();
  cpSync(join(built.directory, 'locks'), join(site.directory, 'locks'), { recursive: true });
});
afterAll(() => removeSite(site));

async function check(name: string): Promise<{
  readonly status: number;
  readonly findings: readonly Line[];
  readonly warnings: readonly string[];
}> {
  const { status, lines } = await runCommand(['profile', 'check', name], { site: site.directory });
  return {
    status,
    findings: lines.filter(({ event }) => event === 'finding'),
    warnings: lines.filter(({ event }) => event === 'warning').map(({ message }) => String(message)),
  };
}

/** A profile on top of the demo that asks for the same packages, with the demo's lock as its own. */
function profile(name: string, text: string): string {
  const file = join(site.directory, `profiles/${name}.yaml`);
  writeFileSync(file, `version: 1\nextends: [demo]\n${text}`);
  cpSync(join(site.directory, 'locks/demo.amd64.json'), join(site.directory, `locks/${name}.amd64.json`));
  return file;
}

function write(path: string, content = 'ours\n'): string {
  const file = join(site.directory, 'overlays', path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}

test('the shipped profile has nothing to find fault with, and all of it was looked at', async () => {
  expect(await check('demo')).toEqual({ status: 0, findings: [], warnings: [] });
});

test('without a network, and without root', async () => {
  execFileSync('chmod', ['a+rx', join(site.directory, '..')]);
  const through = ['unshare', '--net', '--', ...throughNobody];
  const { status, lines } = await runCommand(['profile', 'check', 'demo'], { site: site.directory, through });
  expect(status).toBe(0);
  expect(lines.filter(({ event }) => event === 'warning')).toEqual([]);
});

test('unknown packages: the line, and the nearest name in the indices', async () => {
  const file = profile('typo', 'packages: [nanoo, awk]\n');
  const { status, findings, warnings } = await check('typo');
  expect(status).toBe(1);
  // awk is provided, which is as good.
  expect(findings).toMatchObject([
    { kind: 'unknown', path: `${file}:3:12`, detail: expect.stringMatching(/"nanoo"; did you mean nano\?$/) },
  ]);
  expect(warnings).toEqual([expect.stringContaining('asks for other packages than its lock')]);
});

test('units that nothing brings; those of packages, templates and overlays are known', async () => {
  write('units/etc/systemd/system/own.service', '[Service]\nExecStart=/bin/true\n');
  const file = profile(
    'units',
    'overlay: units\nservices:\n  enable: [own, serial-getty@ttyS0, systemd-networkd, relive-health, systemd-resolvd]\n  mask: [whatever]\n',
  );
  const { status, findings } = await check('units');
  expect(status).toBe(1);
  expect(findings).toMatchObject([
    {
      kind: 'missing',
      path: expect.stringMatching(new RegExp(`^${file}:5:`)),
      detail: expect.stringContaining('systemd-resolvd.service; did you mean systemd-resolved.service?'),
    },
  ]);
});

test('users that packages make', async () => {
  const file = profile(
    'people',
    'users:\n  - {name: games}\n  - {name: audio}\n  - {name: systemd-network}\n  - {name: fine, uid: 1000}\n',
  );
  const { status, findings } = await check('people');
  expect(status).toBe(1);
  expect(findings.map(({ path, detail }) => `${String(path)} ${String(detail)}`)).toEqual([
    `${file}:4:12 users[1].name: found "games", a user that the package base-passwd makes`,
    expect.stringContaining('found "audio", a group of the package base-passwd'),
    expect.stringContaining('found "systemd-network", a user that the package systemd'),
  ]);
});

test('overlays that hide files of packages, by either name of /usr; files in /etc are made for it', async () => {
  const tool = write('shadow/bin/nano');
  const unit = write('shadow/usr/lib/systemd/system/systemd-networkd.service');
  write('shadow/etc/issue.net');
  write('shadow/usr/share/doc/nano/ours');
  profile('shadow', 'overlay: shadow\n');
  const { status, findings } = await check('shadow');
  expect(status).toBe(1);
  expect(findings.map(({ path, detail }) => `${String(path)} ${String(detail)}`).toSorted()).toEqual([
    `${tool} hides /usr/bin/nano of the package nano, and its updates`,
    `${unit} hides /usr/lib/systemd/system/systemd-networkd.service of the package systemd, and its updates`,
  ]);
});

test('what is kept on volumes hides nothing', async () => {
  profile('keeps', 'persist:\n  - {path: /etc/ssh, volume: DATA}\n  - {path: /home, volume: DATA}\n');
  expect((await check('keeps')).findings).toEqual([]);
});

describe('a hostile overlay', () => {
  let overlay: string;
  beforeAll(() => {
    overlay = dirname(write('hostile/file'));
    execFileSync('mknod', [join(overlay, 'disk'), 'b', '8', '0']);
    execFileSync('mkfifo', [join(overlay, 'pipe')]);
    mkdirSync(join(overlay, 'etc'));
    symlinkSync('../../../etc/shadow', join(overlay, 'etc/out'));
    symlinkSync(join(overlay, 'file'), join(overlay, 'etc/host'));
    symlinkSync('../file', join(overlay, 'etc/inside'));
    symlinkSync('/usr/bin/env', join(overlay, 'etc/absolute'));
    writeFileSync(Buffer.concat([Buffer.from(`${overlay}/caf`), Buffer.from([0xe9])]), '');
    chownSync(write('hostile/theirs'), 33, 33);
    profile('hostile', 'overlay: hostile\n');
  });

  test('is found out', async () => {
    const { status, findings } = await check('hostile');
    expect(status).toBe(1);
    expect(findings.map(({ kind, path }) => `${kind as string} ${String(path)}`).toSorted()).toEqual([
      `unsafe-path ${overlay}/caf\\xe9`,
      `unsafe-path ${overlay}/disk`,
      `unsafe-path ${overlay}/etc/host`,
      `unsafe-path ${overlay}/etc/out`,
      `unsafe-path ${overlay}/pipe`,
      `unsuitable ${overlay}/theirs`,
    ]);
    const owner = findings.find(({ kind }) => kind === 'unsuitable');
    expect(owner?.['detail']).toContain('33:33');
  });

  test('is not built, and every fault named', async () => {
    const { status, last } = await runCommand(['build', 'hostile', '--offline'], { site: site.directory });
    expect(status).toBe(2);
    expect(last?.['code']).toBe('configuration');
    const faults = String(last?.['message']).split('\n');
    expect(faults).toHaveLength(5);
    expect(faults).toContainEqual(
      `${overlay}/etc/out: links to ../../../etc/shadow, which leads out of the root`,
    );
  });
});

test('a circle of profiles', async () => {
  writeFileSync(join(site.directory, 'profiles/one.yaml'), 'version: 1\nextends: [two]\n');
  writeFileSync(join(site.directory, 'profiles/two.yaml'), 'version: 1\nextends: [one]\n');
  const { status, findings } = await check('one');
  expect(status).toBe(1);
  expect(findings[0]?.['detail']).toContain('found a circle: one -> two -> one');
});

test('what cannot be looked at is said', async () => {
  writeFileSync(join(site.directory, 'profiles/new.yaml'), 'version: 1\nextends: [demo]\npackages: [htop]\n');
  const { status, warnings } = await check('new');
  expect(status).toBe(0);
  expect(warnings).toEqual([expect.stringContaining('it has no lock')]);
});
