import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { exportIso } from '../../src/medium/export.ts';
import type { GrubCheck } from '../../src/medium/grub.ts';
import { grubKey } from '../../src/medium/grub-key.ts';
import { grubLayout } from '../../src/medium/keyboard.ts';
import { menuOf } from '../../src/medium/menu.ts';
import { recordingContext } from '../fixtures/context.ts';
import { debianInstaller } from '../fixtures/guest.ts';
import {
  addImages,
  diskOf,
  fileOnDisk,
  grubCd,
  type MenuImage,
  MenuMachine,
  otherDiskOf,
  writeBlock,
  writeSigned,
} from '../fixtures/menu.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { slowTests, temporaryDirectory } from '../support.ts';

let key: SigningKey;
let otherKey: SigningKey;

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  otherKey = makeSigningKey('Somebody Else', 'rsa3072');
});
afterAll(() => {
  key.remove();
  otherKey.remove();
});

/** Long enough for a picture where these are taken. */
const menuSeconds = process.env['RELIVE_PICTURES'] === undefined ? 3 : 6;

interface Bench {
  readonly work: string;
  readonly store: string;
  readonly start: (...disks: readonly string[]) => Promise<MenuMachine>;
}

/** A store with images, and machines that have GRUB on a CD. */
function bench(
  images: readonly MenuImage[],
  check: GrubCheck = 'signature',
  timeoutSeconds = menuSeconds,
  memoryMib = 256,
): Bench {
  const work = temporaryDirectory();
  const store = join(work, 'store');
  const signer = check === 'signature' ? key : undefined;
  addImages(store, images, signer);
  return {
    work,
    store,
    start: async (...disks) => {
      const publicKey = signer === undefined ? undefined : grubKey(Buffer.from(signer.armoured), 'key');
      const cd = await grubCd(work, { check, publicKey, timeoutSeconds });
      const machine = new MenuMachine(cd, disks, memoryMib);
      onTestFinished(async () => await machine.end());
      return machine;
    },
  };
}

const place = (store: string, version: string, file: string): string =>
  join(store, 'images/demo', version, file);

/** The lines of the menu, as far as the screen shows them, with the mark of the chosen one. */
function onScreen(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/>$/, '').slice(0, 70).trimEnd());
}

const started = (image: string): RegExp => new RegExp(`BOOT_IMAGE=.* relive\\.image=${image} .*\\n`);

/** The variables of a block on a disk. */
const blockOn = (disk: string): string[] =>
  fileOnDisk(disk, '/grubenv')
    .split('\n')
    .filter((line) => !line.startsWith('#'));

