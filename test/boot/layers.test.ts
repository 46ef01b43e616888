import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { kernelCommandLine } from '../../src/image/boot-entry.ts';
import type { BootManifest } from '../../src/image/manifest.ts';
import { layerFile } from '../../src/image/manifest.ts';
import { readGrubKey } from '../../src/medium/grub-key.ts';
import { type CommandEnd, runCommand, succeed } from '../fixtures/command.ts';
import { LiveMachine } from '../fixtures/live-machine.ts';
import { diskOf, grubCd, MenuMachine } from '../fixtures/menu.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { temporaryDirectory } from '../support.ts';

/** An ISO of an image, and what is on it. */
interface Medium {
  readonly iso: string;
  readonly manifest: BootManifest;
}

let site: TestSite;
/** Read from the medium; the layers copied to RAM; unpacked there. */
const media = new Map<BootManifest['boot']['ram'], Medium>();

const readerUnit = `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/usr/local/sbin/read-all
TimeoutStopSec=300
`;
const readAll = `#!/bin/sh
sync
echo 3 >/proc/sys/vm/drop_caches
disks=$(ls /sys/block | grep -c '^[vs][dr]')
find / -xdev -type f -exec cat {} + >/dev/null && echo "with $disks disks all of it was read" >/dev/console
`;

async function makeMedium(ram: BootManifest['boot']['ram']): Promise<Medium> {
  const profile = join(site.directory, 'profiles/demo.yaml');
  const text = readFileSync(profile, 'utf8');
  writeFileSync(profile, text.replace(/^boot:\n(?: {2}ram: .*\n)?/m, `boot:\n  ram: ${ram}\n`));
  await succeed(['build', 'demo', '--offline'], { site: site.directory });
  const iso = join(site.directory, `${ram}.iso`);
  await succeed(['image', 'export', 'demo', '--iso', iso], { site: site.directory });
  const { last } = await succeed(['image', 'show', 'demo'], { site: site.directory });
  const medium = { iso, manifest: (last as unknown as { manifest: BootManifest }).manifest };
  media.set(ram, medium);
  return medium;
}

beforeAll(async () => {
  site = await freshSite({ cache: true });
  await makeMedium('none');
  // Read again when it shuts down, after the medium was pulled out: /proc/sys/vm/drop_caches(5) leaves nothing that was read before.
  const units = join(site.directory, 'overlays/reader/etc/systemd/system');
  mkdirSync(join(units, 'multi-user.target.wants'), { recursive: true });
  writeFileSync(join(units, 'reader.service'), readerUnit);
  symlinkSync('../reader.service', join(units, 'multi-user.target.wants/reader.service'));
  const script = join(site.directory, 'overlays/reader/usr/local/sbin/read-all');
  mkdirSync(dirname(script), { recursive: true });
  writeFileSync(script, readAll, { mode: 0o755 });
  const profile = join(site.directory, 'profiles/demo.yaml');
  const text = readFileSync(profile, 'utf8');
  if (!text.includes('\noverlay: demo\n')) throw new Error('the demo has another overlay');
  writeFileSync(profile, text.replace('\noverlay: demo\n', '\noverlay: [demo, reader]\n'));
  await makeMedium('layers');
});
afterAll(() => removeSite(site));

function mediumOf(ram: BootManifest['boot']['ram']): Medium {
  const medium = media.get(ram);
  if (medium === undefined) throw new Error(`no medium for ${ram}`);
  return medium;
}

