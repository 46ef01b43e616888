import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readInitrd } from '../../fixtures/initrd.ts';
import { type BuiltSite, buildHost, builtSite } from '../../fixtures/site.ts';

let site: BuiltSite;
let root: string;

beforeAll(async () => {
  site = await builtSite();
  root = join(mkdtempSync(join(tmpdir(), 'relive-test-')), 'root');
  for (const { digest } of site.manifest.layers) {
    const layer = join(site.store, 'live', `${digest.slice(0, 16)}.squashfs`);
    execFileSync('unsquashfs', ['-quiet', '-no-progress', '-force', '-dest', root, layer], { stdio: 'pipe' });
  }
});
afterAll(() => rmSync(join(root, '..'), { recursive: true, force: true }));

/** The files below a directory, as paths from the root. */
function filesBelow(directory: string): string[] {
  return readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .toSorted();
}

/** The files of the system, and those in its initrd, in which one of the texts stands. */
function holding(...texts: readonly (string | Buffer)[]): string[] {
  const system = filesBelow('').filter((path) => {
    const content = readFileSync(join(root, path));
    return texts.some((text) => content.includes(text));
  });
  const initrd = [...readInitrd(join(site.imageDirectory, 'initrd.img'))]
    .filter(([, content]) => texts.some((text) => content.includes(text)))
    .map(([path]) => `initrd:${path}`);
  return [...system, ...initrd];
}

describe('nothing of the build host is in the system', () => {
  test('neither its name, nor a path of the build, nor a mirror', () => {
    // That the search finds something where there is something.
    expect(holding('ExecStart=/usr/lib/relive/health')).toEqual([
      'usr/lib/systemd/system/relive-health.service',
    ]);
    expect(
      holding(
        buildHost,
        site.directory,
        site.mirror,
        '/run/relive/mirror',
        '/run/relive/keyring',
        '/stages/',
      ),
    ).toEqual([]);
  });

  test('its resolver is not the system’s', () => {
    expect(readlinkSync(join(root, 'etc/resolv.conf'))).toBe('../run/systemd/resolve/stub-resolv.conf');
    const servers = readFileSync('/etc/resolv.conf', 'utf8').matchAll(
      /^(?:nameserver|search|domain)\s+(.*)$/gm,
    );
    const own = [...servers]
      .flatMap(([, words]) => words?.split(/\s+/) ?? [])
      .filter((word) => word.length > 3);
    const resolving = ['etc/hosts', 'etc/nsswitch.conf', 'etc/systemd/resolved.conf'].filter((path) =>
      existsSync(join(root, path)),
    );
    const text = resolving.map((path) => readFileSync(join(root, path), 'utf8')).join('');
    expect(own.filter((word) => text.includes(word))).toEqual([]);
  });

  test('its name and that of the profile are apart', () => {
    expect(readFileSync(join(root, 'etc/hostname'), 'utf8')).toBe('demo\n');
    expect(readFileSync(join(root, 'etc/hosts'), 'utf8')).toContain('127.0.1.1\tdemo\n');
  });
});

