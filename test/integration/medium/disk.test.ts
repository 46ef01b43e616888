import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  cpSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type CommandEnd, runCommand, startCommand, succeed } from '../../fixtures/command.ts';
import { containing } from '../../fixtures/expecting.ts';
import { addTinyImage, makeTinyStore, type TinyStore } from '../../fixtures/guest.ts';
import { throughNobody } from '../../fixtures/nobody.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { slowTests, temporaryDirectory } from '../../support.ts';

let key: SigningKey;
let tiny: TinyStore;
const first = 'tiny-20261122.01';
const second = 'tiny-20261122.02';
const third = 'tiny-20261122.03';

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  tiny = makeTinyStore('healthy', key);
});
afterAll(() => {
  tiny.remove();
  key.remove();
});

/** A site of our own with the first tiny image, and more of them. */
function siteWith(...versions: readonly string[]): string {
  const site = temporaryDirectory();
  cpSync(tiny.site, site, { recursive: true });
  for (const version of versions) addTinyImage(site, 'healthy', key, version, `layer of ${version}\n`);
  return site;
}

interface Made {
  readonly site: string;
  readonly disk: string;
  readonly medium: (...args: readonly string[]) => Promise<CommandEnd>;
}

async function makeDisk(
  options: { readonly versions?: readonly string[]; readonly args?: readonly string[] } = {},
): Promise<Made> {
  const site = siteWith(...(options.versions ?? []));
  const disk = join(temporaryDirectory(), 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '512M', ...(options.args ?? [])], { site });
  return {
    site,
    disk,
    medium: async (command = '', ...args) => await runCommand(['medium', command, disk, ...args], { site }),
  };
}

const findingsOf = ({ lines }: CommandEnd): string[] =>
  lines.filter(({ event }) => event === 'finding').map(({ kind, path }) => `${String(kind)} ${String(path)}`);

/** Where a partition begins and ends, in bytes, as partx reads it. */
function partition(disk: string, name: string): { readonly offset: number; readonly bytes: number } {
  const text = execFileSync('partx', ['--pairs', '--output', 'NAME,START,SECTORS', disk], {
    encoding: 'utf8',
  });
  const line = text.split('\n').find((one) => one.startsWith(`NAME="${name}" `));
  const [start, sectors] = Array.from(line?.matchAll(/"(\d+)"/g) ?? [], ([, number]) => Number(number));
  if (start === undefined || sectors === undefined) throw new Error(`no partition ${name} in:\n${text}`);
  return { offset: start * 512, bytes: sectors * 512 };
}

