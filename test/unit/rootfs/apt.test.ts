import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type AptSource, aptSettings, makeAptRoot, sourcesList } from '../../../src/rootfs/apt.ts';
import { temporaryDirectory } from '../../support.ts';

const source: AptSource = {
  repository: 'debian',
  uri: 'http://ftp.debian.org/debian',
  suite: 'trixie',
  components: ['main', 'contrib'],
  keyring: '/usr/share/keyrings/debian-archive-keyring.gpg',
};

test('sources.list has one signed line a suite', () => {
  expect(sourcesList([source, { ...source, suite: 'trixie-updates', components: ['main'] }])).toBe(
    'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://ftp.debian.org/debian trixie main contrib\n' +
      'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://ftp.debian.org/debian trixie-updates main\n',
  );
});

/** A value of the configuration as apt itself reads it. */
function configured(config: string, ...names: readonly string[]): string[] {
  return execFileSync('apt-config', ['dump', '--format', '%f=%v%n', ...names], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], APT_CONFIG: config },
  })
    .trim()
    .split('\n');
}

describe('a private apt', () => {
  test('knows its own sources and nothing of the host', async () => {
    const directory = temporaryDirectory();
    const { config } = await makeAptRoot(directory, [source], aptSettings('amd64', false));
    const targets = execFileSync(
      'apt-get',
      ['indextargets', '--no-release-info', '--format', '$(CREATED_BY) $(REPO_URI) $(RELEASE)'],
      {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], APT_CONFIG: config },
      },
    );
    const lines = targets.trim().split('\n');
    expect([...new Set(lines.map((line) => line.split(' ')[1]))]).toEqual([`${source.uri}/`]);
    // No translations, no Contents: only what packages are resolved by.
    expect([...new Set(lines.map((line) => line.split(' ')[0]))]).toEqual(['Packages']);
    expect(configured(config, 'Dir::State::status', 'Dir::Etc::trustedparts')).toEqual([
      `Dir::State::status=${directory}/status`,
      'Dir::Etc::trustedparts=/dev/null',
    ]);
  });

  test('has no package installed and trusts nobody without a keyring', async () => {
    const directory = temporaryDirectory();
    const { config } = await makeAptRoot(directory, [], aptSettings('amd64', false));
    const env = { PATH: process.env['PATH'], APT_CONFIG: config };
    expect(execFileSync('apt-cache', ['pkgnames'], { encoding: 'utf8', env })).toBe('');

    const unsigned = join(directory, 'unsigned');
    mkdirSync(join(unsigned, 'dists/trixie/main/binary-amd64'), { recursive: true });
    writeFileSync(
      join(unsigned, 'dists/trixie/Release'),
      'Suite: trixie\nComponents: main\nArchitectures: amd64\n',
    );
    writeFileSync(join(directory, 'etc/sources.list'), sourcesList([{ ...source, uri: `file:${unsigned}` }]));
    expect(() => execFileSync('apt-get', ['update', '--error-on=any'], { env, stdio: 'pipe' })).toThrow(
      'is not signed',
    );
  });

  test.each([true, false])('takes recommended packages as the profile says: %s', async (recommends) => {
    const { config } = await makeAptRoot(temporaryDirectory(), [], aptSettings('arm64', recommends));
    expect(configured(config, 'APT::Install-Recommends', 'APT::Architecture', 'APT::Architectures')).toEqual(
      expect.arrayContaining([
        `APT::Install-Recommends=${recommends}`,
        'APT::Architecture=arm64',
        'APT::Architectures::=arm64',
      ]),
    );
  });

  test('writes below its own directory only', async () => {
    const directory = join(temporaryDirectory(), 'root');
    await makeAptRoot(directory, [source], aptSettings('amd64', false));
    expect(readdirSync(directory).toSorted()).toEqual(['apt.conf', 'cache', 'etc', 'lists', 'status']);
  });
});
