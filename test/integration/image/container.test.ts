import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandEnd, runCommand, stagesOf, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;
let end: CommandEnd;

const text = `version: 1
suite: trixie
architecture: amd64
host: container
repositories: [debian, debian-security]
users:
  - {name: app, uid: 1234}
scripts:
  - {name: early, after: bootstrap}
  - {name: late, after: live}
`;

function writeScript(name: string, line: string): void {
  mkdirSync(join(site.directory, 'scripts'), { recursive: true });
  writeFileSync(join(site.directory, 'scripts', name), `#!/bin/sh\n${line}\n`);
  chmodSync(join(site.directory, 'scripts', name), 0o755);
}

beforeAll(async () => {
  site = await freshSite({ cache: true, store: true });
  writeFileSync(join(site.directory, 'profiles/box.yaml'), text);
  writeScript('early', 'echo early > /srv/early; setfattr() { :; }');
  writeScript('late', 'cp /srv/early /srv/late; ln /srv/late /srv/same; chown 1234 /srv/late');
  end = await runCommand(['build', 'box'], { site: site.directory });
});
afterAll(() => removeSite(site));

async function write(format: 'oci' | 'tar', name: string): Promise<string> {
  const file = join(site.directory, name);
  await succeed(['image', 'export', 'box', `--${format}`, file], { site: site.directory });
  return file;
}

test('a container has no kernel, no init and no live stage, and shares the bootstrap of others', () => {
  expect(end.status).toBe(0);
  expect(
    stagesOf(end).filter((line) => / (start|cached)$/.test(line) && !/^(index|pool|fetch)/.test(line)),
  ).toEqual(expect.arrayContaining(['bootstrap cached', 'bootstrap-scripts start', 'live-scripts start']));
  expect(stagesOf(end).filter((line) => line.startsWith('live '))).toEqual([]);
});

test('its image is sealed without boot files', async () => {
  const { last } = await succeed(['image', 'show', 'box'], { site: site.directory });
  const { directory, manifest } = last as unknown as {
    directory: string;
    manifest: { host: string; layers: { role: string }[]; packages: { name: string }[] };
  };
  expect(manifest).toMatchObject({ host: 'container', kernel: null, initrd: null, boot: null });
  expect(manifest.layers.map(({ role }) => role)).toEqual(['base']);
  const names = manifest.packages.map(({ name }) => name);
  expect(names.filter((name) => /^(linux-image|initramfs|live-boot|systemd|udev)/.test(name))).toEqual([]);
  const sealed = ['SHA256SUMS', 'SHA512SUMS', 'manifest.json'];
  expect(readdirSync(directory).toSorted()).toEqual(
    sealed.flatMap((name) => [name, `${name}.sig`]).toSorted(),
  );
  await succeed(['image', 'verify', 'box'], { site: site.directory });
  writeFileSync(join(directory, 'vmlinuz'), 'a stranger');
  const damaged = await runCommand(['image', 'verify', 'box'], { site: site.directory });
  rmSync(join(directory, 'vmlinuz'));
  expect(damaged.status).toBe(1);
  expect(damaged.lines.filter(({ event }) => event === 'finding')).toMatchObject([
    { kind: 'unreferenced', path: join(directory, 'vmlinuz') },
  ]);
});

test('nothing boots it: what to do instead', async () => {
  for (const command of [
    ['image', 'export', 'box', '--iso'],
    ['vm', 'box'],
  ]) {
    const { status, last } = await runCommand(command, { site: site.directory });
    expect({ status, code: last?.['code'] }).toEqual({ status: 2, code: 'usage' });
    expect(last?.['hint']).toContain('--oci FILE');
  }
});

