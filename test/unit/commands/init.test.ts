import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadProfile } from '../../../src/site/profile.ts';
import { loadSite } from '../../../src/site/site.ts';
import { jsonLines, relive, temporary } from '../site/support.ts';

const archive = 'http://ftp.debian.org/debian';
const security = 'http://ftp.debian.org/debian-security';
const given = ['--archive', archive, '--security-archive', security];

/** An apt configuration with these sources and nothing else, for the host's real apt (apt.conf(5), APT_CONFIG). */
function aptWith(sources: string): NodeJS.ProcessEnv {
  const directory = temporary();
  for (const below of ['parts', 'state/lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(directory, below), { recursive: true });
  }
  writeFileSync(join(directory, 'sources.list'), sources);
  writeFileSync(
    join(directory, 'apt.conf'),
    [
      `Dir::Etc::SourceList "${directory}/sources.list";`,
      `Dir::Etc::SourceParts "${directory}/parts";`,
      `Dir::State "${directory}/state";`,
      `Dir::Cache "${directory}/cache";`,
    ].join('\n'),
  );
  return { APT_CONFIG: join(directory, 'apt.conf') };
}

function filesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .filter((path) => !path.startsWith('.git/'))
    .toSorted();
}

const files = [
  '.gitignore',
  'overlays/demo/etc/issue',
  'overlays/demo/etc/systemd/network/80-ethernet.network',
  'profiles/demo.yaml',
  'relive.yaml',
];

