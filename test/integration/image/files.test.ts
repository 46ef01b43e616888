import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { parseStanzas } from '../../../src/debian/control.ts';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { readInitrd } from '../../fixtures/initrd.ts';
import { type BuiltSite, builtSite } from '../../fixtures/site.ts';
import { temporaryDirectory } from '../../support.ts';

let site: BuiltSite;
/** The files of the layers, bottom first. */
let layers: readonly string[];

beforeAll(async () => {
  site = await builtSite();
  layers = site.manifest.layers.map(({ digest }) =>
    join(site.store, 'live', `${digest.slice(0, 16)}.squashfs`),
  );
});

const sealed = [
  'SHA256SUMS',
  'SHA512SUMS',
  'boot.cfg',
  'boot.sha256',
  'initrd.img',
  'manifest.json',
  'vmlinuz',
];

function output(command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, {
    cwd: site.imageDirectory,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: 'pipe',
  });
}

test('an image has its files, each signed, and nothing else', () => {
  expect(readdirSync(site.imageDirectory).toSorted()).toEqual(
    sealed.flatMap((name) => [name, `${name}.sig`]).toSorted(),
  );
  expect(
    readdirSync(site.store)
      .filter((name) => name !== '.lock')
      .toSorted(),
  ).toEqual(['images', 'live']);
});

describe('the seal stands up to the usual tools', () => {
  test.each(['sha256sum', 'sha512sum'])('%s -c', (command) => {
    const sums = `${command.slice(0, -3).toUpperCase()}SUMS`;
    const lines = output(command, '--check', '--strict', sums).trimEnd().split('\n');
    expect(lines).toEqual([
      ...['manifest.json', 'boot.cfg', 'vmlinuz', 'initrd.img', 'boot.sha256'].map((name) => `${name}: OK`),
      ...site.manifest.layers.map(({ digest }) => `../../../live/${digest.slice(0, 16)}.squashfs: OK`),
    ]);
  });

  test('gpg --verify, with the key as relive exports it', async () => {
    const home = temporaryDirectory();
    const key = join(home, 'key.asc');
    await succeed(['keys', 'export', key], { site: site.directory });
    output('gpg', '--homedir', home, '--batch', '--import', key);
    for (const name of sealed) {
      const status = output(
        'gpg',
        '--homedir',
        home,
        '--batch',
        '--status-fd',
        '1',
        '--verify',
        `${name}.sig`,
        name,
      );
      expect(status).toMatch(/^\[GNUPG:\] VALIDSIG /m);
    }
  });

  test('gpgv, with the binary keyring', async () => {
    const keyring = join(temporaryDirectory(), 'key.gpg');
    expect((await runCommand(['keys', 'export', keyring, '--binary'], { site: site.directory })).status).toBe(
      0,
    );
    for (const name of sealed) output('gpgv', '--keyring', keyring, `${name}.sig`, name);
  });

  test('signatures are RSA, which is what GRUB can check', () => {
    // Algorithm 1 is RSA, digest 8 is SHA-256 (RFC 4880, 9.1 and 9.4).
    expect(output('gpg', '--list-packets', 'boot.cfg.sig')).toMatch(
      /signature packet: algo 1,[^]*digest algo 8,/,
    );
  });
});