test('the menu, of ext4, btrfs and XFS: damaged images are named and the rest start; a trial that fails goes back; the host shows the same', async () => {
  const { work, store, start } = bench([
    { name: 'demo-20261121.01' },
    ...['20261122.01', '20261122.02', '20261122.03', '20261122.04'].map((version) => ({
      name: `demo-${version}`,
    })),
    { name: 'demo-20261123.01', ending: 'restart' },
  ]);
  writeBlock(store, { relive_good: 'demo-20261121.01' });
  // One changed byte; no signature; somebody else's signature; an older boot.cfg with its good signature.
  const changed = place(store, '20261122.01', 'boot.cfg');
  writeFileSync(changed, readFileSync(changed, 'utf8').replace('quiet', 'quieT'));
  rmSync(place(store, '20261122.02', 'boot.cfg.sig'));
  const foreign = place(store, '20261122.03', 'boot.cfg');
  writeSigned(foreign, readFileSync(foreign), otherKey);
  for (const file of ['boot.cfg', 'boot.cfg.sig'])
    copyFileSync(place(store, '20261121.01', file), place(store, '20261122.04', file));
  // What no image is called.
  cpSync(place(store, '20261121.01', ''), join(store, 'images/a $(reboot) "b/20261121.01'), {
    recursive: true,
  });
  cpSync(place(store, '20261121.01', ''), join(store, 'images/demo/.20261124.01'), { recursive: true });
  const other = join(work, 'other');
  addImages(other, [{ name: 'web-20261120.01' }], key);
  const third = join(work, 'third');
  addImages(third, [{ name: 'old-20261119.01' }], key);

  const context = recordingContext();
  const preview = await menuOf(store, { check: 'signature', keyring: key.armoured }, context);
  const web = await menuOf(other, { check: 'signature', keyring: key.armoured }, context);
  const old = await menuOf(third, { check: 'signature', keyring: key.armoured }, context);
  const refused = preview.entries.filter((entry) => entry.refused !== undefined);
  expect(refused.map((entry) => entry.refused)).toEqual(
    ['04', '03', '02', '01'].map((number) => `/images/demo/20261122.${number}/boot.cfg`),
  );
  const expected = [
    ...preview.entries.filter((entry) => entry.refused === undefined),
    ...[...web.entries, ...old.entries].map((entry) => ({ ...entry, default: false })),
    ...refused,
    { title: 'Restart', default: false },
    { title: 'Power off', default: false },
  ]
    .map((entry) => `${entry.default ? '*' : ' '}${entry.title}`)
    // As many as the text screen has rows for.
    .slice(0, 12);
  expect(expected.slice(0, 2)).toEqual([
    '*demo-20261123.01, on trial: 2026-11-23, full, 103 MB, trixie amd64',
    '   last good one: demo-20261121.01: 2026-11-21, full, 103 MB, trixie amd64',
  ]);

  const disk = diskOf(store);
  const machine = await start(disk, otherDiskOf(other, 'btrfs'), otherDiskOf(third, 'xfs'));
  expect(onScreen(await machine.entries())).toEqual(onScreen(expected));
  await machine.picture('menu');
  for (const trial of [1, 2, 3]) {
    const words = await machine.seen(
      new RegExp(`demo-20261123.01: trial ${trial} of 3[^]*${started('demo-20261123.01').source}`),
    );
    expect(words).toMatch(/ relive\.trial=[0-9a-f-]{36} relive\.restart panic=30\r?\n/);
  }
  const back = onScreen(await machine.entries()).slice(0, 2);
  await machine.picture('menu-back');
  expect(back).toEqual([
    ' demo-20261123.01, failed in 3 trials: 2026-11-23, full, 103 MB, trixi',
    '*  last good one: demo-20261121.01: 2026-11-21, full, 103 MB, trixie a',
  ]);
  expect(await machine.seen(started('demo-20261121.01'))).not.toContain('relive.trial');
  await machine.end();
  expect(blockOn(disk)).toEqual([
    'relive_good=demo-20261121.01',
    'relive_trial=demo-20261123.01',
    'relive_tries=3',
  ]);
  writeBlock(store, {
    relive_good: 'demo-20261121.01',
    relive_trial: 'demo-20261123.01',
    relive_tries: '3',
  });
  const after = await menuOf(store, { check: 'signature', keyring: key.armoured }, context);
  expect(after.entries.slice(0, 2)).toMatchObject([
    { image: 'demo-20261123.01', default: false },
    { image: 'demo-20261121.01', default: true },
  ]);
  expect(after.notes).toEqual(['demo-20261123.01 did not come up in 3 trials: back to demo-20261121.01']);
});

