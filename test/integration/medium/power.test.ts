import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { coreSectorOf } from '../../../src/medium/bios.ts';
import { diskBytes } from '../../../src/medium/bytes.ts';
import { formatEnvironment } from '../../../src/medium/environment.ts';
import { readTable } from '../../../src/medium/gpt.ts';
import { type CommandEnd, runCommand, succeed } from '../../fixtures/command.ts';
import { addTinyImage, makeTinyStore, type TinyStore } from '../../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { copySparse, cutPower, recordWrites, seeded } from '../../fixtures/write-log.ts';
import { temporaryDirectory } from '../../support.ts';

const mebibyte = 2 ** 20;
const diskSize = 192 * mebibyte;
/** Where media with sectors of 512 bytes have their parts; the store is the third. */
const efiOffset = 3 * mebibyte;
const storeOffset = 67 * mebibyte;
const coreBytes = mebibyte;
const numbers: readonly number[] = [1, 2, 3];

const image = (number: number): string => `tiny-20261122.0${number}`;
const directory = (number: number): string => `images/tiny/20261122.0${number}`;

let key: SigningKey;
let other: SigningKey;
let tiny: TinyStore;

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  other = makeSigningKey('Another One', 'rsa3072');
  tiny = makeTinyStore('not-started', key);
});
afterAll(() => {
  tiny.remove();
  key.remove();
  other.remove();
});

