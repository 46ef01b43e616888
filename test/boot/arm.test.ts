import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { exportIso, withBootableIso } from '../../src/medium/export.ts';
import { readFatFile } from '../../src/medium/fat.ts';
import { efiPrograms } from '../../src/medium/grub.ts';
import { findTarget, withMedium } from '../../src/medium/target.ts';
import { loadSite } from '../../src/site/site.ts';
import { type BootOptions, type BootResult, bootDefaults, bootImage } from '../../src/vm/boot.ts';
import { succeed } from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { errorLike } from '../fixtures/expecting.ts';
import { addTinyImage, type GuestArchitecture, makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { debianKeyring, hostArchive } from '../fixtures/host-archive.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { freshSite, removeSite } from '../fixtures/site.ts';
import { slowTests } from '../support.ts';

let key: SigningKey;
beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
});
afterAll(() => key.remove());

/** Those programs that a medium has for UEFI. */
async function efiProgramsOn(disk: string): Promise<string[]> {
  const target = await findTarget(disk, false, recordingContext());
  return await withMedium(target, 'read', async ({ disk: bytes, layout: { efi } }) => {
    const there: string[] = [];
    for (const program of Object.values(efiPrograms)) {
      const content = await readFatFile(bytes, efi.offset, efi.bytes, `EFI/BOOT/${program}`);
      if (content !== undefined) there.push(program);
    }
    return there;
  });
}

async function boot(
  { site, image }: TinyStore,
  architecture: GuestArchitecture,
  options: Partial<BootOptions> = {},
): Promise<BootResult> {
  const context = recordingContext();
  return await withBootableIso(
    async () => await loadSite(site),
    image,
    context,
    async (iso) => {
      expect(iso.architecture).toBe(architecture);
      const settings = {
        ...bootDefaults,
        cpus: 1,
        memoryMib: 512,
        powerOffSeconds: undefined,
        timeoutSeconds: 240,
      };
      return await bootImage(
        { ...settings, medium: iso.file, image: iso.image, architecture, ...options },
        context,
      );
    },
  );
}

describe.each(['arm64', 'armhf'] as const)('an image for %s', (architecture) => {
  test('is an ISO for UEFI alone, which boots from a disk and a CD, and refuses a changed kernel', async () => {
    const tiny = makeTinyStore('healthy', key, architecture);
    onTestFinished(tiny.remove);
    const { file } = await exportIso(
      await loadSite(tiny.site),
      'tiny',
      join(tiny.site, 'a.iso'),
      recordingContext(),
    );
    const report = execFileSync('xorriso', ['-indev', file, '-report_el_torito', 'plain'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(report).toMatch(/El Torito boot img :.*UEFI/);
    expect(report).not.toMatch(/El Torito boot img :.*BIOS/);

    const screenshot = join(tiny.site, 'screen.png');
    expect(await boot(tiny, architecture, { screenshot, settleSeconds: 1 })).toMatchObject({
      ...{ healthy: true, image: tiny.image, firmware: 'uefi', accelerator: 'tcg' },
    });
    expect(readFileSync(screenshot).subarray(1, 4).toString()).toBe('PNG');
    expect(await boot(tiny, architecture, { attach: 'cd' })).toMatchObject({ healthy: true });

    const kernel = join(tiny.imageDirectory, 'vmlinuz');
    const bytes = readFileSync(kernel);
    bytes[4_000_000] = (bytes[4_000_000] ?? 0) ^ 1;
    writeFileSync(kernel, bytes);
    await expect(boot(tiny, architecture)).rejects.toMatchObject(
      errorLike('guest-failed', 'GRUB refused /images/tiny/20261122.01/vmlinuz'),
    );
  });
});

test('a medium with images for three kinds of machines starts each of them', async () => {
  const { site, remove } = makeTinyStore('healthy', key, 'amd64', undefined, true, ['arm64', 'armhf']);
  onTestFinished(remove);
  const profiles = { arm64: 'board', armhf: 'old-board' } as const;
  const add = (architecture: keyof typeof profiles, version: string): TinyStore =>
    addTinyImage(
      site,
      'healthy',
      key,
      version,
      `for ${architecture}\n`,
      architecture,
      undefined,
      true,
      profiles[architecture],
    );
  const board = add('arm64', '20261122.02');
  const disk = join(site, 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '256M'], { site });
  // GRUB for one kind of machine more.
  const oldBoard = add('armhf', '20261122.03');
  const { last } = await succeed(['medium', 'sync', disk], { site });
  expect(last).toMatchObject({ added: [oldBoard.image], grub: ['EFI/BOOT/BOOTARM.EFI'] });
  await succeed(['medium', 'verify', disk], { site });
  expect(await efiProgramsOn(disk)).toEqual(['BOOTX64.EFI', 'BOOTIA32.EFI', 'BOOTAA64.EFI', 'BOOTARM.EFI']);

  const start = async (architecture: GuestArchitecture, image: string): Promise<BootResult> =>
    await bootImage(
      {
        ...{ ...bootDefaults, cpus: 1, memoryMib: 512, powerOffSeconds: undefined, timeoutSeconds: 240 },
        ...{ medium: disk, scratchMedium: true, image, architecture, accelerator: 'tcg' },
      },
      recordingContext(),
    );
  expect(await start('amd64', 'tiny-20261122.01')).toMatchObject({ healthy: true, firmware: 'bios' });
  expect(await start('arm64', board.image)).toMatchObject({ healthy: true, firmware: 'uefi' });
  expect(await start('armhf', oldBoard.image)).toMatchObject({ healthy: true, firmware: 'uefi' });

  // GRUB for machines that it has no image for is none of its business.
  await succeed(['medium', 'create', disk, '--yes', '--image', 'board'], { site });
  expect(await efiProgramsOn(disk)).toEqual(['BOOTAA64.EFI']);
});

/** Emulated from the first package to the login: half an hour each on two cores. The guests above have Debian's kernels, too. */
const minutes = 60_000;

describe.runIf(slowTests).each(['arm64', 'armhf'] as const)('a whole image for %s', (architecture) => {
  test(
    'is built here, and comes up',
    async () => {
      const site = await freshSite();
      onTestFinished(() => removeSite(site));
      const file = join(site.directory, 'relive.yaml');
      const repository = {
        ...{ url: [hostArchive()], suites: ['trixie'], components: ['main'] },
        ...{ architectures: [architecture], signedBy: debianKeyring },
      };
      writeFileSync(
        file,
        `${readFileSync(file, 'utf8').trimEnd()}\n  foreign: ${JSON.stringify(repository)}\n`,
      );
      writeFileSync(
        join(site.directory, 'profiles/foreign.yaml'),
        `version: 1
extends: [demo]
exclude: {repositories: [debian, debian-security]}
repositories: [foreign]
architecture: ${architecture}
boot: {parameters: ["console=ttyAMA0,115200"]}
`,
      );
      await succeed(['build', 'foreign'], { site: site.directory });
      const { last } = await succeed(['vm', 'foreign', '--timeout', '1500'], { site: site.directory });
      expect(last).toMatchObject({ ok: true, firmware: 'uefi', clean: true });
    },
    60 * minutes,
  );
});
