import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { diskKind } from '../../src/medium/target.ts';
import { bootDefaults, bootImage } from '../../src/vm/boot.ts';
import { succeed } from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { addTinyImage, makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { copySparse, cutPower, recordWrites, seeded } from '../fixtures/write-log.ts';
import { temporaryDirectory } from '../support.ts';

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
    powerOffSeconds: 1,
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

test('a medium with sectors of 4096 bytes boots by UEFI', async () => {
  const disk = join(temporaryDirectory(), 'medium.img');
  await succeed(['medium', 'create', disk, '--size', '512M', '--sector-size', '4096'], { site: tiny.site });
  expect(await diskKind(disk)).toEqual({ iso: false, sectorSize: 4096 });
  const { healthy } = (await boot(disk, 'uefi', undefined)) as { healthy: boolean };
  expect(healthy).toBe(true);
});