describe('the tar archive', () => {
  test('holds the tree with owners and links, the same bytes each time', async () => {
    const file = await write('tar', 'box.tar');
    const list = execFileSync('tar', ['--list', '--verbose', '--numeric-owner', '--file', file], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    expect(list).toMatch(/^-rw-r--r-- 1234\/0 +6 .* \.\/srv\/late$/m);
    expect(list).toMatch(/ \.\/srv\/same link to \.\/srv\/late$/m);
    expect(list).toMatch(/^drwx------ 1234\/1234 .* \.\/home\/app\/$/m);
    expect(list).not.toMatch(/\.\/boot\/./);
    const first = readFileSync(file);
    expect(readFileSync(await write('tar', 'again.tar')).equals(first)).toBe(true);
  });
});

function inspect(file: string, ...args: readonly string[]): unknown {
  return JSON.parse(
    execFileSync('skopeo', ['inspect', ...args, `oci-archive:${file}`], { encoding: 'utf8' }),
  );
}

describe('the OCI archive', () => {
  let file: string;
  beforeAll(async () => {
    file = await write('oci', 'box.oci');
  });

  test('is the same bytes each time', async () => {
    expect(readFileSync(await write('oci', 'again.oci')).equals(readFileSync(file))).toBe(true);
    const left = readdirSync(site.directory).filter((name) => name.startsWith('.tmp-'));
    expect(left).toEqual([]);
  });

  test('is read by skopeo', () => {
    expect(inspect(file)).toMatchObject({ Architecture: 'amd64', Os: 'linux' });
    expect(inspect(file, '--config')).toMatchObject({
      config: { Cmd: ['/bin/bash'], Env: expect.arrayContaining(['LANG=C.UTF-8']) },
      rootfs: { type: 'layers', diff_ids: [expect.stringMatching(/^sha256:/)] },
    });
  });

  test('is loaded and run by podman', () => {
    const home = join(site.directory, 'podman');
    // Where cgroups of both versions are mounted, podman's crun refuses to work: it sees a version 2 of its own.
    const alone = 'mount -t cgroup2 none /sys/fs/cgroup && exec podman "$@"';
    // All below a directory that goes with the site.
    const places = ['root', 'runroot', 'tmpdir'].flatMap((name) => [`--${name}`, join(home, name)]);
    const store = [...places, '--storage-driver', 'vfs'];
    const podman = (...args: readonly string[]): string =>
      execFileSync(
        'unshare',
        ['--mount', '--propagation', 'private', '--', 'sh', '-c', alone, 'sh', ...store, ...args],
        { encoding: 'utf8', stdio: 'pipe' },
      );
    const loaded = podman('load', '--quiet', '--input', file);
    const name = /box:\d{8}\.\d{2}$/m.exec(loaded)?.[0] ?? '';
    expect(name).not.toBe('');
    const command =
      'cat /srv/late; id -un 1234; . /etc/os-release; echo $VERSION_CODENAME; stat -c %u /srv/late';
    const said = podman(
      ...[
        'run',
        '--rm',
        '--ulimit=nofile=1024:1024',
        '--ulimit=nproc=1024:1024',
        '--network=none',
        '--cgroups=disabled',
        '--log-driver=none',
      ],
      ...[name, '/bin/sh', '-c', command],
    );
    expect(said).toBe('early\napp\ntrixie\n1234\n');
  });

  test('of a system for a machine is refused', async () => {
    const { status, last } = await runCommand(
      ['image', 'export', 'demo', '--oci', join(site.directory, 'x')],
      {
        site: site.directory,
      },
    );
    expect(status).toBe(2);
    expect(last).toMatchObject({ code: 'usage', hint: expect.stringContaining('host: container') });
  });
});

test('units want a systemd', async () => {
  writeFileSync(
    join(site.directory, 'profiles/served.yaml'),
    'version: 1\nextends: [box]\nservices: {enable: [cron]}\n',
  );
  const { status, last } = await runCommand(['build', 'served'], { site: site.directory });
  expect(status).toBe(2);
  expect(last).toMatchObject({ code: 'configuration', message: expect.stringContaining('no systemd') });
});
