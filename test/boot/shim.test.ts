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
import { succeed } from '../fixtures/command.ts';
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

/** Chooses one of MokManager's entries, of which the first is chosen already, and gives what stood there. */
async function choose(machine: MenuMachine, entries: readonly string[], wanted: string): Promise<void> {
  for (const entry of entries) await machine.seen(new RegExp(entry));
  for (let left = entries.indexOf(wanted); left > 0; left -= 1) {
    machine.send('\u001b[B');
    await new Promise((done) => setTimeout(done, 500));
  }
  machine.send('\r');
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
  await machine.seen(/Security Violation/, 90);
  machine.send('\r');
  await machine.seen(/Press any key to perform MOK management/);
  machine.send('\r');
  await choose(machine, ['Continue boot', 'Enroll key from disk'], 'Enroll key from disk');
  await choose(machine, ['RELIVE'], 'RELIVE');
  await choose(machine, ['EFI/', 'RELIVE\\.CER'], 'RELIVE\\.CER');
  await choose(machine, ['View key 0', 'Continue'], 'Continue');
  await choose(machine, ['No', 'Yes'], 'Yes');
  await choose(machine, ['Reboot'], 'Reboot');
  await machine.seen(/relive: refused: \/images\/tiny\/20261123\.01\/vmlinuz[^]*at once with Esc/, 120);
  machine.send('\u001b');
  const entries = await machine.entries();
  expect(entries.join('\n')).toContain('tiny-20261122.01');
  machine.send('\u001b[B\r');
  await machine.seen(/relive: healthy tiny-20261122\.01/, 120);
}, 480_000);

test.each(['shim', 'secure-boot'])(
  'the ISO starts where shim knows the key, and where firmware does: %s',
  async (firmware) => {
    const log = join(tiny.site, 'console.log');
    const { last } = await succeed(
      [
        ...['vm', 'tiny-20261122.01', '--firmware', firmware, '--accel', 'tcg', '--memory', '512'],
        ...['--timeout', '240', '--log', log],
      ],
      { site: tiny.site },
    );
    expect(last).toMatchObject({ healthy: true, firmware });
    expect(readFileSync(log, 'utf8')).toMatch(/secureboot: Secure boot enabled/i);
  },
  360_000,
);
