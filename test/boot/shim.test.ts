import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { signProgram } from '../../src/image/authenticode.ts';
import {
  createSecureBootKeys,
  secureBootDirectory,
  secureBootSigner,
} from '../../src/image/secure-boot-keys.ts';
import { firmwareVariables } from '../../src/vm/qemu.ts';
import { runCommand, succeed } from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { addTinyImage, guestKernel, makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { MenuMachine } from '../fixtures/menu.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';

let key: SigningKey;
let own: { readonly keys: string };
let tiny: TinyStore;

/** A program without any signature: Debian's own key signs its kernels, and shim knows it. */
function unsigned(program: Buffer): Buffer {
  const file = join(own.keys, 'program');
  writeFileSync(file, program);
  execFileSync('sbattach', ['--remove', file], { stdio: 'pipe' });
  return readFileSync(file);
}

beforeAll(async () => {
  key = makeSigningKey('Test Images', 'rsa3072');
  own = { keys: mkdtempSync(join(tmpdir(), 'relive-test-keys-')) };
  await createSecureBootKeys(own, { user: 'Test', bits: 2048, replace: false }, recordingContext());
  const signer = await secureBootSigner(own, recordingContext());
  const kernel = await signProgram(unsigned(guestKernel()), 'vmlinuz', signer);
  tiny = makeTinyStore('healthy', key, 'amd64', () => kernel, 'shim');
  cpSync(secureBootDirectory(own), join(tiny.site, 'keys/secure-boot'), { recursive: true });
});
afterAll(() => {
  key.remove();
  tiny.remove();
  rmSync(own.keys, { recursive: true, force: true });
});

/**
 * Presses keys until something is seen: what is pressed while shim draws a box is lost. Not often: what it hears late
 * would be an answer to its next question.
 */
async function press(machine: MenuMachine, keys: string, until: RegExp): Promise<void> {
  for (let left = 3; ; left -= 1) {
    await new Promise((done) => setTimeout(done, 1000));
    machine.send(keys);
    try {
      await machine.seen(until, 25);
      return;
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}

/** Chooses one of MokManager's entries, of which the first is chosen already, and waits for what follows. */
async function choose(
  machine: MenuMachine,
  entries: readonly string[],
  wanted: string,
  next: RegExp,
): Promise<void> {
  for (const entry of entries.slice(1)) await machine.seen(new RegExp(entry));
  for (let left = entries.indexOf(wanted); left > 0; left -= 1) {
    // It draws all entries anew, which says that it has heard. A corner in the OVMF of Debian 12, a line in UTF-8 in later ones.
    await press(machine, '\u001b[B', new RegExp(`${entries.at(-1)}[^]*(?:\u00d9|\u00e2{4})`));
  }
  await press(machine, '\r', next);
}

test('a machine as it is sold learns the key by MokManager, starts what it has signed, and no other kernel', async () => {
  // GnuPG's signatures are right; but the newest kernel has no signature of a key that shim knows.
  addTinyImage(tiny.site, 'healthy', key, '20261123.01', undefined, 'amd64', unsigned, 'shim');
  const disk = join(tiny.site, 'medium.img');
  const version = 'store/images/tiny/20261123.01';
  await succeed(
    ['medium', 'create', disk, '--size', '256M', '--image', 'tiny-20261122.01,tiny-20261123.01'],
    {
      site: tiny.site,
    },
  );
  rmSync(join(tiny.site, version), { recursive: true });
  const variables = join(tiny.site, 'variables.fd');
  copyFileSync(await firmwareVariables('amd64', 'microsoft'), variables);
  const machine = new MenuMachine(disk, [], 512, {
    firmware: 'microsoft',
    attach: 'disk',
    scratchMedium: true,
    variables,
  });
  onTestFinished(async () => await machine.end());
  await machine.seen(/Security Violation[^]*OK/, 180);
  await press(machine, '\r', /Press any key to perform MOK management/);
  await press(machine, '\r', /Continue boot/);
  await choose(machine, ['Continue boot', 'Enroll key', 'Enroll hash'], 'Enroll key', /RELIVE/);
  await press(machine, '\r', /EFI\//);
  await choose(machine, ['EFI/', 'RELIVE\\.CER'], 'RELIVE\\.CER', /View key 0/);
  await choose(machine, ['View key 0', 'Continue'], 'Continue', /No/);
  await choose(machine, ['No', 'Yes'], 'Yes', /Reboot/);
  machine.send('\r');
  await machine.seen(/relive: refused: \/images\/tiny\/20261123\.01\/vmlinuz[^]*at once with Esc/, 120);
  machine.send('\u001b');
  // The menu is there again; the next entry is the image before.
  await machine.seen(/Use the .* keys to select/);
  await press(machine, '\u000e\r', /relive: loading \/images\/tiny\/20261122\.01\/vmlinuz/);
  expect(await machine.seen(/relive: healthy tiny-\S+/, 180)).toBe('relive: healthy tiny-20261122.01');
}, 480_000);

test("by Debian's chain alone: a medium and an ISO start on a machine as it is sold, and no kernel that Debian has not signed", async () => {
  const debian = makeTinyStore('healthy', undefined, 'amd64', (kernel) => kernel, 'debian');
  onTestFinished(debian.remove);
  const { site } = debian;
  const disk = join(site, 'medium.img');
  const { lines } = await succeed(['medium', 'create', disk, '--size', '256M'], { site });
  expect(lines).toContainEqual(
    expect.objectContaining({ event: 'warning', message: expect.stringContaining("Debian's own GRUB") }),
  );
  const machine = [
    ...['--firmware', 'microsoft', '--accel', 'tcg', '--memory', '512', '--timeout', '240'],
    ...['--cpus', '1', '--power-off', '0'],
  ];
  const log = join(site, 'console.log');
  const { last } = await succeed(['vm', disk, ...machine, '--log', log], { site });
  expect(last).toMatchObject({ healthy: true, image: debian.image });
  expect(readFileSync(log, 'utf8')).toMatch(/secureboot: Secure boot enabled/i);

  const kernel = join(debian.imageDirectory, 'vmlinuz');
  writeFileSync(kernel, unsigned(readFileSync(kernel)));
  const refused = await runCommand(['vm', debian.image, ...machine], { site });
  expect(refused).toMatchObject({
    status: 3,
    last: { message: expect.stringContaining('GRUB refused /images/tiny/20261122.01/vmlinuz') },
  });

  // What asks for its signatures would be started unchecked.
  const asking = makeTinyStore('not-started', key, 'amd64', (plain) => plain, 'debian');
  onTestFinished(asking.remove);
  const mixed = await runCommand(['medium', 'create', join(asking.site, 'a.img')], { site: asking.site });
  expect(mixed).toMatchObject({
    status: 2,
    last: { code: 'configuration', message: expect.stringContaining('checks no signatures') },
  });
}, 480_000);

test.each(['shim', 'secure-boot'])(
  'the ISO starts where shim knows the key, and where firmware does: %s',
  async (firmware) => {
    const log = join(tiny.site, 'console.log');
    const { last } = await succeed(
      [
        ...['vm', 'tiny-20261122.01', '--firmware', firmware, '--accel', 'tcg', '--memory', '512'],
        ...['--timeout', '240', '--log', log, '--cpus', '1', '--power-off', '0'],
      ],
      { site: tiny.site },
    );
    expect(last).toMatchObject({ healthy: true, firmware });
    expect(readFileSync(log, 'utf8')).toMatch(/secureboot: Secure boot enabled/i);
  },
  360_000,
);
