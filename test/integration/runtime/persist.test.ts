import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { luksVolume } from '../../fixtures/luks.ts';
import { repository, temporaryDirectory } from '../../support.ts';

/**
 * Runs runtime/persist/relive-persist in a root of its own with the programs of this host: fsck, mount and resize2fs work on
 * a real volume. Only udev is missing there, so that nothing waits for it.
 * @returns what it prints, then its status unless that is 0
 */
function persist(
  work: string,
  disk: string,
  conf: string,
  {
    twice = false,
    readOnly = false,
    luks = '',
    seed = '',
    afterwards = '',
  }: {
    /** Whether it is run again, with the volume mounted. */
    readonly twice?: boolean;
    readonly readOnly?: boolean;
    /** The text of luks.conf. */
    readonly luks?: string;
    /** A file whose content the image has for /srv/notes/big. */
    readonly seed?: string;
    /** What is run in the root then. */
    readonly afterwards?: string;
  } = {},
): string {
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
cp -a /dev/loop* /dev/null /dev/zero dev
mkdir -p usr/lib/relive run etc stand-in
mkdir -p dev/disk/by-label
device=$(losetup ${readOnly ? '--read-only' : ''} --find --show ${disk})
ln -s $device dev/disk/by-label/DATA
cp ${conf} usr/lib/relive/persist.conf
${luks === '' ? '' : `printf '${luks}' >usr/lib/relive/luks.conf`}
${seed === '' ? '' : `mkdir -p usr/lib/relive/seed/srv/notes srv && cp ${seed} usr/lib/relive/seed/srv/notes/big`}
cp ${repository}/runtime/persist/relive-persist persist
printf '#!/bin/sh\\n' >stand-in/udevadm
chmod 755 stand-in/udevadm
run() { chroot . /usr/bin/env PATH=/stand-in:/usr/sbin:/usr/bin:/sbin:/bin sh /persist || echo "status $?"; }
run
${twice ? 'rm run/relive/volumes/DATA; run; grep -c "/volumes/DATA " /proc/self/mounts' : ''}
${afterwards === '' ? '' : `chroot . /bin/sh -c '${afterwards}'`}
! mountpoint -q volumes/DATA || umount volumes/DATA
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

function configuration(
  work: string,
  grow: 'grow' | '-',
  required: 'required' | '-' = '-',
  seed = '-',
): string {
  const file = join(work, 'conf');
  writeFileSync(file, `/srv/notes\tDATA\tlink\t-\t0750\t${seed}\t${required}\t${grow}\n`);
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
  expect(persist(root, disk, configuration(work, '-'), { twice: true })).toBe('1\n');
});

/** What became of the volume, as `relive live status` says it. */
const stateOf = (root: string): string => readFileSync(join(root, 'run/relive/volumes/DATA'), 'utf8').trim();

/** A root beside the disk of a volume. */
function prepared(work = temporaryDirectory()): { work: string; root: string; disk: string } {
  const root = join(work, 'root');
  mkdirSync(root);
  return { work, root, disk: volume(work, '16M') };
}

test.each(['-', 'required'] as const)(
  'a volume on a disk that cannot be written is named (%s)',
  (required) => {
    const { work, root, disk } = prepared();
    const before = readFileSync(disk);
    const said = persist(root, disk, configuration(work, '-', required), {
      readOnly: true,
      afterwards: 'test -d /volumes/DATA/srv/notes || echo nowhere',
    });
    expect(said).toBe(
      required === '-'
        ? 'relive: /srv/notes is not kept: the volume DATA: it is read-only\n'
        : 'relive: stopped: the volume DATA for /srv/notes: it is read-only\nstatus 1\nnowhere\n',
    );
    expect(stateOf(root)).toBe('it is read-only');
    expect(readFileSync(disk).equals(before)).toBe(true);
  },
);

/** A volume without a free block, which has something at /srv/notes. */
function fullVolume(work: string): string {
  const tree = join(work, 'tree');
  mkdirSync(join(tree, 'srv/notes'), { recursive: true });
  writeFileSync(join(tree, 'srv/notes/log'), 'kept\n');
  const disk = join(work, 'full');
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-b', '4096', '-L', 'DATA', '-d', tree, disk, '8M'], {
    stdio: 'ignore',
  });
  const place = join(work, 'place');
  mkdirSync(place);
  // A block at a time: of a larger piece nothing is written where it does not fit. More than once: what was set aside for the first
  // file is free when that is on the disk.
  const fill = `mount -o loop ${disk} ${place} && for n in 1 2 3; do dd if=/dev/zero of=${place}/filler$n bs=4096; sync; done; umount ${place}`;
  execFileSync('unshare', ['--mount', '--', 'sh', '-c', fill], { stdio: 'ignore' });
  return disk;
}

test('what is on a full volume can be read, and the console says that it is full; where it is required it stops', () => {
  const { work, root } = prepared();
  const disk = fullVolume(work);
  const afterwards = 'cat /volumes/DATA/srv/notes/log';
  expect(persist(root, disk, configuration(work, '-'), { afterwards })).toBe(
    'relive: the volume DATA, with /srv/notes: it is full\nkept\n',
  );
  expect(stateOf(root)).toBe('it is full');

  const other = prepared();
  expect(persist(other.root, disk, configuration(other.work, '-', 'required'))).toBe(
    'relive: stopped: the volume DATA for /srv/notes: it is full\nstatus 1\n',
  );
});

test('where the volume has no room for what the image brings along, that is in RAM, and the rest of the volume is used', () => {
  const { work, root, disk } = prepared();
  const seed = join(work, 'seed');
  writeFileSync(seed, Buffer.alloc(20_000_000, 1));
  const conf = configuration(work, '-', '-', 'seed');
  writeFileSync(conf, `${readFileSync(conf, 'utf8')}/srv/other\tDATA\tlink\t-\t-\t-\t-\t-\n`);
  const said = persist(root, disk, conf, {
    seed,
    afterwards: 'stat -c %s /srv/notes/big; mountpoint -q /volumes/DATA && ls /volumes/DATA/srv',
  });
  expect(said).toBe(
    'relive: /srv/notes is not kept: the volume DATA: no room for /srv/notes, as the image has it\n20000000\nother\n',
  );
  expect(stateOf(root)).toBe('no room for /srv/notes, as the image has it');
});

test('what is encrypted is not opened without being told how, and nothing else is taken for what is to be encrypted', () => {
  const { work, root, disk } = prepared();
  const luks = 'DATA\\tKEYS\\t/key\\t-\\n';
  expect(persist(root, disk, configuration(work, '-'), { luks })).toContain(
    '/srv/notes is not kept: the volume DATA: it is not encrypted, and is to be',
  );
  const other = prepared();
  luksVolume(other.disk, randomBytes(64), Buffer.from('key'));
  expect(persist(other.root, other.disk, configuration(other.work, '-', 'required'))).toBe(
    'relive: stopped: the volume DATA for /srv/notes: it is encrypted, and the profile does not say what unlocks it (luks)\nstatus 1\n',
  );
});
