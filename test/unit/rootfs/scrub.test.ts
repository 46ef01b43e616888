import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { scrub } from '../../../src/rootfs/scrub.ts';
import { temporaryDirectory } from '../../support.ts';

function write(root: string, path: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), path);
}

describe('what tells of the machine or the moment of the build', () => {
  test.each([
    'etc/passwd-',
    'etc/shadow-',
    'etc/ssh/ssh_host_ed25519_key',
    'etc/ssh/ssh_host_ed25519_key.pub',
    'root/.bash_history',
    'var/backups/dpkg.status.0',
    'var/cache/apt/archives/x_1_all.deb',
    'var/cache/apt/archives/partial/x',
    'var/cache/apt/pkgcache.bin',
    'var/cache/debconf/config.dat-old',
    'var/cache/ldconfig/aux-cache',
    'var/lib/apt/lists/x_dists_trixie_InRelease',
    'var/lib/dbus/machine-id',
    'var/lib/dpkg/status-old',
    'var/lib/systemd/random-seed',
    'var/lib/systemd/credential.secret',
    'var/log/apt/history.log',
    'var/log/dpkg.log',
    'var/log/journal/0123/system.journal',
    'var/tmp/x',
  ])('%s goes', async (path) => {
    const root = temporaryDirectory();
    write(root, path);
    await scrub(root);
    expect(existsSync(join(root, path))).toBe(false);
  });

  test('the machine-id and other logs are emptied: their files, owners and modes stay', async () => {
    const root = temporaryDirectory();
    const paths = ['etc/machine-id', 'var/log/faillog', 'var/log/wtmp'];
    for (const path of paths) write(root, path);
    await scrub(root);
    expect(paths.map((path) => readFileSync(join(root, path), 'utf8'))).toEqual(['', '', '']);
  });
});

/** Accounts of all kinds; the first four without a password have these days. */
function shadowFile(days: readonly string[]): string {
  return [
    `root:*:${days[0]}:0:99999:7:::`,
    `sshd:!:${days[1]}:0:99999:7:::`,
    `messagebus:!*:${days[2]}::::::`,
    `systemd-network:!*:${days[3]}:::::1:`,
    'admin:$y$j9T$x$y:20100:0:99999:7:::',
    'guest::20100:0:99999:7:::',
    'aged:!:20100:0:90:7:::',
    'must:*:0:0:99999:7:::',
    '',
  ].join('\n');
}

test('accounts without a password have no day of its last change; passwords and rules for their age keep theirs', async () => {
  const root = temporaryDirectory();
  write(root, 'etc/shadow');
  writeFileSync(join(root, 'etc/shadow'), shadowFile(['20100', '20101', '20102', '20103']));
  await scrub(root);
  expect(readFileSync(join(root, 'etc/shadow'), 'utf8')).toBe(shadowFile(['', '', '', '']));
});

test('what belongs to the system stays', async () => {
  const root = temporaryDirectory();
  const paths = [
    'etc/passwd',
    'etc/ssh/ssh_config',
    'etc/ssh/own_key',
    'var/lib/dpkg/status',
    'var/log/nginx/access.log',
  ];
  for (const path of paths) write(root, path);
  await scrub(root);
  expect(paths.filter((path) => readFileSync(join(root, path), 'utf8') !== path)).toEqual([]);
});

test("apt's own directories stay", async () => {
  const root = temporaryDirectory();
  const kept = ['var/cache/apt/archives/partial', 'var/lib/apt/lists/partial', 'var/lib/apt/mirrors/partial'];
  for (const path of kept) write(root, `${path}/x`);
  await scrub(root);
  expect(kept.map((path) => readdirSync(join(root, path)))).toEqual([[], [], []]);
});

test('an empty tree is no error', async () => {
  const root = temporaryDirectory();
  await scrub(root);
  expect(readdirSync(root)).toEqual([]);
});

test.each(['var/backups', 'var/lib', 'etc/ssh', 'var/log/apt', 'etc/machine-id', 'var/log'])(
  'a link at %s leads to nothing that is removed or emptied',
  async (path) => {
    const outside = temporaryDirectory();
    const kept = ['x', 'ssh_host_rsa_key', 'dpkg/status-old', 'apt/lists/y'];
    for (const name of kept) write(outside, name);
    const root = join(temporaryDirectory(), 'root');
    mkdirSync(dirname(join(root, path)), { recursive: true });
    symlinkSync(path === 'etc/machine-id' ? join(outside, 'x') : outside, join(root, path));
    await scrub(root);
    expect(kept.filter((name) => !existsSync(join(outside, name)))).toEqual([]);
    expect(readFileSync(join(outside, 'x'), 'utf8')).toBe('x');
  },
);