function flip(file: string, at: number): void {
  const handle = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(handle, byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0xff;
  writeSync(handle, byte, 0, 1, at);
  closeSync(handle);
}

function patch(file: string, at: number, value: number): void {
  const handle = openSync(file, 'r+');
  writeSync(handle, Buffer.of(value), 0, 1, at);
  closeSync(handle);
}

function debugfs(disk: string, command: string, write = false): string {
  const { offset } = partition(disk, 'RELIVE');
  return execFileSync('debugfs', [...(write ? ['-w'] : []), '-R', command, `${disk}?offset=${offset}`], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** The images on a medium, by GRUB's own reading of its file system. */
function seenByGrub(disk: string, store = 'gpt3'): string {
  return execFileSync('grub-fstest', [disk, 'ls', '--', '-l', `(loop0,${store})/images/tiny/`], {
    encoding: 'utf8',
  });
}

/** Whether root has CAP_SYS_RESOURCE (capabilities(7)), without which the kernel grows no mounted file system. */
function maySetLimits(): boolean {
  const [, capabilities = ''] =
    /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return ((BigInt(`0x${capabilities}`) >> 24n) & 1n) === 1n;
}

/** A disk of its own out of a file, until the test has ended. */
function loopDevice(file: string, sectorSize = 512): string {
  const name = execFileSync(
    'losetup',
    ['--find', '--show', '--sector-size', String(sectorSize), '--partscan', file],
    {
      encoding: 'utf8',
    },
  ).trim();
  onTestFinished(() => {
    // The test may have given it back, and another test taken it.
    const ours = execFileSync('losetup', ['--noheadings', '--output', 'NAME', '--associated', file], {
      encoding: 'utf8',
    });
    if (ours.split('\n').includes(name)) execFileSync('losetup', ['--detach', name]);
  });
  return name;
}

describe('a disk file', () => {
  test('is a medium that other tools find in order, and sparse', async () => {
    const { disk, medium } = await makeDisk({ args: ['--volume', 'DATA:64M,HOME'] });
    const checked = execFileSync('sgdisk', ['--verify', '--print', disk], { encoding: 'utf8' });
    expect(checked).toContain('No problems found');
    expect(
      checked.match(/^ +\d .*$/gm)?.map((line) => line.trim().split(/ {2,}/).slice(4).join(' ')),
    ).toEqual(['EF02 RELIVE BIOS', 'EF00 RELIVE EFI', '8300 DATA', '8300 HOME', '8300 RELIVE']);
    for (const label of ['DATA', 'HOME', 'RELIVE']) {
      const { offset } = partition(disk, label);
      expect(execFileSync('blkid', ['-p', '-O', String(offset), disk], { encoding: 'utf8' })).toMatch(
        new RegExp(`LABEL="${label}".* TYPE="ext4"`),
      );
      execFileSync('e2fsck', ['-fn', `${disk}?offset=${offset}`], { stdio: 'ignore' });
    }
    const efi = partition(disk, 'RELIVE EFI');
    const copy = join(temporaryDirectory(), 'efi.img');
    execFileSync(
      'dd',
      [`if=${disk}`, `of=${copy}`, 'bs=1M', `skip=${efi.offset / 2 ** 20}`, `count=${efi.bytes / 2 ** 20}`],
      { stdio: 'ignore' },
    );
    execFileSync('fsck.vfat', ['-n', copy]);
    expect(statSync(disk).size).toBe(512 * 2 ** 20);
    expect(statSync(disk).blocks * 512).toBeLessThan(64 * 2 ** 20);
    expect(await medium('verify')).toMatchObject({ status: 0, last: { ok: true, images: { [first]: 0 } } });
  });

  test('has the image where GRUB finds it', async () => {
    const { disk } = await makeDisk();
    expect(seenByGrub(disk)).toContain('20261122.01/');
  });

  test('with sectors of 4096 bytes: a device with such sectors reads it', async () => {
    const { site, disk, medium } = await makeDisk({ args: ['--sector-size', '4096'] });
    addTinyImage(site, 'healthy', key, '20261122.02', 'another\n');
    expect(await medium('sync')).toMatchObject({
      status: 0,
      // The menu is made when it is shown: GRUB itself is the same.
      last: { added: [second], grub: [] },
    });
    expect(await medium('verify')).toMatchObject({ status: 0 });
    const device = loopDevice(disk, 4096);
    expect(execFileSync('sgdisk', ['--verify', device], { encoding: 'utf8' })).toContain('No problems found');
    expect(await runCommand(['medium', 'verify', device], { site })).toMatchObject({ status: 0 });
  });
});

test('a device is made into a medium, brought up to date and checked', async () => {
  const site = siteWith();
  const file = join(temporaryDirectory(), 'disk');
  writeFileSync(file, '');
  truncateSync(file, 256 * 2 ** 20);
  execFileSync('mke2fs', ['-q', '-F', '-L', 'PRECIOUS', file]);
  const device = loopDevice(file);
  const refused = await runCommand(['medium', 'create', device], { site });
  expect(refused).toMatchObject({ status: 2, last: { code: 'usage', hint: containing('--yes') } });
  expect(JSON.stringify(refused.last)).toMatch(/ext[24] \\"PRECIOUS\\"/);
  expect(execFileSync('e2label', [file], { encoding: 'utf8' }).trim()).toBe('PRECIOUS');
  await succeed(['medium', 'create', device, '--yes'], { site });
  addTinyImage(site, 'healthy', key, '20261122.02', 'another\n');
  expect(await succeed(['medium', 'sync', device, '--keep', '1'], { site })).toMatchObject({
    last: { added: [second], removed: [first], images: [second] },
  });
  expect(await runCommand(['medium', 'verify', device], { site })).toMatchObject({ status: 0 });
});

describe('what must not be erased', () => {
  test('a mounted disk, a file that is in use, a partition, a directory', async () => {
    const site = siteWith();
    const { disk } = await makeDisk();
    const device = loopDevice(disk);
    const before = readFileSync(disk).subarray(0, 4096);
    const at = temporaryDirectory();
    const create = async (target: string): Promise<unknown> =>
      (await runCommand(['medium', 'create', target, '--yes'], { site })).last;
    expect(await create(disk)).toMatchObject({ code: 'locked', message: containing(`in use as ${device}`) });
    const { offset } = partition(disk, 'RELIVE');
    execFileSync('losetup', ['--detach', device]);
    execFileSync('mount', ['-o', `loop,ro,noload,offset=${offset}`, disk, at]);
    try {
      expect(await create(disk)).toMatchObject({ code: 'locked' });
    } finally {
      execFileSync('umount', [at]);
    }
    const plain = join(temporaryDirectory(), 'plain');
    writeFileSync(plain, '');
    truncateSync(plain, 64 * 2 ** 20);
    execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', plain]);
    const mounted = loopDevice(plain);
    execFileSync('mount', [mounted, at]);
    try {
      expect(await create(mounted)).toMatchObject({
        code: 'locked',
        message: containing(`${mounted} is mounted at ${at}`),
      });
    } finally {
      execFileSync('umount', [at]);
    }
    expect(await create(at)).toMatchObject({
      code: 'usage',
      message: containing('neither a disk nor a file'),
    });
    expect(await create('/dev/null')).toMatchObject({ code: 'usage' });
    expect(await create('/dev/no-such-disk')).toMatchObject({ code: 'not-found' });
    expect(readFileSync(disk).subarray(0, 4096)).toEqual(before);
  });

  test('a file with content, unless --yes says so; it stays until the new one is complete', async () => {
    const site = siteWith();
    const file = join(temporaryDirectory(), 'letters.img');
    writeFileSync(file, 'precious '.repeat(100));
    const asked = await runCommand(['medium', 'create', file, '--size', '256M'], { site });
    expect(asked).toMatchObject({ status: 2, last: { code: 'usage', hint: containing('--yes') } });
    rmSync(join(site, 'store/live', readdirSync(join(site, 'store/live'))[0] ?? ''));
    const failed = await runCommand(['medium', 'create', file, '--size', '256M', '--yes'], { site });
    expect(failed).toMatchObject({ status: 3, last: { code: 'corrupt', message: containing('is missing') } });
    expect(readFileSync(file, 'utf8')).toBe('precious '.repeat(100));
    expect(readdirSync(join(file, '..'))).toEqual(['letters.img']);
  });

  test('a disk file that is too small, or a volume that does not fit', async () => {
    const site = siteWith();
    const directory = temporaryDirectory();
    const create = async (...args: readonly string[]): Promise<unknown> =>
      (await runCommand(['medium', 'create', join(directory, 'a.img'), ...args], { site })).last;
    expect(await create('--size', '40M')).toMatchObject({ code: 'disk-full' });
    expect(await create('--size', '512M', '--volume', 'DATA:1G')).toMatchObject({ code: 'disk-full' });
    expect(await create('--size', 'big')).toMatchObject({ code: 'usage' });
    expect(await create('--volume', 'RELIVE')).toMatchObject({ code: 'usage' });
    expect(readdirSync(directory)).toEqual([]);
  });
});

test('the menu of the site: its keyboard and its time are in GRUB for BIOS, the same bytes each time', async () => {
  const { site, disk, medium } = await makeDisk();
  const file = join(site, 'relive.yaml');
  const plain = readFileSync(file, 'utf8');
  const settings = (keyboard: string): void =>
    writeFileSync(file, `${plain}menu: {timeout: 7, keyboard: {layout: ${keyboard}}}\n`);
  settings('de');
  expect(findingsOf(await medium('verify'))).toEqual(
    expect.arrayContaining(['inconsistent GRUB for BIOS', 'inconsistent EFI/BOOT/BOOTX64.EFI']),
  );
  expect(await medium('sync')).toMatchObject({ status: 0 });
  expect(await medium('verify')).toMatchObject({ status: 0 });
  const other = join(temporaryDirectory(), 'other.img');
  await succeed(['medium', 'create', other, '--size', '512M'], { site });
  expect(await runCommand(['medium', 'sync', other], { site })).toMatchObject({ last: { grub: [] } });
  settings('fr');
  // UEFI knows no layouts of ours.
  expect(await medium('sync')).toMatchObject({ last: { grub: ['BIOS'] } });
  settings('dee');
  const before = readFileSync(disk).subarray(0, 4096);
  expect(await medium('create', '--yes')).toMatchObject({
    status: 2,
    last: {
      code: 'configuration',
      message: containing('XKB has no "dee"'),
      hint: containing('there are: af,'),
    },
  });
  expect(readFileSync(disk).subarray(0, 4096)).toEqual(before);
});

/** Where a synchronization is cut off: the beginning or the end of a stage, and milliseconds from there. */
const moments = [
  ['copy', 'start', 0],
  ['copy', 'start', 150],
  ['copy', 'done', 0],
  ['grub', 'start', 0],
  ['grub', 'start', 150],
  ...(slowTests ? Array.from({ length: 10 }, (_, step) => ['copy', 'start', 50 * step] as const) : []),
] as const;

describe('sync', () => {
  test('copies only what is missing, then nothing, and keeps what it is told', async () => {
    const { site, disk, medium } = await makeDisk();
    addTinyImage(site, 'healthy', key, '20261122.02');
    const shared = await medium('sync');
    expect(shared).toMatchObject({
      status: 0,
      last: { added: [second], presentFiles: 2, images: [second, first] },
    });
    expect(await medium('sync')).toMatchObject({ last: { added: [], copiedBytes: 0, grub: [] } });
    addTinyImage(site, 'healthy', key, '20261122.03', 'another\n');
    await succeed(['image', 'pin', first], { site });
    expect(await medium('sync', '--keep', '2')).toMatchObject({ last: { added: [third], removed: [] } });
    await succeed(['image', 'unpin', first], { site });
    expect(await medium('sync', '--keep', '2')).toMatchObject({
      last: { added: [], removed: [first], images: [third, second] },
    });
    expect(await medium('verify')).toMatchObject({
      status: 0,
      last: { images: { [third]: 0, [second]: 0 } },
    });
    // The layer of the first is the second's, too.
    expect(debugfs(disk, 'ls -p /live').match(/\.squashfs/g)).toHaveLength(2);
    expect(await medium('sync', second, '--keep', '1')).toMatchObject({ last: { images: [third, second] } });
    expect(seenByGrub(disk)).toContain('20261122.03/');
  });

  test('refuses images of another site, and a damaged layer of its own', async () => {
    const { site, medium } = await makeDisk();
    addTinyImage(site, 'healthy', key, '20261122.02', 'another\n');
    const layer = readdirSync(join(site, 'store/live')).find(
      (name) =>
        name.endsWith('.squashfs') && readFileSync(join(site, 'store/live', name), 'utf8') === 'another\n',
    );
    writeFileSync(join(site, 'store/live', layer ?? ''), 'onother\n');
    expect(await medium('sync')).toMatchObject({
      status: 3,
      last: { code: 'corrupt', message: containing('is damaged') },
    });
    expect(await medium('verify')).toMatchObject({ status: 1 });
    writeFileSync(join(site, 'store/live', layer ?? ''), 'another\n');
    expect(await medium('sync')).toMatchObject({ status: 0 });
    expect(await medium('verify')).toMatchObject({ status: 0 });
    const other = makeSigningKey('Somebody Else', 'rsa3072');
    try {
      writeFileSync(join(site, 'keys/public.asc'), other.armoured);
      expect(await medium('sync')).toMatchObject({ status: 3, last: { code: 'not-authentic' } });
    } finally {
      other.remove();
    }
  });

  test('makes room by what --keep removes anyway, yet never of the newest image on the medium', async () => {
    const { site, medium } = await makeDisk();
    // The hash tree of a tiny image is as large as its layer.
    for (const [index, version] of ['20261122.02', '20261122.03', '20261122.04'].entries()) {
      addTinyImage(site, 'healthy', key, version, Buffer.alloc(75 * 2 ** 20, index));
    }
    for (const image of [second, third]) expect(await medium('sync', image)).toMatchObject({ status: 0 });
    const fourth = 'tiny-20261122.04';
    expect(await medium('sync')).toMatchObject({ status: 3, last: { code: 'disk-full' } });
    expect(await medium('sync', '--keep', '2')).toMatchObject({
      status: 0,
      last: { added: [fourth], removed: [second, first], images: [fourth, third] },
    });
    expect(await medium('verify')).toMatchObject({ status: 0 });
    addTinyImage(site, 'healthy', key, '20261122.05', Buffer.alloc(150 * 2 ** 20, 9));
    expect(await medium('sync', '--keep', '1')).toMatchObject({ status: 3, last: { code: 'disk-full' } });
    expect(await medium('verify')).toMatchObject({ last: { images: { [fourth]: 0 } } });
  });

  test('says how much there is to copy where it does not fit, and changes nothing', async () => {
    const { site, disk, medium } = await makeDisk();
    addTinyImage(site, 'healthy', key, '20261122.02', Buffer.alloc(250 * 2 ** 20));
    const before = debugfs(disk, 'ls -p /live');
    expect(await medium('sync')).toMatchObject({
      status: 3,
      last: { code: 'disk-full', message: containing('MB are to be copied') },
    });
    expect(debugfs(disk, 'ls -p /live')).toBe(before);
    expect(await medium('verify', '--quiet')).toMatchObject({ status: 0 });
  });

  test('killed anywhere, leaves a medium whose images are whole, and the next one finishes', async () => {
    const site = siteWith();
    const disk = join(temporaryDirectory(), 'medium.img');
    await succeed(['medium', 'create', disk, '--size', '512M'], { site });
    addTinyImage(site, 'healthy', key, '20261122.02', randomBytes(40 * 2 ** 20));
    let cut = 0;
    for (const [attempt, [stage, state, milliseconds]] of moments.entries()) {
      const copy = join(temporaryDirectory(), `cut-${attempt}.img`);
      execFileSync('cp', ['--sparse=always', disk, copy]);
      const running = startCommand(['medium', 'sync', copy], { site });
      await running.line((line) => line['stage'] === stage && line['state'] === state);
      await setTimeout(milliseconds);
      running.child.kill('SIGKILL');
      if ((await running.ended).status !== 0) cut += 1;
      const checked = await runCommand(['medium', 'verify', copy], { site });
      expect(checked.last).toMatchObject({ images: { [first]: 0 } });
      for (const finding of findingsOf(checked)) {
        expect(finding).toMatch(
          /^(?:unreferenced (?:live\/|\.tmp)|inconsistent (?:GRUB for BIOS|EFI\/BOOT\/BOOTX64\.EFI)$)/,
        );
      }
      expect(await runCommand(['medium', 'sync', copy], { site })).toMatchObject({
        status: 0,
        last: { images: [second, first] },
      });
      expect(await runCommand(['medium', 'verify', copy], { site })).toMatchObject({ status: 0 });
      expect(readdirSync(join(copy, '..'))).toEqual([`cut-${attempt}.img`]);
      rmSync(copy);
    }
    // It may have been faster.
    expect(cut).toBeGreaterThan(moments.length / 2);
  });
});

describe('grow', () => {
  test.each(['512', '4096'])('a disk file with sectors of %s bytes', async (sectorSize) => {
    const { site, disk, medium } = await makeDisk({
      args: ['--sector-size', sectorSize, '--volume', 'DATA:16M', '--size', '400M'],
    });
    expect(await medium('grow')).toMatchObject({ status: 0 });
    const before = readFileSync(disk).subarray(0, 4096);
    expect(await medium('grow', '--size', '256M')).toMatchObject({ status: 2, last: { code: 'usage' } });
    expect(readFileSync(disk).subarray(0, 4096)).toEqual(before);
    const { last } = await medium('grow', '--size', '900M');
    expect(last).toMatchObject({ ok: true, bytes: 900 * 2 ** 20 });
    const grown = Number(last?.['store']) - Number(last?.['storeBefore']);
    expect(grown).toBe(500 * 2 ** 20);
    expect(await medium('verify')).toMatchObject({ status: 0 });
    expect(statSync(disk).blocks * 512).toBeLessThan(128 * 2 ** 20);
    addTinyImage(site, 'healthy', key, '20261122.02', Buffer.alloc(80 * 2 ** 20));
    expect(await medium('sync')).toMatchObject({ status: 0, last: { added: [second] } });
    const device = loopDevice(disk, Number(sectorSize));
    expect(execFileSync('sgdisk', ['--verify', device], { encoding: 'utf8' })).toContain('No problems found');
    expect(await runCommand(['medium', 'verify', device], { site })).toMatchObject({ status: 0 });
    expect(execFileSync('partx', ['--show', '--noheadings', device], { encoding: 'utf8' })).toContain('DATA');
  });

  test('a device that a smaller medium was copied to, and not what is no medium', async () => {
    const { site, disk, medium } = await makeDisk();
    truncateSync(disk, 700 * 2 ** 20);
    const device = loopDevice(disk);
    const call = async (...args: readonly string[]): Promise<CommandEnd> =>
      await runCommand(['medium', ...args], { site });
    expect(await call('grow', device, '--size', '1G')).toMatchObject({ status: 2, last: { code: 'usage' } });
    const grown = await call('grow', device);
    const checked = findingsOf(await call('verify', device));
    // Without that right: as when power fails between the partition and its file system.
    expect({ ...grown.last, checked }).toMatchObject(
      maySetLimits()
        ? { ok: true, bytes: 700 * 2 ** 20, checked: [] }
        : { code: 'host-unable', checked: [`inconsistent ${device}`] },
    );
    expect(execFileSync('sgdisk', ['--verify', device], { encoding: 'utf8' })).toContain('No problems found');
    execFileSync('losetup', ['--detach', device]);
    expect(await medium('grow')).toMatchObject({ status: 0 });
    expect(await medium('verify')).toMatchObject({ status: 0 });
    const plain = join(temporaryDirectory(), 'plain');
    writeFileSync(plain, 'nothing');
    expect(await call('grow', plain)).toMatchObject({ status: 2, last: { code: 'not-found' } });
  });
});

describe('a store of exFAT', () => {
  test('is filled, brought up to date, checked and shown as one of ext4 is; it does not grow', async () => {
    const { site, disk, medium } = await makeDisk({
      args: ['--filesystem', 'exfat', '--volume', 'DATA:16M'],
    });
    expect(await medium('verify')).toMatchObject({ status: 0, last: { images: { [first]: 0 } } });
    expect(seenByGrub(disk, 'gpt4')).toContain('20261122.01/');
    addTinyImage(site, 'healthy', key, '20261122.02', randomBytes(1000));
    expect(await medium('sync', '--keep', '1')).toMatchObject({
      status: 0,
      last: { added: [second], removed: [first], images: [second], grub: [] },
    });
    expect(await medium('sync')).toMatchObject({ last: { added: [], copiedBytes: 0 } });
    expect(await medium('verify')).toMatchObject({ status: 0, last: { images: { [second]: 0 } } });
    const listed = seenByGrub(disk, 'gpt4');
    expect(listed).toContain('20261122.02/');
    expect(listed).not.toContain('20261122.01/');
    expect(await medium('menu')).toMatchObject({
      status: 0,
      last: { entries: expect.arrayContaining([expect.objectContaining({ image: second, default: true })]) },
    });
    expect(await medium('grow', '--size', '900M')).toMatchObject({
      status: 2,
      last: { code: 'usage', message: containing('is exFAT, which does not grow') },
    });
    // As somebody else's computer sees it: a clean file system, of the type that Windows shows.
    const store = join(temporaryDirectory(), 'store.img');
    const { offset } = partition(disk, 'RELIVE');
    execFileSync('dd', [`if=${disk}`, `of=${store}`, 'bs=1M', `skip=${offset / 2 ** 20}`, 'status=none']);
    expect(execFileSync('fsck.exfat', ['-n', store], { encoding: 'utf8' })).toContain('clean');
    expect(execFileSync('sgdisk', ['--info=4', disk], { encoding: 'utf8' })).toContain(
      'Microsoft basic data',
    );
    // The checksum of its boot sectors (exFAT specification, 3.4); and that it was not unmounted (3.1.13.2).
    flip(disk, offset + 11 * 512);
    expect(findingsOf(await medium('verify'))).toEqual([`inconsistent ${disk}`]);
    flip(disk, offset + 11 * 512);
    patch(disk, offset + 106, 2);
    expect(findingsOf(await medium('verify'))).toEqual([`inconsistent ${disk}`]);
    expect(await medium('sync')).toMatchObject({ status: 0 });
    expect(await medium('verify')).toMatchObject({ status: 0 });
    expect(execFileSync('losetup', ['--associated', disk], { encoding: 'utf8' })).toBe('');
  });

  test('is there with sectors of 4096 bytes, and not without root', async () => {
    const { site, disk, medium } = await makeDisk({
      args: ['--filesystem', 'exfat', '--sector-size', '4096', '--size', '450M'],
    });
    const device = loopDevice(disk, 4096);
    expect(await runCommand(['medium', 'verify', device], { site })).toMatchObject({ status: 0 });
    execFileSync('losetup', ['--detach', device]);
    addTinyImage(site, 'healthy', key, '20261122.02', randomBytes(1000));
    expect(await medium('sync')).toMatchObject({ status: 0, last: { added: [second] } });
    execFileSync('chown', ['-R', '65534:65534', site, join(disk, '..')]);
    const nobody = {
      site,
      env: { HOME: '/nonexistent' },
      through: throughNobody,
    };
    for (const command of [
      ['create', `${disk}.2`, '--filesystem', 'exfat'],
      ['sync', disk],
      ['verify', disk],
      ['menu', disk],
    ]) {
      expect(await runCommand(['medium', ...command], nobody)).toMatchObject({
        status: 2,
        last: { code: 'not-root', message: containing('exFAT') },
      });
    }
  });
});

describe('verify names what is wrong, and sync mends what it can', () => {
  test('one copy of the partition table', async () => {
    const { disk, medium } = await makeDisk();
    flip(disk, 512 + 60);
    expect(findingsOf(await medium('verify'))).toEqual([`corrupt ${disk}`]);
    expect(await medium('sync')).toMatchObject({ last: { mended: [containing('first copy')] } });
    expect(await medium('verify')).toMatchObject({ status: 0 });
    flip(disk, 512 * 2 ** 20 - 512 + 60);
    expect(findingsOf(await medium('verify'))).toEqual([`corrupt ${disk}`]);
    await medium('sync');
    expect(execFileSync('sgdisk', ['--verify', disk], { encoding: 'utf8' })).toContain('No problems found');
  });

  test('GRUB for BIOS and for UEFI', async () => {
    const { disk, medium } = await makeDisk();
    flip(disk, partition(disk, 'RELIVE BIOS').offset + 5000);
    const efi = partition(disk, 'RELIVE EFI');
    const content = readFileSync(disk);
    // The program begins with a header that nothing else there has.
    flip(disk, content.indexOf('MZ', efi.offset + 100_000) + 9000);
    expect(findingsOf(await medium('verify'))).toEqual([
      'inconsistent GRUB for BIOS',
      'inconsistent EFI/BOOT/BOOTX64.EFI',
    ]);
    expect(await medium('sync')).toMatchObject({ last: { grub: ['BIOS', 'EFI/BOOT/BOOTX64.EFI'] } });
    expect(await medium('verify')).toMatchObject({ status: 0 });
  });

  test('a layer, a kernel, an image that lost a file', async () => {
    const { disk, medium } = await makeDisk();
    const layer = /\/([0-9a-f]{16}\.squashfs)\//.exec(debugfs(disk, 'ls -p /live'))?.[1] ?? '';
    const block = Number(debugfs(disk, `blocks /live/${layer}`).trim().split(' ')[0]);
    flip(disk, partition(disk, 'RELIVE').offset + block * 4096);
    debugfs(disk, 'rm /images/tiny/20261122.01/vmlinuz', true);
    const findings = findingsOf(await medium('verify'));
    expect(findings).toContain(`corrupt live/${layer}`);
    expect(findings).toContain('missing images/tiny/20261122.01/vmlinuz');
    expect(await medium('sync', '--check')).toMatchObject({ status: 0, last: { added: [first] } });
    expect(await medium('verify')).toMatchObject({ status: 0 });
  });

  test('a symbolic link that would lead what is written elsewhere', async () => {
    const { site, disk, medium } = await makeDisk();
    const outside = temporaryDirectory();
    debugfs(disk, `symlink /.tmp ${outside}`, true);
    addTinyImage(site, 'healthy', key, '20261122.02', 'another\n');
    expect(await medium('sync')).toMatchObject({ status: 3, last: { code: 'unsafe-path' } });
    expect(readdirSync(outside)).toEqual([]);
  });

  test('what is no medium', async () => {
    const site = siteWith();
    const file = join(temporaryDirectory(), 'other.img');
    writeFileSync(file, '');
    truncateSync(file, 64 * 2 ** 20);
    execFileSync('sgdisk', ['--new=1:0:0', file], { stdio: 'ignore' });
    for (const command of ['sync', 'verify']) {
      expect(await runCommand(['medium', command, file], { site })).toMatchObject({
        status: 2,
        last: { code: 'not-found', message: containing('no medium') },
      });
    }
  });
});

test('without root: a disk file is made, brought up to date and checked, and is as root would have made it', async () => {
  const site = siteWith();
  const directory = temporaryDirectory();
  const disk = join(directory, 'medium.img');
  for (const path of [site, directory]) execFileSync('chown', ['-R', '65534:65534', path]);
  const nobody = {
    site,
    env: { HOME: '/nonexistent' },
    through: throughNobody,
  };
  await succeed(['medium', 'create', disk, '--size', '512M', '--volume', 'DATA:64M'], nobody);
  expect(debugfs(disk, 'stat /images/tiny/20261122.01/vmlinuz')).toMatch(/User: +0 +Group: +0/);
  const data = execFileSync(
    'dd',
    [`if=${disk}`, 'bs=1M', `skip=${partition(disk, 'DATA').offset / 2 ** 20}`, 'count=64'],
    {
      maxBuffer: 2 ** 28,
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  addTinyImage(site, 'healthy', key, '20261122.02', 'another\n');
  execFileSync('chown', ['-R', '65534:65534', site]);
  expect(await succeed(['medium', 'sync', disk, '--keep', '1'], nobody)).toMatchObject({
    last: { added: [second], removed: [first], images: [second] },
  });
  expect(await runCommand(['medium', 'verify', disk], nobody)).toMatchObject({ status: 0 });
  expect(await runCommand(['medium', 'verify', disk], { site })).toMatchObject({ status: 0 });
  expect(
    execFileSync(
      'dd',
      [`if=${disk}`, 'bs=1M', `skip=${partition(disk, 'DATA').offset / 2 ** 20}`, 'count=64'],
      {
        maxBuffer: 2 ** 28,
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    ).equals(data),
  ).toBe(true);
  expect(statSync(disk).blocks * 512).toBeLessThan(96 * 2 ** 20);
  expect(await succeed(['medium', 'grow', disk, '--size', '900M'], nobody)).toMatchObject({
    last: { bytes: 900 * 2 ** 20 },
  });
  const grown = await runCommand(['medium', 'verify', disk], { site });
  expect(grown).toMatchObject({ status: 0 });
  expect(statSync(disk).blocks * 512).toBeLessThan(96 * 2 ** 20);
  expect(readdirSync(directory)).toEqual(['medium.img']);
});