/** Where a file's bytes are in an ISO, and how many. */
function extentOf(iso: string, path: string): { readonly offset: number; readonly size: number } {
  const report = execFileSync('xorriso', ['-indev', iso, '-find', path, '-exec', 'report_lba', '--'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [, block, , size] = /File data lba:\s*\d+ ,\s*(\d+) ,\s*(\d+) ,\s*(\d+) ,/.exec(report) ?? [];
  if (block === undefined) throw new Error(`${path} is not in ${iso}: ${report}`);
  return { offset: Number(block) * 2048, size: Number(size) };
}

/** A copy of an ISO in which bytes of one file are others. @param at from the start of the file, or from its end */
function tampered({ iso }: Medium, path: string, at: readonly number[]): string {
  const copy = join(temporaryDirectory(), 'tampered.iso');
  copyFileSync(iso, copy);
  const { offset, size } = extentOf(iso, path);
  const descriptor = openSync(copy, 'r+');
  const byte = Buffer.alloc(1);
  for (const each of at) {
    const position = offset + (each < 0 ? size + each : each);
    readSync(descriptor, byte, 0, 1, position);
    byte[0] = (byte[0] ?? 0) ^ 1;
    writeSync(descriptor, byte, 0, 1, position);
  }
  closeSync(descriptor);
  return copy;
}

/** A copy of an ISO without a file, and bootable as before. */
function without({ iso }: Medium, path: string): string {
  const copy = join(temporaryDirectory(), 'without.iso');
  execFileSync(
    'xorriso',
    ['-indev', iso, '-outdev', copy, '-boot_image', 'any', 'replay', '-rm', path, '--'],
    {
      stdio: 'ignore',
    },
  );
  return copy;
}

async function boot(iso: string, log?: string, more: readonly string[] = []): Promise<CommandEnd> {
  const words = log === undefined ? more : ['--log', log, ...more];
  const end = await runCommand(['vm', iso, '--accel', 'tcg', '--cpus', '1', '--timeout', '600', ...words], {
    site: site.directory,
  });
  rmSync(iso, { force: true });
  return end;
}

const base = ({ manifest }: Medium): string => {
  const [layer] = manifest.layers;
  if (layer === undefined) throw new Error('no layers');
  return `/live/${layerFile(layer)}`;
};
const treeOf = (medium: Medium): string => base(medium).replace('.squashfs', '.verity');

/** What a boot ends with when the initramfs stops with these words. */
function stopped(words: string): object {
  const message = expect.stringContaining(`it stopped: ${words}\n`);
  return { status: 3, last: { event: 'error', code: 'guest-failed', message } };
}

describe('read from the medium, through dm-verity', () => {
  test('a changed byte in a layer, where it is mounted by', async () => {
    const medium = mediumOf('none');
    // The superblock.
    const end = await boot(tampered(medium, base(medium), [0]));
    expect(end).toMatchObject(stopped(`${base(medium).slice(1)} or its hash tree is damaged`));
  });

  test('a changed byte in a hash tree', async () => {
    const medium = mediumOf('none');
    // Its first block is the one that the root hash is of.
    const end = await boot(tampered(medium, treeOf(medium), [100]));
    expect(end).toMatchObject(stopped(`${base(medium).slice(1)} or its hash tree is damaged`));
  });

  test('no layer', async () => {
    const medium = mediumOf('none');
    expect(await boot(without(medium, base(medium)))).toMatchObject(
      stopped(`${base(medium).slice(1)} is missing from the medium`),
    );
  });

  test('no hash tree', async () => {
    const medium = mediumOf('none');
    expect(await boot(without(medium, treeOf(medium)))).toMatchObject(
      stopped(`${treeOf(medium).slice(1)} is missing from the medium`),
    );
  });

  test('a changed byte in the manifest', async () => {
    const medium = mediumOf('none');
    const { profile, version } = medium.manifest;
    const path = `images/${profile.name}/${version}/manifest.json`;
    const end = await boot(tampered(medium, `/${path}`, [-2]));
    expect(end).toMatchObject(stopped(`${path} is not the one that was signed with the kernel command line`));
  });

  test('bytes all over a layer: whatever was changed is not run', async () => {
    const medium = mediumOf('none');
    const { size } = extentOf(medium.iso, base(medium));
    // One in each block of the middle half, which holds content of files; the tables are at the end.
    const blocks = Array.from(
      { length: Math.floor(size / 4096 / 2) },
      (_, index) => Math.floor(size / 4) + index * 4096,
    );
    const log = join(temporaryDirectory(), 'console.log');
    const end = await boot(tampered(medium, base(medium), blocks), log);
    expect(end.status).toBe(3);
    expect(end.last).toMatchObject({ event: 'error', code: 'guest-failed' });
    expect(readFileSync(log, 'utf8')).toMatch(/device-mapper: verity: .* data block \d+ is corrupted/);
  });
});

describe('copied to RAM', () => {
  test('boots, says that the medium is no longer needed, and goes on without it', async () => {
    const medium = mediumOf('layers');
    const copy = join(temporaryDirectory(), 'copy.iso');
    copyFileSync(medium.iso, copy);
    const log = join(temporaryDirectory(), 'console.log');
    const end = await boot(copy, log, ['--pull-out']);
    expect(end.last).toMatchObject({ event: 'result', ok: true, image: medium.manifest.image, clean: true });
    expect(readFileSync(log, 'utf8')).toMatch(/relive: demo-\S+ is in RAM: the medium can be taken out\./);
    expect(readFileSync(log, 'utf8')).toContain('with 0 disks all of it was read');
  });

  test('a changed byte in the middle of a layer', async () => {
    const medium = mediumOf('layers');
    const { size } = extentOf(medium.iso, base(medium));
    const end = await boot(tampered(medium, base(medium), [Math.floor(size / 2)]));
    expect(end).toMatchObject(
      stopped(`${base(medium).slice(1)} is damaged: it has another SHA-256 than its manifest says`),
    );
  });
});

test('unpacked into RAM, asked for by hand, where nothing can unpack', async () => {
  const { manifest } = mediumOf('none');
  const directory = join(site.store, 'images', manifest.profile.name, manifest.version);
  // It does not get as far as looking for the image.
  const empty = join(temporaryDirectory(), 'empty.img');
  writeFileSync(empty, Buffer.alloc(1_048_576));
  const text = readFileSync(join(directory, 'manifest.json'), 'utf8');
  const machine = await LiveMachine.start(empty, {}, [
    ...['-kernel', join(directory, 'vmlinuz'), '-initrd', join(directory, 'initrd.img')],
    ...['-append', [...kernelCommandLine(manifest, text), 'relive.ram=unpacked'].join(' ')],
  ]);
  onTestFinished(async () => await machine.end());
  expect(await machine.seen(/relive: stopped: .*/, 300)).toContain('the initrd has no unsquashfs');
});

test('out of an ISO that is a file on a disk, into RAM; then nothing holds the disk', async () => {
  const work = temporaryDirectory();
  const store = join(work, 'store');
  mkdirSync(join(store, 'isos'), { recursive: true });
  const { iso, manifest } = mediumOf('none');
  copyFileSync(iso, join(store, 'isos/demo.iso'));
  const key = await readGrubKey(join(site.directory, 'keys/public.asc'));
  const cd = await grubCd(work, { check: 'signature', publicKey: key, timeoutSeconds: 60 });
  const machine = new MenuMachine(cd, [diskOf(store, Math.ceil(statSync(iso).size / 1e6) + 64)], 1024);
  onTestFinished(async () => await machine.end());
  // ISO files; the file; the image; copied to RAM.
  for (const keys of ['\r', '\r', '\r', '\u000e\r']) {
    await machine.entries();
    machine.send(keys);
  }
  await machine.seen(new RegExp(`relive: ${manifest.image} is in RAM: the medium can be taken out`), 300);
  expect(await machine.seen(/relive: (?:un)?healthy .*/, 300)).toContain(`healthy ${manifest.image}`);
});
