import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commands } from '../../src/commands/table.ts';
import { version } from '../../src/core/version.ts';
import { parseManifest } from '../../src/image/manifest.ts';
import { pageName } from '../../tools/package/man-commands.ts';
import { makePackage } from '../fixtures/package.ts';
import { type BuiltSite, builtSite } from '../fixtures/site.ts';
import { type TrixieRoot, trixieRoot } from '../fixtures/trixie.ts';
import { cli, repository, slowTests, temporaryDirectory } from '../support.ts';

let deb = '';

beforeAll(() => {
  deb = makePackage();
});

const digestOf = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

/** What is in the package, below a directory of this test. */
function unpacked(): string {
  const directory = temporaryDirectory();
  execFileSync('dpkg-deb', ['--extract', deb, directory]);
  return directory;
}

describe('the package', () => {
  test('made again elsewhere, by another umask, time zone and with more threads, it has the same bytes', () => {
    const directory = temporaryDirectory();
    const main = join(repository, 'build/package/tools/package/main.js');
    const again = 'umask 077; touch "$2"; exec "$0" "$1" "$3"';
    execFileSync('sh', ['-c', again, process.execPath, main, join(repository, 'README.md'), directory], {
      cwd: '/',
      env: { ...process.env, TZ: 'Pacific/Auckland', LC_ALL: 'C', XZ_DEFAULTS: '-T4' },
    });
    const [name = ''] = readdirSync(directory);
    expect(name).toBe(`relive_${version}_all.deb`);
    expect(digestOf(join(directory, name))).toBe(digestOf(deb));
  });

  test('is clean for lintian, the pedantic tags included', () => {
    const lintian = spawnSync('lintian', ['--display-info', '--pedantic', deb], { encoding: 'utf8' });
    expect(lintian.stdout).toBe('');
    expect(lintian.status).toBe(0);
  });

  test('holds what Node.js loads, and neither types nor what only developers need', () => {
    const home = join(unpacked(), 'usr/share/relive');
    expect(readdirSync(join(home, 'dist')).toSorted()).toEqual([
      ...['cli.cjs', 'download-worker.cjs', 'program.cjs', 'verify-worker.cjs'],
    ]);
    const paths = readdirSync(home, { recursive: true, encoding: 'utf8' });
    expect(paths.filter((path) => /\.(ts|cts|mts|map|md)$/.test(path))).toEqual([]);
  });

  test('has man pages in which groff finds nothing wrong', () => {
    const manual = join(unpacked(), 'usr/share/man');
    const pages = readdirSync(manual, { recursive: true, encoding: 'utf8' }).filter((path) =>
      path.endsWith('.gz'),
    );
    for (const { name } of commands) expect(pages).toContain(`man1/${pageName(name)}.1.gz`);
    expect(pages).toEqual(
      expect.arrayContaining(['man1/relive.1.gz', 'man5/relive.yaml.5.gz', 'man5/relive-profile.5.gz']),
    );
    for (const page of pages) {
      const text = execFileSync('gzip', ['-cd', join(manual, page)]);
      const groff = spawnSync('groff', ['-man', '-Tutf8', '-ww', '-z'], { input: text, encoding: 'utf8' });
      expect({ page, status: groff.status, stderr: groff.stderr }).toEqual({ page, status: 0, stderr: '' });
    }
  });

  test('has units that systemd reads without a word, and enables none', () => {
    const units = join(unpacked(), 'usr/lib/systemd/system');
    // systemd-analyze looks for the program and the man pages of a unit on this host, where relive is not installed.
    const copy = temporaryDirectory();
    for (const name of readdirSync(units)) {
      const text = readFileSync(join(units, name), 'utf8');
      writeFileSync(
        join(copy, name),
        text.replaceAll('/usr/bin/relive', '/bin/true').replace(/^Documentation=.*\n/m, ''),
      );
    }
    const analysed = ['mirror@srv-relive.timer', 'refresh@srv-relive.timer', 'serve@srv-relive.service'].map(
      (name) => join(copy, `relive-${name}`),
    );
    const analyze = spawnSync('systemd-analyze', ['verify', ...analysed], {
      encoding: 'utf8',
      env: { ...process.env, SYSTEMD_UNIT_PATH: `${copy}:` },
    });
    expect({ status: analyze.status, stderr: analyze.stderr }).toEqual({ status: 0, stderr: '' });
    const control = execFileSync('dpkg-deb', ['--info', deb], { encoding: 'utf8' });
    expect(control).not.toMatch(/postinst|preinst/);
  });
});

/** A PATH with a program `relive`: the compiled one of this checkout. */
function withRelive(): string {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'relive'), `#!/bin/sh\nexec '${process.execPath}' '${cli}' "$@"\n`);
  chmodSync(join(directory, 'relive'), 0o755);
  return `${directory}:${process.env['PATH'] ?? ''}`;
}

