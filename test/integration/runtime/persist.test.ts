import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repository, temporaryDirectory } from '../../support.ts';

/**
 * Runs runtime/persist/relive-persist in a root of its own with the programs of this host: fsck, mount and resize2fs work on
 * a real volume. Only udev is missing there, so that nothing waits for it.
 * @param twice whether it is run again, with the volume mounted
 * @returns what it prints
 */
function persist(work: string, disk: string, conf: string, twice = false): string {
  const script = `set -e
cd ${work}
for part in bin sbin lib lib64 usr/bin usr/sbin usr/lib/x86_64-linux-gnu sys proc; do
	[ -e /$part ] || continue
	mkdir -p $part
	mount --bind /$part $part
done
# Devices of its own, for a link that udev would make.
mkdir dev
mount -t tmpfs tmpfs dev
cp -a /dev/loop* /dev/null dev
mkdir -p usr/lib/relive run etc stand-in
mkdir -p dev/disk/by-label
device=$(losetup --find --show ${disk})
ln -s $device dev/disk/by-label/DATA
cp ${conf} usr/lib/relive/persist.conf
cp ${repository}/runtime/persist/relive-persist persist
printf '#!/bin/sh\\n' >stand-in/udevadm
chmod 755 stand-in/udevadm
run() { chroot . /usr/bin/env PATH=/stand-in:/usr/sbin:/usr/bin:/sbin:/bin sh /persist; }
run
${twice ? 'rm run/relive/volumes/DATA; run; grep -c "/volumes/DATA " /proc/self/mounts' : ''}
umount volumes/DATA
losetup --detach $device`;
  const { status, stdout, stderr } = spawnSync('unshare', ['--mount', '--', 'dash', '-c', script], {
    encoding: 'utf8',
  });
  expect({ status, stderr: stderr.replaceAll(/.*tty.*\n/g, '') }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

function volume(work: string, bytes: string): string {
  const disk = join(work, 'disk');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-b', '4096', '-L', 'DATA', disk, '16M'], { stdio: 'ignore' });
  execFileSync('truncate', [`--size=${bytes}`, disk]);
  return disk;
}

const blocks = (disk: string): number => {
  const text = execFileSync('dumpe2fs', ['-h', disk], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return Number(/^Block count: +(\d+)$/m.exec(text)?.[1]);
};

function configuration(work: string, grow: 'grow' | '-'): string {
  const file = join(work, 'conf');
  writeFileSync(file, `/srv/notes\tDATA\tlink\t-\t0750\t-\t-\t${grow}\n`);
  return file;
}

/** CAP_SYS_RESOURCE (capabilities(7)), which ext4 asks for; containers seldom have it, machines do: test/boot/persist.test.ts. */
const mayResize =
  ((BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`) >>
    24n) &
    1n) ===
  1n;

test.skipIf(!mayResize)('a volume that is to grow gets as large as its disk, and is used', () => {
  const work = temporaryDirectory();
  const disk = volume(work, '32M');
  const root = join(work, 'root');
  mkdirSync(root);
  expect(persist(root, disk, configuration(work, 'grow'))).toBe('');
  expect(blocks(disk)).toBe(8192);
  expect(readFileSync(join(root, 'run/relive/volumes/DATA'), 'utf8')).toBe('ok\n');
  expect(
    execFileSync('debugfs', ['-R', 'stat /srv/notes', disk], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  ).toContain('Mode:  0750');
});

test.skipIf(mayResize)('a volume that cannot grow is used as it is, and the console says why', () => {
  const work = temporaryDirectory();
  const disk = volume(work, '32M');
  const root = join(work, 'root');
  mkdirSync(root);
  expect(persist(root, disk, configuration(work, 'grow'))).toMatch(
    /^relive: the volume DATA could not grow: resize2fs: Permission denied/,
  );
  expect(readFileSync(join(root, 'run/relive/volumes/DATA'), 'utf8')).toBe('ok\n');
});

test('a volume that is not to grow stays as it is', () => {
  const work = temporaryDirectory();
  const disk = volume(work, '32M');
  const root = join(work, 'root');
  mkdirSync(root);
  persist(root, disk, configuration(work, '-'));
  expect(blocks(disk)).toBe(4096);
});

test('a volume that is mounted already is neither checked nor mounted again', () => {
  const work = temporaryDirectory();
  const disk = volume(work, '16M');
  const root = join(work, 'root');
  mkdirSync(root);
  expect(persist(root, disk, configuration(work, '-'), true)).toBe('1\n');
});