describe('the layers', () => {
  test('are SquashFS as the profile wants them, none younger than the packages', () => {
    for (const layer of layers) {
      const statistics = output('unsquashfs', '-s', layer);
      expect(statistics).toContain('Compression zstd\n\tcompression-level 9\n');
      const made = /time (.*)\n/.exec(output('env', 'TZ=UTC', 'unsquashfs', '-s', layer))?.[1] ?? '';
      expect(Date.parse(`${made} UTC`)).toBe(site.manifest.sourceDateEpoch * 1000);
    }
  });

  test('are stacked base first: the kernel layer has kernel and modules, the base the rest', () => {
    const stack = readFileSync(join(site.store, 'live', `${site.image}.module`), 'utf8');
    expect(stack).toBe(layers.map((layer) => `${layer.split('/').at(-1) ?? ''}\n`).join(''));
    expect(site.manifest.layers.map(({ role }) => role)).toEqual(['base', 'kernel']);
    const [base = '', kernel = ''] = layers.map((layer) => output('unsquashfs', '-l', '-d', '', layer));
    const version = site.manifest.kernel.version;
    const ofKernel = new RegExp(`^/(boot|usr|usr/lib|usr/lib/modules)?$|^/(boot|usr/lib/modules)/`);
    expect(
      kernel
        .trimEnd()
        .split('\n')
        .filter((path) => path !== '' && !ofKernel.test(path)),
    ).toEqual([]);
    expect(kernel).toContain(`\n/boot/vmlinuz-${version}\n`);
    expect(kernel).toContain(`\n/usr/lib/modules/${version}/modules.dep\n`);
    expect(base).not.toMatch(/^\/(boot|usr\/lib\/modules)\/./m);
    for (const path of [
      '/boot',
      '/usr/lib/modules',
      '/usr/lib/systemd/systemd',
      '/etc/passwd',
      '/home/demo',
    ]) {
      expect(base).toContain(`\n${path}\n`);
    }
  });

  test('have hash trees that prove them', () => {
    for (const [index, layer] of layers.entries()) {
      const { digest, verity } = site.manifest.layers[index] ?? { digest: '', verity: { root: '' } };
      const tree = layer.replace('.squashfs', '.verity');
      const words = ['--no-superblock', '--hash=sha256', `--salt=${digest}`, layer, tree, verity.root];
      expect(output('veritysetup', 'verify', ...words)).toBe('');
    }
  });

  test('have what the manifest says: packages, kernel, times', () => {
    const [base = '', kernel = ''] = layers;
    const status = output('unsquashfs', '-cat', base, 'var/lib/dpkg/status');
    const installed = parseStanzas(status, 'status');
    expect(installed.filter((stanza) => stanza.get('status') !== 'install ok installed')).toEqual([]);
    expect(
      installed
        .map((stanza) => [stanza.get('package'), stanza.get('version'), stanza.get('architecture')].join(' '))
        .toSorted(),
    ).toEqual(
      site.manifest.packages
        .map(({ name, version, architecture }) => [name, version, architecture].join(' '))
        .toSorted(),
    );
    const inside = execFileSync(
      'unsquashfs',
      ['-cat', kernel, `boot/vmlinuz-${site.manifest.kernel.version}`],
      { maxBuffer: 2 ** 28 },
    );
    expect(inside.equals(readFileSync(join(site.imageDirectory, 'vmlinuz')))).toBe(true);
  });
});

describe('boot.cfg', () => {
  test('is a script for GRUB that names image and manifest', () => {
    const text = readFileSync(join(site.imageDirectory, 'boot.cfg'), 'utf8');
    expect(output('grub-script-check', 'boot.cfg')).toBe('');
    const digest = output('sha256sum', 'manifest.json').slice(0, 64);
    expect(text).toContain(` 'boot=live' 'module=${site.image}' `);
    expect(text).toContain(` 'relive.manifest=sha256:${digest}' `);
    expect(text).toContain(` 'console=ttyS0,115200'\n`);
  });

  test('kernel and initrd are those of the manifest, and can mount the layers', () => {
    const { version } = site.manifest.kernel;
    expect(output('file', '--brief', 'vmlinuz')).toContain(`version ${version}`);
    const names = [...readInitrd(join(site.imageDirectory, 'initrd.img')).keys()];
    const modules = `(usr/)?lib/modules/${version.replaceAll('+', '\\+')}/kernel`;
    const needed = ['init', 'scripts/live', 'squashfs.ko', 'overlay.ko', 'loop.ko', 'dm-verity.ko'].map(
      (name) => new RegExp(name.endsWith('.ko') ? `^${modules}/.*/${name}` : `^${name}$`),
    );
    expect(needed.filter((path) => !names.some((name) => path.test(name)))).toEqual([]);
    // Ours must be the last that live-boot sources: it replaces what fails open.
    const sourced = names.flatMap((name) => /^usr\/lib\/live\/boot\/([^/]{4}-.*)$/.exec(name)?.[1] ?? []);
    expect(sourced.toSorted().at(-1)).toBe('9999-relive');
    expect(names).toContain('usr/sbin/dmsetup');
  });
});