/** What GRUB says to a command, without a journal replayed; undefined where it fails. */
function grub(disk: string, ...command: readonly string[]): string | undefined {
  try {
    return execFileSync('grub-fstest', [disk, ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch {
    return undefined;
  }
}

/** The GRUB that BIOS starts: the code in the first sector, and the core image that it reads. */
function biosGrub(file: string): string {
  const disk = Buffer.alloc(efiOffset);
  const handle = openSync(file, 'r');
  readSync(handle, disk, 0, disk.length, 0);
  closeSync(handle);
  const core = coreSectorOf(disk.subarray(0, 512)) * 512;
  return sha256(Buffer.concat([disk.subarray(0, 440), disk.subarray(core, core + coreBytes)]));
}

function efiGrub(disk: string): string {
  const program = execFileSync('mcopy', ['-i', `${disk}@@${efiOffset}`, '::/EFI/BOOT/BOOTX64.EFI', '-'], {
    maxBuffer: 2 ** 26,
    env: { ...process.env, MTOOLS_SKIP_CHECK: '1' },
  });
  return sha256(program);
}

/** The faults of both copies of the partition table. */
async function tableFaults(disk: string): Promise<readonly string[]> {
  const handle = await open(disk, 'r');
  try {
    const found = await readTable(diskBytes(handle), diskSize);
    return found?.faults ?? ['there is none'];
  } finally {
    await handle.close();
  }
}

/**
 * What is wrong in the store as the kernel sees it, its journal replayed: with the file system, with images, and with their
 * layers.
 * @param needed numbers of images that must be there
 */
function faultsWhenReplayed(disk: string, store: string, needed: readonly number[]): readonly string[] {
  const device = execFileSync('losetup', ['--find', '--show', '--offset', String(storeOffset), disk], {
    encoding: 'utf8',
  }).trim();
  const root = temporaryDirectory();
  try {
    // It repairs nothing that asks for a decision; 1: it put right what the journal leaves to it.
    execFileSync('sh', ['-c', 'e2fsck -f -p "$1" || [ $? -eq 1 ]', 'sh', device], { stdio: 'pipe' });
    // In a namespace of its own: else one that others begin meanwhile would have the mount, too, and hold the device.
    const copy = 'mount -t ext4 -o ro "$1" /mnt && cp -a /mnt/live /mnt/images "$2"';
    const apart = ['--mount', '--propagation', 'private', '--', 'sh', '-euc', copy, 'sh', device, root];
    execFileSync('unshare', apart, { stdio: 'pipe' });
    const there = numbers.filter((number) => existsSync(join(root, directory(number))));
    for (const number of there) {
      execFileSync('diff', ['-r', join(store, directory(number)), join(root, directory(number))]);
      for (const name of liveFiles(store, image(number))) {
        execFileSync('cmp', [join(store, 'live', name), join(root, 'live', name)]);
      }
    }
    return needed
      .filter((number) => !there.includes(number))
      .map((number) => `${image(number)} is gone when the journal is replayed`);
  } catch (error) {
    return [`when the journal is replayed: ${(error as Error).message}`];
  } finally {
    execFileSync('losetup', ['--detach', device]);
  }
}

/** The files of /live that an image has. */
function liveFiles(store: string, name: string): readonly string[] {
  const layers = readFileSync(join(store, 'live', `${name}.module`), 'utf8')
    .trim()
    .split('\n');
  return layers.flatMap((layer) => [layer, layer.replace('.squashfs', '.verity')]);
}

/** The numbers of the images that GRUB lists. */
function seenByGrub(disk: string): readonly number[] {
  const listed = grub(disk, 'ls', '(loop0,gpt3)/images/tiny/') ?? '';
  return numbers.filter((number) => listed.includes(`20261122.0${number}/`));
}

/** What GRUB does not find as the site has it. */
function faultsToGrub(disk: string, paths: readonly (readonly [string, string])[]): readonly string[] {
  return paths.flatMap(([path, local]) =>
    grub(disk, 'cmp', `(loop0,gpt3)/${path}`, local) === '' ? [] : [`GRUB finds another ${path}, or none`],
  );
}

/** The commands find nothing that must not be, finish what was begun, and find nothing any more. */
async function faultsToCommands(disk: string, site: string): Promise<readonly string[]> {
  const command = async (name: string, ...args: readonly string[]): Promise<CommandEnd> =>
    await runCommand(['medium', name, disk, ...args], { site });
  // Nothing, or that the journal has to be replayed first.
  const before = await command('verify');
  const synced = await command('sync', '--keep', '2');
  const verified = await command('verify');
  return [
    ...(before.last?.event === 'result' ? [] : [`verify: ${JSON.stringify(before.last)}`]),
    ...(isDeepStrictEqual(synced.last?.['images'], [image(3), image(2)]) ? [] : ['sync does not finish']),
    ...(verified.status === 0 ? [] : [`verify after sync: ${JSON.stringify(verified.lines)}`]),
  ];
}

test('a hundred times: power is lost at a random write of a sync, and what was not flushed is lost in part', async () => {
  const { site, store } = tiny;
  const before = join(temporaryDirectory(), 'medium.img');
  const after = join(temporaryDirectory(), 'medium.img');
  addTinyImage(site, 'not-started', key, '20261122.02', randomBytes(mebibyte));
  const size = ['--size', String(diskSize)];
  await succeed(['medium', 'create', before, ...size, '--image', `${image(1)},${image(2)}`], { site });
  copySparse(before, after);
  addTinyImage(site, 'not-started', key, '20261122.03', randomBytes(mebibyte));
  // So that GRUB changes, too.
  appendFileSync(join(site, 'keys/public.asc'), other.armoured);
  const writes = await recordWrites(after, async (device) => {
    expect(await succeed(['medium', 'sync', device, '--keep', '2'], { site })).toMatchObject({
      last: {
        added: [image(3)],
        removed: [image(1)],
        grub: ['BIOS', 'EFI/BOOT/BOOTX64.EFI', 'EFI/BOOT/BOOTIA32.EFI'],
      },
    });
  });
  const environment = join(temporaryDirectory(), 'grubenv');
  writeFileSync(environment, formatEnvironment({}));
  const biosGrubs = [before, after].map(biosGrub);
  const efiGrubs = [before, after].map(efiGrub);
  const seen = new Set<string>();
  const faults = await cutPower(before, writes, 100, seeded(20_261_122), async (disk, cut) => {
    const listed = seenByGrub(disk);
    const [bios, efi] = [biosGrubs.indexOf(biosGrub(disk)), efiGrubs.indexOf(efiGrub(disk))];
    seen.add(`images ${listed.join()}, GRUB ${bios} ${efi}`);
    const found = [
      ...(listed.includes(2) ? [] : ['GRUB does not list the image that was there']),
      ...faultsToGrub(disk, [
        ...listed.map((number) => [directory(number), join(store, directory(number))] as const),
        ['grubenv', environment],
      ]),
      ...(bios === -1 ? ['what BIOS starts is neither the old nor the new GRUB'] : []),
      ...(efi === -1 ? ['what UEFI starts is neither the old nor the new GRUB'] : []),
      ...(await tableFaults(disk)),
    ];
    return cut % 25 === 24
      ? [...found, ...(await faultsToCommands(disk, site))]
      : [...found, ...faultsWhenReplayed(disk, store, [2])];
  });
  expect(faults).toEqual([]);
  // There were cuts before, between and after the changes.
  expect([...seen]).toEqual(
    expect.arrayContaining([
      'images 1,2, GRUB 0 0',
      'images 1,2,3, GRUB 0 0',
      'images 1,2,3, GRUB 0 1',
      'images 2,3, GRUB 1 1',
    ]),
  );
});

test('power is lost while a medium grows: its partitions are found at any time', async () => {
  const { site, store } = tiny;
  const before = join(temporaryDirectory(), 'medium.img');
  const after = join(temporaryDirectory(), 'medium.img');
  await succeed(['medium', 'create', before, '--size', '128M', '--image', image(1)], { site });
  truncateSync(before, diskSize);
  copySparse(before, after);
  const statuses: unknown[] = [];
  const writes = await recordWrites(after, async (device) => {
    const { status, last } = await runCommand(['medium', 'grow', device], { site });
    statuses.push(status === 0 ? 'host-unable' : last?.['code']);
  });
  // Where the kernel grants it, the file system grows, too.
  expect(statuses).toEqual(['host-unable']);
  const ends = new Set<string>();
  const faults = await cutPower(before, writes, 30, seeded(20_261_123), async (disk) => {
    // Linux goes by the first copy alone.
    const table = join(temporaryDirectory(), 'table');
    execFileSync('dd', [`if=${disk}`, `of=${table}`, 'bs=1M', 'count=1', 'status=none']);
    truncateSync(table, diskSize);
    const found = execFileSync('partx', ['--raw', '--noheadings', '--output', 'START,SECTORS', table], {
      encoding: 'utf8',
    });
    const [, sectors] = new RegExp(`^${storeOffset / 512} (\\d+)$`, 'm').exec(found) ?? [];
    if (sectors !== undefined) ends.add(sectors);
    return await Promise.resolve([
      ...(sectors === undefined ? [`Linux does not find the store: ${found}`] : []),
      ...faultsToGrub(disk, [[directory(1), join(store, directory(1))]]),
      ...faultsWhenReplayed(disk, store, [1]),
    ]);
  });
  expect(faults).toEqual([]);
  expect(ends.size).toBe(2);
  await succeed(['medium', 'grow', before], { site });
  expect(await runCommand(['medium', 'verify', before], { site })).toMatchObject({ status: 0 });
});
