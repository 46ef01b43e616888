import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hostArchive } from '../fixtures/host-archive.ts';
import { enteredRoot, type TrixieRoot, trixieRoot } from '../fixtures/trixie.ts';
import { repository, slowTests } from '../support.ts';

interface Line {
  readonly event: string;
  readonly ok?: boolean;
  readonly kind?: string;
  readonly path?: string;
  readonly detail?: string;
  readonly hint?: string;
  readonly install?: string | null;
  readonly checks?: readonly { readonly name: string; readonly state: string; readonly install?: string }[];
}

describe('relive doctor in a bare Debian 13', () => {
  const there = { '/opt/relive': repository };
  /** What relive cannot do without and a root of the essential packages and apt does not have. */
  const needed = [
    ...[
      'acl',
      'attr',
      'bzip2',
      'cryptsetup-bin',
      'e2fsprogs',
      'gpg',
      'gpg-agent',
      'gpgconf',
      'gpgv',
      'grub-common',
    ],
    ...['grub-efi-amd64-bin', 'grub-pc-bin', 'mmdebstrap', 'mount', 'mtools', 'squashfs-tools', 'xorriso'],
    ...['xz-utils', 'zstd'],
  ];
  let root: TrixieRoot;
  const doctor = (): readonly Line[] =>
    root
      .run('node /opt/relive/dist/cli.cjs doctor --json || test $? = 1', there)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
  const installed = (): Set<string> => new Set(root.run("dpkg-query -W -f '${Package}\\n'").split('\n'));

  beforeAll(() => {
    root = trixieRoot();
    root.run('apt-get -q -y install --no-install-recommends nodejs');
  });
  afterAll(() => root.remove());

  test('names exactly what is missing, and is content when that is installed', () => {
    const before = doctor();
    const result = before.at(-1);
    expect(result).toMatchObject({ event: 'result', ok: false });
    const findings = before.filter(({ event }) => event === 'finding');
    expect(new Set(findings.filter(({ kind }) => kind === 'missing').map(({ path }) => path))).toEqual(
      new Set(needed),
    );
    // What cannot be tried yet says so, and no more.
    expect(
      findings.filter(({ kind }) => kind !== 'missing').map(({ path, detail }) => `${path}: ${detail}`),
    ).toEqual([
      'debian-archive-keyring: not tried, without gpg',
      'namespaces: not tried, without mount',
      'overlayfs: not tried, without mount',
      'squashfs: not tried, without mount, mksquashfs',
    ]);
    const lacks = installed();
    expect(result?.checks?.filter(({ install }) => install !== undefined && lacks.has(install))).toEqual([]);

    expect(result?.install).toBe(`apt-get install --no-install-recommends ${needed.join(' ')}`);
    root.run(`${result?.install} --yes`);
    const after = doctor();
    expect(after.filter(({ event }) => event === 'finding')).toEqual([]);
    expect(after.at(-1)).toMatchObject({ ok: true, install: null });
  });

  test('knows what a chroot lacks whose directory is no mount point', () => {
    const text = execFileSync('unshare', [
      ...['--mount', '--propagation', 'private', 'sh', '-euc'],
      'mount -t proc proc "$1/proc"; mkdir -p "$1/opt/relive"; mount --bind "$2" "$1/opt/relive"; chroot "$1" env -i PATH=/usr/sbin:/usr/bin node /opt/relive/dist/cli.cjs doctor --json || test $? = 1',
      ...['sh', root.directory, repository],
    ]).toString();
    const findings = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
    expect(findings.find(({ path }) => path === 'namespaces')?.hint).toContain('mount --bind DIR DIR');
  });

  test.runIf(slowTests)('that is enough to build, write an ISO and verify', () => {
    const relive = 'node /opt/relive/dist/cli.cjs';
    const said = root.run(
      [
        `${relive} init /srv/site --profile demo --archive ${hostArchive()}`,
        'cd /srv/site',
        ...['keys create', 'build demo', 'image export demo --iso', 'image verify demo'].map(
          (args) => `${relive} ${args}`,
        ),
      ].join('\n'),
      there,
    );
    expect(said).toMatch(/demo-\d+\.01: .* packages/);
  });
});

/**
 * What the README says to a newcomer, from nothing: a root made by debootstrap, a clone of the last commit, and what this machine's
 * npm is told of its registry. It installs for minutes, builds, boots in emulation and runs all unit tests.
 */
describe.runIf(slowTests).each(['trixie', 'bookworm'])("the README's two commands in a bare %s", (suite) => {
  const work = mkdtempSync(join(tmpdir(), `relive-test-bare-${suite}-`));
  const directory = join(work, 'root');
  let root: TrixieRoot;

  beforeAll(() => {
    execFileSync('debootstrap', ['--variant=minbase', suite, directory, hostArchive()], { stdio: 'pipe' });
    execFileSync('git', ['clone', '--quiet', repository, join(directory, 'root/relive')], { stdio: 'pipe' });
    const npmrc = join(homedir(), '.npmrc');
    if (existsSync(npmrc)) copyFileSync(npmrc, join(directory, 'root/.npmrc'));
    const registry = execFileSync('npm', ['config', 'get', 'registry'], {
      encoding: 'utf8',
      cwd: tmpdir(),
    }).trim();
    const certificates = process.env['NODE_EXTRA_CA_CERTS'];
    const told = [`export npm_config_registry=${registry}`];
    if (certificates !== undefined) {
      copyFileSync(certificates, join(directory, 'root/certificates.pem'));
      told.push('export NODE_EXTRA_CA_CERTS=/root/certificates.pem npm_config_cafile=/root/certificates.pem');
    }
    writeFileSync(join(directory, 'root/told'), `${told.join('\n')}\n`);
    mkdirSync(join(work, 'archives/partial'), { recursive: true });
    root = enteredRoot(directory, join(work, 'archives'));
  });
  afterAll(() => rmSync(work, { recursive: true, force: true }));

  test('./run demo ends with an image that came up', () => {
    expect(root.run('. /root/told; cd /root/relive; ./run demo')).toMatch(
      /The guest of demo-\d+\.\d+ came up and reported healthy/,
    );
  });

  test('./run test unit installs the rest and passes', () => {
    expect(root.run('. /root/told; cd /root/relive; ./run test unit 2>&1')).toMatch(
      /^\d+ passed, 0 failed$/m,
    );
  });

  test('relive doctor is content', () => {
    expect(root.run('cd /root/relive; ./run relive doctor')).toContain(
      'This host has all that relive needs.',
    );
  });
});
