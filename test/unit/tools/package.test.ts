import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, property, string } from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { commands } from '../../../src/commands/table.ts';
import { hostPackages } from '../../../src/host/packages.ts';
import { debianChangelog } from '../../../tools/package/changelog.ts';
import { bashCompletion } from '../../../tools/package/completion-bash.ts';
import { controlFile, packageJson } from '../../../tools/package/control.ts';
import { copyrightFile } from '../../../tools/package/copyright.ts';
import { commandPages, pageName } from '../../../tools/package/man-commands.ts';
import { formatPages } from '../../../tools/package/man-formats.ts';
import { roffPage, roffText } from '../../../tools/package/roff.ts';
import { cli, repository, temporaryDirectory } from '../../support.ts';

const json = packageJson.parse(JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')));

/** A field of a control file, its relations one by one. */
function relations(control: string, field: string): string[] {
  return new RegExp(`^${field}: (.*)$`, 'm').exec(control)?.[1]?.split(', ') ?? [];
}

describe('the control file', () => {
  const control = controlFile(json, 1234);
  const all = ['Depends', 'Recommends', 'Suggests'].flatMap((field) => relations(control, field));

  test('relates to each package of the table once, by how much it is needed', () => {
    expect(relations(control, 'Depends')).toEqual(
      expect.arrayContaining([
        'nodejs (>= 20.19)',
        'squashfs-tools',
        'grub-pc-bin',
        'debian-archive-keyring',
      ]),
    );
    expect(relations(control, 'Recommends')).toContain('qemu-system-x86');
    expect(relations(control, 'Suggests')).toContain('debmirror');
    const others = all.filter((relation) => !relation.startsWith('nodejs'));
    const wanted = hostPackages().filter(({ essential }) => !essential);
    expect(others.toSorted()).toEqual(wanted.map(({ name }) => name).toSorted());
  });

  test('leaves out what every system has', () => {
    expect(all).not.toContain('coreutils');
    expect(all).not.toContain('util-linux');
  });
});

describe('the changelog', () => {
  const meta = { version: '1.2.0', maintainer: 'A <a@example.org>', epoch: 86_400 };

  test('has the entries of the version, in lines that fit', () => {
    const markdown = `# Changelog\n\n## [Unreleased]\n\n- no\n\n## [1.2.0]\n\n### Added\n\n- One \`thing\`,\n  on two lines, ${'long '.repeat(30)}\n- Two\n\n### Fixed\n\n- Three\n\n## [1.1.0]\n\n- old\n`;
    const text = debianChangelog(markdown, meta);
    expect(text).toMatch(
      /^relive \(1\.2\.0\) unstable; urgency=medium\n\n {2}\* One thing, on two lines, long/,
    );
    expect(text).toContain(
      '\n  * Two\n  * Three\n\n -- A <a@example.org>  Fri, 02 Jan 1970 00:00:00 +0000\n',
    );
    expect(text).not.toMatch(/no|old/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  test('takes what is unreleased for a version that is not named yet, and refuses an empty one', () => {
    expect(debianChangelog('## [Unreleased]\n\n- New\n', meta)).toContain('  * New\n');
    expect(() => debianChangelog('## [1.2.0]\n', meta)).toThrow('CHANGELOG.md has no entry for 1.2.0');
  });
});

test('the copyright file names each library, its holders and its whole license', () => {
  const thing = {
    name: 'thing',
    version: '1.0.0',
    license: 'MIT',
    text: 'MIT\n\nCopyright (c) 2011 Somebody\n\ncopyright notice and this\n',
  };
  const fonts = 'Made of:\nLicense: of-fonts\n Be kind.\n';
  const text = copyrightFile('Us <us@example.org>', 2026, 'usr/share/relive/dist', [thing], fonts);
  expect(text).toContain(
    'Files: usr/share/relive/dist/*\nCopyright: 2026 Us <us@example.org>\n           2011 Somebody\nLicense: GPL-3.0+ and MIT-thing\n',
  );
  expect(text).toContain('\nLicense: MIT-thing\n MIT\n .\n');
  expect(text).toContain('\nLicense: of-fonts\n Be kind.\n\n');
});

describe('man pages', () => {
  const pages = [...commandPages(), ...formatPages({ site: 'version: 1\n', profile: 'version: 1\n' })];

  test('there is one for each command, and each that another one names', () => {
    const names = new Set(pages.map(({ name, section }) => `${name}(${section})`));
    for (const { name } of commands) expect(names).toContain(`${pageName(name)}(1)`);
    for (const { seeAlso } of pages) for (const other of seeAlso) expect(names).toContain(other);
  });

  test('the formats have every key, the nested ones too', () => {
    const text = pages
      .filter(({ section }) => section === 5)
      .map(roffPage)
      .join('\n');
    for (const key of [
      'repositories.NAME.transport.bandwidth',
      'image.compression.blockSize',
      'users[].sshKeys',
      'exclude.services.mask',
    ]) {
      expect(text).toContain(`\\fB${key}\\fR`);
    }
  });

  test('no text of ours is a request of roff', () => {
    assert(
      property(string(), (text) => {
        for (const line of roffText(text).split('\n')) expect(line).not.toMatch(/^[.']/);
        expect(roffText(text).replaceAll(/\\(e|-|&|\((aq|ga|ha|ti))/g, '')).not.toMatch(/[\\'`^~-]/);
      }),
    );
  });
});

describe('completion in bash', () => {
  let site = '';
  let script = '';
  beforeEach(() => {
    const directory = temporaryDirectory();
    site = join(directory, 'site');
    mkdirSync(join(site, 'profiles'), { recursive: true });
    mkdirSync(join(site, 'store/images/kiosk/20261122.01'), { recursive: true });
    writeFileSync(
      join(site, 'relive.yaml'),
      'version: 1\nrepositories:\n  debian:\n    url: [http://ftp.debian.org/debian]\n    suites: [trixie]\n    components: [main]\n    architectures: [amd64]\n    signedBy: /keys.gpg\n',
    );
    for (const name of ['kiosk', 'server'])
      writeFileSync(join(site, `profiles/${name}.yaml`), 'version: 1\n');
    // What the shell finds as `relive`.
    const relive = join(directory, 'relive');
    writeFileSync(relive, `#!/bin/sh\nexec '${process.execPath}' '${cli}' "$@"\n`);
    chmodSync(relive, 0o755);
    script = join(directory, 'completion.bash');
    writeFileSync(script, `PATH=${directory}:$PATH\n${bashCompletion()}`);
  });

  /** What bash offers behind these words; the last one is being written. */
  function offered(words: readonly string[]): string[] {
    const text = `. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _relive; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const output = execFileSync('bash', ['--norc', '-c', text, script, ...words], {
      encoding: 'utf8',
      cwd: site,
    });
    return output.split('\n').filter((line) => line !== '');
  }

  test.each([
    [['relive', 'mi'], ['mirror']],
    [
      ['relive', 'mirror', 's'],
      ['sync', 'snapshot', 'serve'],
    ],
    [
      ['relive', 'build', ''],
      ['kiosk', 'server'],
    ],
    [['relive', 'build', 's'], ['server']],
    [['relive', 'build', '--offline', 'k'], ['kiosk']],
    [['relive', 'image', 'show', 'kiosk-'], ['kiosk-20261122.01']],
    [
      ['relive', 'image', 'show', ''],
      ['kiosk', 'kiosk-20261122.01'],
    ],
    [['relive', 'mirror', 'sync', ''], ['debian']],
    [['relive', 'mirror', 'sync', 'debian', 'de'], ['debian']],
    [['relive', 'mirror', 'snapshot', 'c'], ['create']],
    [['relive', 'mirror', 'snapshot', 'create', ''], ['debian']],
    [
      ['relive', 'vm', '--firmware', ''],
      ['bios', 'uefi', 'uefi32', 'secure-boot', 'shim', 'microsoft'],
    ],
    [
      ['relive', 'vm', '--firmware', '=', 'u'],
      ['uefi', 'uefi32'],
    ],
    [
      ['relive', 'vm', '--firmware', 'uefi', 'kio'],
      ['kiosk', 'kiosk-20261122.01'],
    ],
    [['relive', 'init', '--profile', 'f'], ['factory']],
    [['relive', 'build', '--o'], ['--offline']],
    [['relive', 'build', 'kiosk', 'x'], []],
  ])('%j', (words, wanted) => {
    expect(offered(words)).toEqual(wanted);
  });

  test('of another site', () => {
    const text = ['relive', '--site', site, 'build', ''];
    expect(offered(text)).toEqual(['kiosk', 'server']);
    expect(offered(['relive', 'build', '--site', '/', ''])).toEqual([]);
  });
});
