import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { repository, temporaryDirectory } from '../../support.ts';

const id = '0123456789abcdef0123456789abcdef';
let work: string;

function put(path: string, text: string, mode = 0o644): void {
  const file = join(work, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  chmodSync(file, mode);
}

function read(path: string): string {
  return readFileSync(join(work, path), 'utf8');
}

beforeEach(() => {
  work = temporaryDirectory();
});

/** Runs relive_identity with a volume that has the files below volume/; the real mount, in a namespace of its own. */
function restore(): void {
  const disk = join(work, 'disk');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', join(work, 'volume'), disk, '8M'], { stdio: 'ignore' });
  const before = readFileSync(disk);
  const script = `
. ${repository}/runtime/initramfs/relive
relive_home=${work}/home
rootmnt=${work}/root
device=$(losetup --find --show ${disk})
mount -t tmpfs tmpfs /dev/disk
mkdir /dev/disk/by-label
ln -s $device /dev/disk/by-label/DATA
relive_identity
losetup --detach $device
umount /dev/disk
rmdir /dev/disk 2>/dev/null || true`;
  mkdirSync(join(work, 'home'));
  const made = spawnSync('unshare', ['--mount', '--', 'dash', '-c', `mkdir -p /dev/disk\n${script}`], {
    encoding: 'utf8',
  });
  expect({ status: made.status, stderr: made.stderr }).toEqual({ status: 0, stderr: '' });
  expect(readFileSync(disk).equals(before)).toBe(true);
}

/** Runs runtime/persist/relive-identity on a tree, in a root of its own with the programs of this host. */
function keep(): void {
  const script = `set -e
for part in bin sbin lib lib64 usr/bin usr/lib/x86_64-linux-gnu sys proc dev; do
	[ -e /$part ] || continue
	mkdir -p ${work}/$part
	mount --bind /$part ${work}/$part
done
cp ${repository}/runtime/persist/relive-identity ${work}/identity
chroot ${work} /bin/sh /identity`;
  const made = spawnSync('unshare', ['--mount', '--', 'dash', '-c', script], { encoding: 'utf8' });
  expect({ status: made.status, stderr: made.stderr }).toEqual({ status: 0, stderr: '' });
}
/** What is on the volume: paths and modes. */
const listed = (): string =>
  execFileSync('find', ['.', '-type', 'f', '-printf', '%P %m\n'], {
    cwd: join(work, 'volumes/DATA'),
    encoding: 'utf8',
  })
    .trim()
    .split('\n')
    .toSorted()
    .join(', ');

describe('the initramfs', () => {
  beforeEach(() => {
    put('root/usr/lib/relive/identity.conf', 'DATA\tmachine-id ssh-host-keys hostname\nimage-name\n');
    put('root/etc/machine-id', 'uninitialized\n');
    put('root/etc/hostname', 'image-name\n');
    put('root/etc/hosts', '127.0.0.1\tlocalhost\n127.0.1.1\timage-name\n');
    mkdirSync(join(work, 'root/etc/ssh'));
    mkdirSync(join(work, 'volume/etc/ssh'), { recursive: true });
  });

  test('puts what the volume has into the root, and changes nothing of the volume', () => {
    put('volume/etc/machine-id', `${id}\n`);
    put('volume/etc/hostname', 'desk-7.example.org\n');
    put('volume/etc/ssh/ssh_host_ed25519_key', 'a private key\n', 0o600);
    put('volume/etc/ssh/ssh_host_ed25519_key.pub', 'a public key\n');
    restore();
    expect(read('root/etc/machine-id')).toBe(`${id}\n`);
    expect(read('root/etc/hostname')).toBe('desk-7.example.org\n');
    expect(read('root/etc/hosts')).toBe('127.0.0.1\tlocalhost\n127.0.1.1\tdesk-7.example.org\n');
    expect(read('root/etc/ssh/ssh_host_ed25519_key')).toBe('a private key\n');
    expect(statSync(join(work, 'root/etc/ssh/ssh_host_ed25519_key')).mode & 0o777).toBe(0o600);
    expect(statSync(join(work, 'root/etc/ssh/ssh_host_ed25519_key.pub')).mode & 0o777).toBe(0o644);
  });

  test('takes nothing that is no id, no name and no file', () => {
    put('volume/etc/machine-id', `${id.slice(0, 31)}G\n`);
    put('volume/etc/hostname', 'a/b; reboot\n');
    symlinkSync('/etc/shadow', join(work, 'volume/etc/ssh/ssh_host_rsa_key'));
    put('volume/etc/ssh/other', 'something else\n');
    restore();
    expect(read('root/etc/machine-id')).toBe('uninitialized\n');
    expect(read('root/etc/hostname')).toBe('image-name\n');
    expect(read('root/etc/hosts')).toContain('image-name');
    expect(execFileSync('ls', [join(work, 'root/etc/ssh')], { encoding: 'utf8' })).toBe('');
  });

  test('an empty volume leaves the root as it is', () => {
    restore();
    expect(read('root/etc/machine-id')).toBe('uninitialized\n');
    expect(read('root/etc/hostname')).toBe('image-name\n');
  });
});

describe('the running system', () => {
  beforeEach(() => {
    put('usr/lib/relive/identity.conf', 'DATA\tmachine-id ssh-host-keys hostname\nimage-name\n');
    put('run/relive/volumes/DATA', 'ok\n');
    put('etc/machine-id', `${id}\n`, 0o444);
    put('etc/hostname', 'image-name\n');
    put('etc/ssh/ssh_host_ed25519_key', 'a private key\n', 0o600);
    put('etc/ssh/sshd_config', 'not kept\n');
    mkdirSync(join(work, 'volumes/DATA'), { recursive: true });
  });

  test('writes to the volume what it does not have, and the name only where it is not that of the image', () => {
    keep();
    expect(listed()).toBe('etc/machine-id 444, etc/ssh/ssh_host_ed25519_key 600');
    expect(read('volumes/DATA/etc/machine-id')).toBe(`${id}\n`);
    put('etc/hostname', 'desk-7\n');
    put('etc/ssh/ssh_host_ed25519_key', 'another private key\n', 0o600);
    keep();
    expect(read('volumes/DATA/etc/hostname')).toBe('desk-7\n');
    expect(read('volumes/DATA/etc/ssh/ssh_host_ed25519_key')).toBe('another private key\n');
    put('etc/hostname', 'image-name\n');
    keep();
    expect(listed()).not.toContain('hostname');
  });

  test('does nothing without the volume', () => {
    put('run/relive/volumes/DATA', 'no disk has it\n');
    keep();
    expect(listed()).toBe('');
  });
});