describe('relive init', () => {
  test('makes a site that passes its own check and says what comes next', async () => {
    const cwd = temporary();
    const { status, stdout, stderr } = await relive(['init', 'lab', ...given], { cwd });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain('cd lab\n');
    expect(stdout).toContain('relive build demo');
    const lab = join(cwd, 'lab');
    expect(filesIn(lab)).toEqual(files);
    expect(readFileSync(join(lab, '.gitignore'), 'utf8')).toBe(
      '/store/\n/mirror/\n/.relive/\n/keys/gnupg/\n',
    );
    expect(readFileSync(join(lab, 'overlays/demo/etc/issue'), 'utf8')).toContain('password demo');
    expect(statSync(join(lab, 'overlays/demo/etc/issue')).mode & 0o777).toBe(0o644);

    expect(await relive(['profile', 'check'], { cwd: lab })).toMatchObject({ status: 0 });
    const site = await loadSite(lab);
    expect(
      Object.values(site.repositories).map(({ name, url, suites, components }) => ({
        name,
        url,
        suites,
        components,
      })),
    ).toEqual([
      {
        name: 'debian',
        url: [archive],
        suites: ['trixie', 'trixie-updates'],
        components: ['main', 'non-free-firmware'],
      },
      {
        name: 'debian-security',
        url: [security],
        suites: ['trixie-security'],
        components: ['main', 'non-free-firmware'],
      },
    ]);
    const profile = await loadProfile(site, 'demo');
    expect(profile).toMatchObject({ suite: 'trixie', host: 'virtual-machine', hostname: 'demo' });
    // The password of the demo is "demo" (crypt(5), SHA-512).
    const hash = profile.users[0]?.password ?? '';
    const salt = hash.split('$')[2] ?? '';
    expect(
      execFileSync('openssl', ['passwd', '-6', '-salt', salt, 'demo'], { encoding: 'utf8' }).trim(),
    ).toBe(hash);
  });

  test("takes the addresses of the host's apt, not its suites", async () => {
    const cwd = temporary();
    const env = aptWith(
      [
        'deb https://vendor.example/apt stable main',
        'deb http://one.example/debian bookworm main contrib',
        'deb http://two.example/debian bookworm-updates main',
        'deb http://one.example/debian-security bookworm-security main',
      ].join('\n'),
    );
    const { status, stdout } = await relive(['init', '--json'], { cwd, env });
    expect(status).toBe(0);
    expect(jsonLines(stdout)).toEqual([
      {
        event: 'result',
        ok: true,
        directory: cwd,
        profile: 'demo',
        archive: 'http://one.example/debian',
        securityArchive: 'http://one.example/debian-security',
        files: expect.arrayContaining(files),
      },
    ]);
    const { repositories } = await loadSite(cwd);
    expect(repositories['debian']?.suites).toEqual(['trixie', 'trixie-updates']);
  });

  test('without a security archive says so and leaves it out', async () => {
    const cwd = temporary();
    const env = aptWith('deb http://one.example/debian bookworm main');
    const { status, stderr } = await relive(['init'], { cwd, env });
    expect(status).toBe(0);
    expect(stderr).toContain("warning: the address of Debian's security archive is not known");
    const site = await loadSite(cwd);
    expect(Object.keys(site.repositories)).toEqual(['debian']);
    expect((await loadProfile(site, 'demo')).repositories.map(({ name }) => name)).toEqual(['debian']);
    expect(readFileSync(join(cwd, 'profiles/demo.yaml'), 'utf8')).toContain('repositories: [debian]\n');
  });

  test('on a host whose apt serves no Debian demands an address', async () => {
    const cwd = temporary();
    const env = aptWith('deb http://archive.example/ubuntu noble main');
    const { status, stderr } = await relive(['init', 'x'], { cwd, env });
    expect(status).toBe(2);
    expect(stderr).toContain('hint: name the mirror nearest to you: relive init --archive');
    expect(readdirSync(cwd)).toEqual([]);
    expect((await relive(['init', 'x', '--archive', archive], { cwd, env })).status).toBe(0);
  });

  test.each(['ftp://x/debian', 'http://u:p@x/debian', 'http://x/debian dists', '', '../debian'])(
    'refuses the address %j',
    async (url) => {
      const cwd = temporary();
      const { status, stderr } = await relive(['init', 'x', '--archive', url], { cwd });
      expect(status).toBe(2);
      expect(stderr).toContain('--archive');
      expect(readdirSync(cwd)).toEqual([]);
    },
  );

  test('refuses a site, a file, and a directory that is not empty', async () => {
    const cwd = temporary();
    writeFileSync(join(cwd, 'file'), '');
    expect(await relive(['init', 'file', ...given], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('is a file'),
    });
    expect(await relive(['init', 'file/x', ...given], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('ENOTDIR'),
    });
    expect(await relive(['init', ...given], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('is not empty: it has file'),
    });
    expect(readdirSync(cwd)).toEqual(['file']);
    rmSync(join(cwd, 'file'));
    expect((await relive(['init', ...given], { cwd })).status).toBe(0);
    const before = readFileSync(join(cwd, 'relive.yaml'), 'utf8');
    expect(await relive(['init', '--archive', 'http://x/debian'], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('is a site already'),
    });
    expect(readFileSync(join(cwd, 'relive.yaml'), 'utf8')).toBe(before);
  });

  test('fills a git repository, adding to its .gitignore, unless a file is in the way', async () => {
    const cwd = temporary();
    mkdirSync(join(cwd, '.git'));
    writeFileSync(join(cwd, 'README.md'), 'ours');
    writeFileSync(join(cwd, '.gitignore'), '*.log\n/store/');
    mkdirSync(join(cwd, 'profiles'));
    writeFileSync(join(cwd, 'profiles/demo.yaml'), 'ours');
    expect(await relive(['init', ...given], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('profiles/demo.yaml'),
    });
    expect(filesIn(cwd)).toEqual(['.gitignore', 'README.md', 'profiles/demo.yaml']);
    rmSync(join(cwd, 'profiles/demo.yaml'));
    expect((await relive(['init', ...given], { cwd })).status).toBe(0);
    expect(readFileSync(join(cwd, '.gitignore'), 'utf8')).toBe(
      '*.log\n/store/\n/mirror/\n/.relive/\n/keys/gnupg/\n',
    );
    expect(readFileSync(join(cwd, 'README.md'), 'utf8')).toBe('ours');
  });

  test('goes on where a run was cut off', async () => {
    const cwd = temporary();
    expect((await relive(['init', ...given], { cwd })).status).toBe(0);
    rmSync(join(cwd, 'relive.yaml'));
    rmSync(join(cwd, 'profiles'), { recursive: true });
    writeFileSync(join(cwd, '.tmp-relive.yaml-0123abcd'), 'half');
    expect((await relive(['init', ...given], { cwd })).status).toBe(0);
    expect(filesIn(cwd)).toEqual(files);
  });

  test('a run that fails half-way leaves nothing', async () => {
    const cwd = temporary();
    mkdirSync(join(cwd, 'site/.git'), { recursive: true });
    // The overlay is written before the profile, whose directory cannot be made.
    symlinkSync('nowhere', join(cwd, 'site/profiles'));
    const { status, stderr } = await relive(['init', 'site', ...given], { cwd });
    expect([status, stderr]).toEqual([2, expect.stringContaining('cannot be written (EEXIST)')]);
    expect(readdirSync(join(cwd, 'site')).toSorted()).toEqual(['.git', 'profiles']);
  });

  test('lists the shipped profiles, and names the nearest', async () => {
    const cwd = temporary();
    const list = await relive(['init', '--list'], { cwd });
    expect([list.status, list.stdout]).toEqual([
      0,
      expect.stringMatching(/^NAME +DESCRIPTION\ndemo +Debian 13 /),
    ]);
    const wrong = await relive(['init', 'x', '--profile', 'demos'], { cwd });
    expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringContaining('did you mean demo?')]);
    expect(readdirSync(cwd)).toEqual([]);
  });
});