test('a hostile environment block sets nothing and runs nothing; one-shot selection; each way to start an image; images for other machines', async () => {
  const { store, start } = bench([
    { name: 'demo-20261121.01' },
    { name: 'demo-20261122.01' },
    { name: 'demo-20261123.01' },
    // The newest of all.
    { name: 'board-20261124.01', architecture: 'arm64' },
    { name: 'other-20261124.01', architecture: 'riscv64' },
    { name: 'web-20261120.01', ending: 'restart' },
  ]);
  writeBlock(store, {
    check_signatures: 'no',
    relive_check: 'none',
    superusers: 'root',
    prefix: '(hd0)/evil',
    relive_candidate: 'x',
    relive_good: '"; reboot; "$(halt)',
    relive_trial: '-f -o ! (',
    relive_tries: '99',
    relive_next: 'web-20261120.01',
  });
  const unsigned = place(store, '20261122.01', 'boot.cfg');
  writeFileSync(unsigned, `${readFileSync(unsigned, 'utf8')}reboot\n`);
  const disk = diskOf(store);
  const options = { check: 'signature', keyring: key.armoured } as const;
  const preview = await menuOf(store, options, recordingContext());
  const board = await menuOf(store, { ...options, architecture: 'arm64' }, recordingContext());
  expect(board.entries.map(({ title }) => title)).toEqual([
    'board-20261124.01, on trial: 2026-11-24, full, 103 MB, trixie arm64',
    '  board: all images, other ways to start',
    'demo-20261122.01: refused: /images/demo/20261122.01/boot.cfg',
    'Images for other machines',
  ]);
  const machine = await start(disk);
  const first = onScreen(await machine.entries());
  expect(first.slice(0, -2)).toEqual(
    onScreen(preview.entries.map((entry) => `${entry.default ? '*' : ' '}${entry.title}`)),
  );
  expect(first).toContain(' Images for other machines');
  expect(first.find((line) => line.startsWith('*'))).toMatch(/^\*web-20261120\.01/);
  expect(first).toContain(' demo-20261122.01: refused: /images/demo/20261122.01/boot.cfg');
  await machine.seen(started('web-20261120.01'));
  // Once only. The newest image of all is on trial: no image is known to be good.
  expect(onScreen(await machine.entries())[0]).toMatch(/^\*demo-20261123\.01, on trial/);
  const down = '\u000e';
  machine.send(`${down.repeat(6)}\r`);
  expect(onScreen(await machine.entries())).toEqual([
    '*board-20261124.01: not for this machine: 2026-11-24, full, 103 MB, tr',
    ' other-20261124.01: not for this machine: 2026-11-24, full, 103 MB, tr',
  ]);
  machine.send('\r');
  await machine.seen(/relive: board-20261124\.01 is for arm64; this machine is i386/);
  machine.send('\u001b');
  await machine.entries();
  machine.send(`${down.repeat(2)}\r`);
  expect(onScreen(await machine.entries())).toEqual([
    '*demo-20261123.01: 2026-11-23, full, 103 MB, trixie amd64',
    ' demo-20261121.01: 2026-11-21, full, 103 MB, trixie amd64',
  ]);
  machine.send(`${down}\r`);
  expect(onScreen(await machine.entries())).toEqual([
    '*demo-20261121.01',
    ' demo-20261121.01, copied to RAM',
    " demo-20261121.01, rescue: a shell for root, by root's password",
    ' demo-20261121.01, check every byte and start nothing',
  ]);
  machine.send(`${down.repeat(3)}\r`);
  expect(await machine.seen(started('demo-20261121.01'))).toMatch(/ quiet relive\.verify-only\r?\n/);
  await machine.end();
  const block = blockOn(disk);
  expect(block).toContain('relive_good="; reboot; "$(halt)');
  expect(block).toContain('relive_tries=99');
  expect(block.filter((line) => line.startsWith('relive_next'))).toEqual([]);
});

test('a kernel that is refused is named, and after three trials the menu goes back; so does a damaged block', async () => {
  const { work, store, start } = bench([{ name: 'demo-20261121.01' }, { name: 'demo-20261123.01' }]);
  writeBlock(store, { relive_good: 'demo-20261121.01' });
  const kernel = place(store, '20261123.01', 'vmlinuz');
  writeFileSync(kernel, Buffer.concat([readFileSync(kernel), Buffer.from([0])]));
  const damaged = join(work, 'damaged');
  cpSync(store, damaged, { recursive: true });
  writeFileSync(join(damaged, 'grubenv'), 'x'.repeat(1024));
  const machine = await start(diskOf(store));
  for (const trial of [1, 2, 3]) {
    await machine.seen(
      new RegExp(
        `trial ${trial} of 3[^]*relive: refused: /images/demo/20261123\\.01/vmlinuz[^]*at once with Esc`,
      ),
    );
    if (trial === 1) await machine.picture('menu-refused');
    machine.send('\u001b');
  }
  await machine.seen(started('demo-20261121.01'));
  await machine.end();

  const second = await start(diskOf(damaged));
  expect(await second.seen(started('demo-20261121.01'))).toContain(' relive.trial=');
});