describe('completion', () => {
  let site: BuiltSite;
  beforeAll(async () => {
    site = await builtSite();
  });

  test('in fish', () => {
    const script = join(unpacked(), 'usr/share/fish/vendor_completions.d/relive.fish');
    const path = withRelive();
    const offered = (line: string): string[] =>
      execFileSync('fish', ['--no-config', '-c', `source ${script}; complete -C '${line}'`], {
        encoding: 'utf8',
        cwd: site.directory,
        env: { ...process.env, PATH: path },
      })
        .split('\n')
        .map((text) => text.split('\t')[0] ?? '')
        .filter((text) => text !== '');
    expect(offered('relive mirror s')).toEqual(['serve', 'snapshot', 'sync']);
    expect(offered('relive build ')).toEqual(['demo']);
    expect(offered('relive --site / build ')).toEqual([]);
    expect(offered('relive image show de')).toEqual(['demo', site.image]);
    expect(offered('relive mirror sync ')).toEqual(['debian', 'debian-security']);
    expect(offered('relive vm demo --firmware ')).toEqual([
      'bios',
      'microsoft',
      'secure-boot',
      'shim',
      'uefi',
      'uefi32',
    ]);
    expect(offered('relive build --off')).toEqual(['--offline']);
  });

  test('in zsh', () => {
    const functions = join(unpacked(), 'usr/share/zsh/vendor-completions');
    const output = join(temporaryDirectory(), 'lines');
    // An interactive zsh on a terminal of its own: the line is completed, then written to the file.
    const script = `
      zmodload zsh/zpty
      zpty -b z zsh -f -i
      zpty -w z "PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; show() { print -r -- \\"\\$BUFFER\\" >>$2; BUFFER= }; zle -N show; bindkey '^I' complete-word '^X^A' show"
      for words in "\${@:3}"; do zpty -w -n z "$words"$'\\t\\C-x\\C-a'; done
      zpty -w z exit
      zpty -r z rest '*nothing*'`;
    const lines = [
      ...['relive mirror sy', 'relive build de', 'relive image show demo-', 'relive vm --firmware ue'],
      ...[
        'relive --site / build de',
        'relive mirror sync debian-',
        'relive mirror snapshot cr',
        'relive doc',
      ],
    ];
    spawnSync('zsh', ['-f', '-c', script, 'zsh', functions, output, ...lines], {
      cwd: site.directory,
      env: { ...process.env, PATH: withRelive() },
      timeout: 120_000,
    });
    expect(
      readFileSync(output, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => line.trimEnd()),
    ).toEqual([
      ...['relive mirror sync', 'relive build demo', `relive image show ${site.image}`],
      ...['relive vm --firmware uefi', 'relive --site / build de', 'relive mirror sync debian-security'],
      ...['relive mirror snapshot create', 'relive doctor'],
    ]);
  });
});

describe('installed by apt in a fresh Debian 13', () => {
  let root: TrixieRoot;
  beforeAll(() => {
    root = trixieRoot();
    root.run('apt-get --yes --quiet --no-install-recommends install /deb/*.deb', { '/deb': join(deb, '..') });
  });
  afterAll(() => root.remove());

  test("it runs on Debian's Node.js, and has all that it needs", () => {
    expect(root.run('relive --version')).toBe(`${version}\n`);
    // Ends with 1 where something that is needed is missing.
    expect(root.run('cd /root && relive doctor --quiet')).toContain('This host has all that relive needs.');
    root.run('relive init /srv/site && relive keys create --site /srv/site');
    expect(existsSync(join(root.directory, 'srv/site/relive.yaml'))).toBe(true);
  });

  test('its files are where man and the shells look for them, and none is changed', () => {
    for (const path of [
      'usr/share/man/man1/relive.1.gz',
      'usr/share/man/man1/relive-mirror-sync.1.gz',
      'usr/share/man/man5/relive.yaml.5.gz',
      'usr/share/bash-completion/completions/relive',
      'usr/share/zsh/vendor-completions/_relive',
      'usr/share/fish/vendor_completions.d/relive.fish',
      'usr/lib/systemd/system/relive-mirror@.timer',
      'usr/lib/systemd/system/relive-refresh@.timer',
      'usr/lib/systemd/system/relive-serve@.service',
      'usr/share/doc/relive/examples/site/relive.yaml',
      'usr/share/relive/profiles/demo/profile.yaml',
    ]) {
      // minbase leaves no documents out; what dpkg has unpacked is there.
      expect({ path, there: existsSync(join(root.directory, path)) }).toEqual({ path, there: true });
    }
    expect(root.run('dpkg --verify relive')).toBe('');
    expect(root.run('relive profile check --site /usr/share/doc/relive/examples/site')).toContain(
      'nothing found',
    );
  });

  // A factory (factory.test.ts) has the same package in the same Debian, and builds a machine's image in it, too.
  test.runIf(slowTests)(
    'it makes a site and builds the image that this host builds of the same lock',
    async () => {
      const built = await builtSite();
      root.run('relive init /srv/relive && relive keys create --site /srv/relive');
      const site = join(root.directory, 'srv/relive');
      const yaml = join(site, 'relive.yaml');
      writeFileSync(yaml, readFileSync(yaml, 'utf8').replace(/^mirror: \S+/m, 'mirror: /srv/mirror'));
      mkdirSync(join(site, 'locks'));
      cpSync(join(built.directory, 'locks'), join(site, 'locks'), { recursive: true });
      root.run('relive build demo --offline --locked --site /srv/relive', { '/srv/mirror': built.mirror });
      expect(root.run('relive image verify --site /srv/relive')).toMatch(/: ok\n$/);
      const images = join(site, 'store/images/demo');
      const file = join(images, readdirSync(images)[0] ?? '', 'manifest.json');
      const { tree, kernel, initrd } = parseManifest(readFileSync(file, 'utf8'), file);
      // The layers are packed by another zstd; what is in them is the same.
      const { manifest } = built;
      expect({ tree, kernel, initrd }).toEqual({
        tree: manifest.tree,
        kernel: manifest.kernel,
        initrd: manifest.initrd,
      });
    },
  );
});