describe('nothing in the system is a secret or an identity', () => {
  test('the machine-id is empty: a machine gets its own at its first boot', () => {
    expect(readFileSync(join(root, 'etc/machine-id'), 'utf8')).toBe('');
    expect(existsSync(join(root, 'var/lib/dbus/machine-id'))).toBe(false);
  });

  test('no ssh host key, no random seed, no credential secret', () => {
    expect(filesBelow('etc').filter((path) => /ssh_host_/.test(path))).toEqual([]);
    for (const name of ['random-seed', 'credential.secret']) {
      expect(existsSync(join(root, 'var/lib/systemd', name))).toBe(false);
    }
  });

  test('no part of the signing key is in the image or in the cache', () => {
    const home = join(site.keys, 'gnupg/private-keys-v1.d');
    const stored = readdirSync(home).map((name) => readFileSync(join(home, name), 'latin1'));
    // (d #00A1...#)(p #...#)(q #...#)(u #...#), folded; some bytes of each secret number, as text and as they are.
    const secrets = stored.flatMap((text) =>
      [...text.replaceAll(/\s/g, '').matchAll(/\(([dpqu])#([0-9A-F]+)#\)/g)].map(([, , hex]) => hex ?? ''),
    );
    expect(secrets.length).toBeGreaterThanOrEqual(4);
    const needles = secrets.flatMap((hex) => {
      const part = hex.slice(16, 64);
      return [
        part,
        part.toLowerCase(),
        Buffer.from(part, 'hex'),
        Buffer.from(part, 'hex').toString('base64'),
      ];
    });
    expect(holding(...needles)).toEqual([]);
    const outside = [site.store, join(site.directory, '.relive')].flatMap((top) =>
      readdirSync(top, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
    );
    expect(outside.length).toBeGreaterThan(5000);
    expect(
      outside.filter((path) => {
        const content = readFileSync(path);
        return needles.some((needle) => content.includes(needle));
      }),
    ).toEqual([]);
  });
});

describe('nothing of the build is left', () => {
  test.each(['dev', 'proc', 'sys', 'run', 'tmp', 'var/tmp', 'var/backups', 'media', 'mnt'])(
    '/%s is empty',
    (path) => {
      expect(readdirSync(join(root, path))).toEqual([]);
    },
  );

  test('directories that others may write to have the right modes', () => {
    expect([statSync(join(root, 'tmp')).mode, statSync(join(root, 'var/tmp')).mode]).toEqual([
      0o041777, 0o041777,
    ]);
    expect(statSync(root).mode).toBe(0o040755);
  });

  test('no lists, no archives, no logs', () => {
    expect(filesBelow('var/lib/apt/lists')).toEqual([]);
    expect(filesBelow('var/cache/apt')).toEqual([]);
    expect(filesBelow('var/cache/ldconfig')).toEqual([]);
    expect(filesBelow('var/log').filter((path) => statSync(join(root, path)).size > 0)).toEqual([]);
  });

  test('no copies of what was there before', () => {
    const copies =
      /(?:^etc\/(?:passwd|group|shadow|gshadow|subuid|subgid)-|-old|\.dpkg-(?:old|new|tmp|dist)|\.ucf-\w+|~)$/;
    expect([...filesBelow('etc'), ...filesBelow('var')].filter((path) => copies.test(path))).toEqual([]);
  });

  test('no way of keeping services or the initramfs from starting', () => {
    expect(existsSync(join(root, 'usr/sbin/policy-rc.d'))).toBe(false);
    const diverted = execFileSync('dpkg-divert', ['--root', root, '--list'], { encoding: 'utf8' });
    expect(diverted.split('\n').filter((line) => line.startsWith('local'))).toEqual([]);
    expect(statSync(join(root, 'usr/sbin/update-initramfs')).size).toBeGreaterThan(1000);
    expect(filesBelow('usr/sbin').filter((path) => /\.(?:held|distrib|diverted|REAL)$/.test(path))).toEqual(
      [],
    );
  });

  test('no settings of the tools: apt and dpkg of the system are as Debian delivers them', () => {
    expect(readdirSync(join(root, 'etc/apt/apt.conf.d')).toSorted()).toEqual(['01autoremove', '70debconf']);
    expect(readdirSync(join(root, 'etc/dpkg/dpkg.cfg.d'))).toEqual([]);
    expect(existsSync(join(root, 'etc/apt/sources.list'))).toBe(false);
    expect(readdirSync(join(root, 'etc/apt/sources.list.d'))).toEqual(['relive.sources']);
  });

  test('no device, pipe or socket', () => {
    const special = readdirSync(root, { recursive: true, withFileTypes: true }).filter(
      (entry) => !entry.isFile() && !entry.isDirectory() && !entry.isSymbolicLink(),
    );
    expect(special.map((entry) => join(entry.parentPath, entry.name))).toEqual([]);
  });

  test('every file of a package is there and as it was delivered, save what the profile replaces', () => {
    // dpkg(1), --verify: nothing else is printed of what is right.
    const { stdout } = spawnSync('dpkg', ['--root', root, '--verify'], { encoding: 'utf8' });
    expect(stdout.trim().split('\n')).toEqual(['??5?????? c /etc/issue']);
  });

  test('no time is later than that of the newest package', () => {
    const latest = site.manifest.sourceDateEpoch * 1000;
    const entries = readdirSync(root, { recursive: true, withFileTypes: true });
    const paths = [root, ...entries.map((entry) => join(entry.parentPath, entry.name))];
    const later = paths.filter((path) => lstatSync(path).mtimeMs > latest);
    expect(later).toEqual([]);
  });
});