test('checksums, where no key is wanted: a file that is another one is named, and nothing of it is started', async () => {
  const { store, start } = bench(
    [{ name: 'demo-20261121.01' }, { name: 'demo-20261123.01', checksum: 'sha512' }],
    'checksum',
    1,
  );
  writeFileSync(place(store, '20261123.01', 'initrd.img'), 'another initrd\n');
  const machine = await start(diskOf(store));
  await machine.seen(
    /initrd\.img: HASH MISMATCH[^]*relive: refused: \/images\/demo\/20261123\.01\/boot\.sha512[^]*at once with Esc/,
  );
  machine.send('\u001b');
  await machine.entries();
  machine.send('\u000e\r');
  expect(await machine.seen(started('demo-20261121.01'))).not.toContain('relive.trial');
});

/** An ISO as Debian's installer for the network has it (mini.iso): kernel and initrd. */
function installerIso(directory: string, file: string, linux: string, initrd: string | Buffer): void {
  const tree = join(directory, 'tree');
  mkdirSync(tree, { recursive: true });
  copyFileSync(linux, join(tree, 'linux'));
  writeFileSync(join(tree, 'initrd.gz'), initrd);
  execFileSync('xorriso', ['-no_rc', '-as', 'mkisofs', '-quiet', '-R', '-o', file, tree], {
    stdio: 'ignore',
  });
  // Debian's have a boot sector there. GRUB 2.06 cannot read an ext4 file that begins with a hole, which mke2fs makes of zeros.
  const bytes = readFileSync(file);
  for (let at = 0; at < 32_768; at += 512) bytes[at] = 1;
  writeFileSync(file, bytes);
}

test('ISO files: ours by the signatures inside, others checked whole, and refused without a signature', async () => {
  const { work, store, start } = bench([{ name: 'demo-20261121.01' }], 'signature', 60);
  const isos = join(store, 'isos');
  mkdirSync(join(work, 'keys'));
  mkdirSync(isos);
  writeFileSync(join(work, 'keys/public.asc'), key.armoured);
  for (const name of [`${'a'.repeat(16)}.squashfs`, `${'a'.repeat(16)}.verity`, 'demo-20261121.01.module'])
    writeFileSync(join(store, 'live', name), '');
  await exportIso({ store, keys: join(work, 'keys') }, 'demo', undefined, recordingContext());
  for (const name of ['x-signed.iso', 'y-unsigned.iso'])
    installerIso(work, join(isos, name), place(store, '20261121.01', 'vmlinuz'), 'an initrd\n');
  writeSigned(join(isos, 'x-signed.iso'), readFileSync(join(isos, 'x-signed.iso')), key);
  // The same signature, and one byte changed in a file that is not even offered.
  const changed = readFileSync(join(isos, 'x-signed.iso'));
  changed[changed.length - 1] = 1 ^ (changed.at(-1) ?? 0);
  writeFileSync(join(isos, 'z-changed.iso'), changed);
  copyFileSync(join(isos, 'x-signed.iso.sig'), join(isos, 'z-changed.iso.sig'));
  writeFileSync(join(isos, 'not "offered$(reboot).iso'), '');
  const disk = diskOf(store, 64);
  const down = '\u000e';

  const machine = await start(disk);
  await machine.entries();
  machine.send(`${down.repeat(2)}\r`);
  const names = (await machine.entries()).map((line) => line.slice(1).replace(/^\(.*\)/, ''));
  expect(names.toSorted()).toEqual([
    '/isos/demo-20261121.01.iso',
    '/isos/x-signed.iso',
    '/isos/y-unsigned.iso',
    '/isos/z-changed.iso',
  ]);
  const choose = (name: string): void => machine.send(`${down.repeat(names.indexOf(`/isos/${name}`))}\r`);
  for (const name of ['y-unsigned', 'z-changed']) {
    choose(`${name}.iso`);
    await machine.seen(new RegExp(`relive: refused: /isos/${name}\\.iso[^]*at once with Esc`));
    machine.send('\u001b');
    await machine.entries();
    machine.send(`${down.repeat(2)}\r`);
    await machine.entries();
  }
  choose('x-signed.iso');
  expect((await machine.entries()).map((line) => line.slice(1))).toEqual([
    "/isos/x-signed.iso: Debian's installer",
  ]);
  machine.send('\r');
  await machine.seen(/BOOT_IMAGE=\(iso\)\/linux .*\n/);
  await machine.end();

  const second = await start(disk);
  await second.entries();
  second.send(`${down.repeat(2)}\r`);
  await second.entries();
  second.send(`${down.repeat(names.indexOf('/isos/demo-20261121.01.iso'))}\r`);
  expect(onScreen(await second.entries())).toEqual([
    '*demo-20261121.01: 2026-11-21, full, 103 MB, trixie amd64',
  ]);
  second.send('\r');
  await second.entries();
  second.send('\r');
  expect(await second.seen(started('demo-20261121.01'))).toMatch(
    /BOOT_IMAGE=\(iso\)\/images\/demo.* findiso=\/isos\/demo-20261121\.01\.iso\r?\n/,
  );
});

