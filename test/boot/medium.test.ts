import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { diskKind } from '../../src/medium/target.ts';
import { bootDefaults, bootImage } from '../../src/vm/boot.ts';
import { succeed } from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { addTinyImage, makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { MenuMachine } from '../fixtures/menu.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { builtSite } from '../fixtures/site.ts';
import { copySparse, cutPower, recordWrites, seeded } from '../fixtures/write-log.ts';
import { slowTests, temporaryDirectory } from '../support.ts';

let key: SigningKey;
let tiny: TinyStore;

beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  tiny = makeTinyStore('healthy', key);
});
afterAll(() => {
  tiny.remove();
  key.remove();
});

async function boot(
  disk: string,
  firmware: 'bios' | 'uefi' | 'uefi32',
  image: string | undefined,
): Promise<unknown> {
  const { iso, sectorSize } = await diskKind(disk);
  const settings = {
    ...bootDefaults,
    accelerator: 'tcg',
    memoryMib: firmware === 'uefi32' ? 1024 : 256,
    cpus: 1,
    powerOffSeconds: undefined,
  } as const;
  return await bootImage(
    { ...settings, timeoutSeconds: 240, medium: disk, scratchMedium: !iso, sectorSize, firmware, image },
    recordingContext(),
  );
}

test('a medium boots by BIOS, by UEFI and by UEFI of 32 bits, and its newest image after a sync', async () => {
  const { site } = tiny;
  const disk = join(temporaryDirectory(), 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '256M', '--volume', 'DATA:32M'], { site });
  expect(await boot(disk, 'bios', tiny.image)).toMatchObject({ healthy: true, image: tiny.image });
  expect(await boot(disk, 'uefi', tiny.image)).toMatchObject({ healthy: true, image: tiny.image });
  expect(await boot(disk, 'uefi32', tiny.image)).toMatchObject({ healthy: true, image: tiny.image });
  const { image } = addTinyImage(site, 'healthy', key, '20261122.02', 'another\n');
  const before = join(temporaryDirectory(), 'before.img');
  copySparse(disk, before);
  const writes = await recordWrites(disk, async (device) => {
    await succeed(['medium', 'sync', device], { site });
  });
  // Power is lost while that is done; a hundred such cuts are looked at in test/integration/medium/power.test.ts.
  const firmwares = ['bios', 'uefi'] as const;
  const booted: unknown[] = [];
  await cutPower(before, writes, firmwares.length, seeded(1), async (cut, number) => {
    booted.push(await boot(cut, firmwares[number] ?? 'bios', undefined));
    return [];
  });
  expect(booted).toMatchObject(firmwares.map(() => ({ healthy: true })));
  expect(await boot(disk, 'bios', image)).toMatchObject({ healthy: true, image });
  expect(await boot(disk, 'uefi', image)).toMatchObject({ healthy: true, image });
});

// What GRUB does with such a store is in menu.test.ts, and the rest in test/integration/medium/disk.test.ts.
test.runIf(slowTests)(
  'a whole image boots from a store of exFAT: GRUB counts its trial there, the system writes that it is good',
  async () => {
    const { directory: site, image } = await builtSite();
    const work = temporaryDirectory();
    const disk = join(work, 'medium.img');
    await succeed(['medium', 'create', disk, '--size', '1G', '--filesystem', 'exfat'], { site });
    // Nothing starts from this CD, so BIOS goes on to the disk, which can be written to.
    const nothing = join(work, 'nothing');
    writeFileSync(nothing, Buffer.alloc(1024 * 1024));
    const machine = new MenuMachine(nothing, [disk], 1024);
    onTestFinished(async () => await machine.end());
    await machine.seen(new RegExp(`${image}: trial 1 of 3`), 60);
    await machine.seen(new RegExp(`relive: healthy ${image}`), 400);
    await machine.powerDown(120);
    expect(await succeed(['medium', 'verify', disk], { site })).toMatchObject({
      last: { images: { [image]: 0 } },
    });
    const { last } = await succeed(['medium', 'menu', disk], { site });
    const entries = last?.['entries'] as { readonly title: string }[] | undefined;
    expect(entries?.[0]?.title).toContain(image);
    expect(entries?.[0]?.title).not.toContain('on trial');
  },
);

test('a medium with sectors of 4096 bytes boots by UEFI', async () => {
  const disk = join(temporaryDirectory(), 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '512M', '--sector-size', '4096'], { site: tiny.site });
  expect(await diskKind(disk)).toEqual({ iso: false, sectorSize: 4096 });
  const { healthy } = (await boot(disk, 'uefi', undefined)) as { healthy: boolean };
  expect(healthy).toBe(true);
});
