import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { signProgram } from '../../src/image/authenticode.ts';
import {
  createSecureBootKeys,
  secureBootCertificates,
  secureBootDirectory,
  secureBootSigner,
} from '../../src/image/secure-boot-keys.ts';
import { withBootableIso } from '../../src/medium/export.ts';
import { loadSite } from '../../src/site/site.ts';
import { type BootResult, bootDefaults, bootImage } from '../../src/vm/boot.ts';
import { runCommand, succeed } from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { errorLike } from '../fixtures/expecting.ts';
import { guestKernel, makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';

/** A line of grub.cfg. */
const closesMenu = 'set superusers=';

let key: SigningKey;
/** Two sites' keys: those that the firmware knows, and others of the same names. */
let own: { readonly keys: string };
let foreign: { readonly keys: string };

beforeAll(async () => {
  key = makeSigningKey('Test Images', 'rsa3072');
  own = { keys: mkdtempSync(join(tmpdir(), 'relive-test-keys-')) };
  foreign = { keys: mkdtempSync(join(tmpdir(), 'relive-test-keys-')) };
  for (const site of [own, foreign])
    await createSecureBootKeys(site, { user: 'Test', bits: 2048, replace: false }, recordingContext());
});
afterAll(() => {
  key.remove();
  for (const { keys } of [own, foreign]) rmSync(keys, { recursive: true, force: true });
});

/** An image whose kernel `kernelBy` has signed besides Debian, at a site which signs GRUB with the keys of `grubBy`. */
async function storeOf(kernelBy: typeof own | undefined, grubBy: typeof own): Promise<TinyStore> {
  const signer = kernelBy === undefined ? undefined : await secureBootSigner(kernelBy, recordingContext());
  const plain = guestKernel();
  const kernel = signer === undefined ? plain : await signProgram(plain, 'vmlinuz', signer);
  const tiny = makeTinyStore('healthy', key, 'amd64', () => kernel);
  onTestFinished(tiny.remove);
  cpSync(secureBootDirectory(grubBy), join(tiny.site, 'keys/secure-boot'), { recursive: true });
  return tiny;
}

const settings = {
  ...bootDefaults,
  firmware: 'secure-boot',
  accelerator: 'tcg',
  memoryMib: 512,
  cpus: 1,
  powerOffSeconds: undefined,
  timeoutSeconds: 240,
} as const;

/** Boots it in a machine that knows our keys alone. */
async function boot(tiny: TinyStore, log: string): Promise<BootResult> {
  const context = recordingContext();
  return await withBootableIso(
    async () => await loadSite(tiny.site),
    tiny.image,
    context,
    async ({ file, image }) =>
      await bootImage(
        { ...settings, enrolled: await secureBootCertificates(own), medium: file, image, log },
        context,
      ),
  );
}

test('what our keys have signed boots, and the kernel knows that Secure Boot is on', async () => {
  const tiny = await storeOf(own, own);
  const log = join(tiny.site, 'console.log');
  expect(await boot(tiny, log)).toMatchObject({ healthy: true, firmware: 'secure-boot' });
  expect(readFileSync(log, 'utf8')).toMatch(/secureboot: Secure boot enabled/i);
});

test.each([
  ['by nobody but Debian', false],
  ['by another key', true],
])('a kernel that is signed %s is refused by the firmware, and GRUB says so', async (_name, signed) => {
  const tiny = await storeOf(signed ? foreign : undefined, own);
  const log = join(tiny.site, 'console.log');
  await expect(boot(tiny, log)).rejects.toMatchObject(
    errorLike('guest-failed', 'GRUB refused /images/tiny/20261122.01/vmlinuz'),
  );
  expect(readFileSync(log, 'utf8')).not.toContain('relive: healthy');
});

test('a GRUB that another key has signed is refused', async () => {
  const tiny = await storeOf(own, foreign);
  await expect(boot(tiny, join(tiny.site, 'console.log'))).rejects.toMatchObject(
    errorLike('guest-failed', 'its firmware refused the boot loader'),
  );
});

test('a GRUB in whose grub.cfg one byte is changed is refused', async () => {
  const tiny = await storeOf(own, own);
  const iso = join(tiny.site, 'changed.iso');
  await succeed(['image', 'export', tiny.image, '--iso', iso], { site: tiny.site });
  const bytes = readFileSync(iso);
  // GRUB for BIOS is compressed: only those for UEFI, of 64 and of 32 bits, show their scripts.
  let places = 0;
  for (let at = bytes.indexOf(closesMenu); at >= 0; at = bytes.indexOf(closesMenu, at)) {
    bytes.write('X', at, 'latin1');
    places += 1;
  }
  expect(places).toBe(2);
  writeFileSync(iso, bytes);
  const { status, last } = await runCommand(
    ['vm', iso, '--firmware', 'secure-boot', '--accel', 'tcg', '--memory', '512', '--timeout', '240'],
    { site: tiny.site },
  );
  expect(status).toBe(3);
  expect(last).toMatchObject(errorLike('guest-failed', 'its firmware refused the boot loader'));
});

test('a medium of such an image boots, and is what its verification expects', async () => {
  const tiny = await storeOf(own, own);
  const disk = join(tiny.site, 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '256M'], { site: tiny.site });
  const healthy = bootImage(
    {
      ...settings,
      ...{
        enrolled: await secureBootCertificates(own),
        medium: disk,
        image: tiny.image,
        scratchMedium: true,
      },
    },
    recordingContext(),
  );
  expect(await healthy).toMatchObject({ healthy: true, firmware: 'secure-boot' });
  await succeed(['medium', 'verify', disk], { site: tiny.site });
});