/** 133 MB to fetch, and minutes of an emulated machine. */

test.runIf(slowTests)("Debian's installer, checked whole, comes up to its first question", async () => {
  const { work, store, start } = bench([{ name: 'demo-20261121.01' }], 'signature', 60, 1024);
  const tree = debianInstaller();
  const isos = join(store, 'isos');
  mkdirSync(isos);
  const file = join(isos, 'mini.iso');
  installerIso(work, file, join(tree, 'linux'), readFileSync(join(tree, 'initrd.gz')));
  writeSigned(file, readFileSync(file), key);
  const machine = await start(diskOf(store, 128));
  const down = '\u000e';
  await machine.entries();
  machine.send(`${down.repeat(2)}\r`);
  await machine.entries();
  machine.send('\r');
  await machine.seen(/relive: checking \/isos\/mini\.iso/);
  await machine.seen(/mini\.iso: Debian's installer/, 300);
  machine.send('\r');
  expect(await machine.seen(/Select a language/, 400)).toBeTruthy();
});

test('a keyboard of another layout: PS/2 by it, USB by the firmware, and the serial line as ever', async () => {
  const { work, store } = bench([{ name: 'demo-20261121.01' }], 'none');
  const disk = diskOf(store);
  const layout = await grubLayout({ layout: 'de' }, work, recordingContext());
  const cd = await grubCd(work, { check: 'none', publicKey: undefined, timeoutSeconds: 60, layout });
  // Typed on a German keyboard: echo zy-@
  const keys = ['e', 'c', 'h', 'o', 'spc', 'y', 'z', 'slash', 'alt_r-q', 'ret'];
  for (const { more, typed } of [
    { more: [], typed: 'zy-@' },
    { more: ['-device', 'qemu-xhci', '-device', 'usb-kbd'], typed: 'yz/' },
    {
      more: ['-machine', 'i8042=off', '-device', 'qemu-xhci', '-device', 'usb-kbd'],
      typed: 'yz/',
    },
  ]) {
    const machine = new MenuMachine(cd, [disk], 256, {}, more);
    onTestFinished(async () => await machine.end());
    await machine.entries();
    await machine.press('c');
    await machine.seen(/grub>/);
    await machine.press(...keys);
    expect(await machine.seen(/\n(?:zy-@|yz\/)\s/)).toContain(typed);
    machine.send('echo serial-zy\r');
    await machine.seen(/\nserial-zy\s/);
    // Back to the menu, and along its lines.
    await machine.press('esc', 'down', 'ret');
    await machine.seen(/other ways to start|verify|rescue/);
    await machine.end();
  }
});

test('a store of exFAT: its images start, and trials are counted there', async () => {
  const { store, start } = bench([
    { name: 'demo-20261121.01' },
    { name: 'demo-20261122.01', ending: 'restart' },
  ]);
  writeBlock(store, { relive_good: 'demo-20261121.01' });
  const machine = await start(otherDiskOf(store, 'exfat'));
  for (const trial of [1, 2]) {
    const words = await machine.seen(
      new RegExp(`demo-20261122.01: trial ${trial} of 3[^]*${started('demo-20261122.01').source}`),
    );
    expect(words).toMatch(/ relive\.trial=[0-9a-fA-F]{4}-[0-9a-fA-F]{4} /);
  }
});
