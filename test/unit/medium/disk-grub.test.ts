import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  biosIsCurrent,
  bootSector,
  coreSectorOf,
  coreSlotBytes,
  installBios,
  placedCore,
} from '../../../src/medium/bios.ts';
import { makeDiskEfi } from '../../../src/medium/efi.ts';
import { readFatFile, replaceFatFile } from '../../../src/medium/fat.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { temporaryDirectory } from '../../support.ts';
import { memoryDisk } from './memory-disk.ts';

const mebibyte = 1024 * 1024;
const bootImage = Buffer.alloc(512, 0xb0);
const partition = { first: 2048 };
const core = (fill: number): Buffer => Buffer.alloc(100_000, fill);

describe('GRUB for BIOS', () => {
  test('is read by the block list that diskboot.S wants', () => {
    const placed = placedCore(core(7), 2048);
    expect(placed.length).toBe(196 * 512);
    expect(placed.readBigUInt64LE(500)).toBe(2049n);
    expect([placed.readUInt16LE(508), placed.readUInt16LE(510)]).toEqual([195, 0x820]);
    expect(placed.subarray(488, 500).every((byte) => byte === 0)).toBe(true);
    expect(placed.subarray(512, 100_000).every((byte) => byte === 7)).toBe(true);
  });

  test('keeps the partition table in the first sector', () => {
    const sector = Buffer.alloc(512, 0x11);
    const made = bootSector(bootImage, sector, 4096);
    expect(made.subarray(446, 510).every((byte) => byte === 0x11)).toBe(true);
    expect(coreSectorOf(made)).toBe(4096);
    expect(made.subarray(0x66, 0x68)).toEqual(Buffer.from([0x90, 0x90]));
  });

  test('is the old one or the new one, wherever the power fails', async () => {
    const size = mebibyte + 2 * coreSlotBytes;
    for (let cut = 0; cut <= 2; cut += 1) {
      const whole = memoryDisk(size);
      await installBios(whole, partition, bootImage, core(1));
      await installBios(whole, partition, bootImage, core(2));
      expect(await biosIsCurrent(whole, partition, bootImage, core(2))).toBe(true);
      const failing = memoryDisk(size, cut);
      whole.content.copy(failing.content);
      await installBios(failing, partition, bootImage, core(3));
      expect(failing.done()).toBe(2);
      expect(await biosIsCurrent(failing, partition, bootImage, core(cut === 2 ? 3 : 2))).toBe(true);
    }
  });

  test('is not current when one byte of it differs', async () => {
    const disk = memoryDisk(mebibyte + 2 * coreSlotBytes);
    await installBios(disk, partition, bootImage, core(1));
    for (const at of [0, 2048 * 512 + 5000]) {
      disk.content[at] = (disk.content[at] ?? 0) ^ 1;
      expect(await biosIsCurrent(disk, partition, bootImage, core(1))).toBe(false);
      disk.content[at] = (disk.content[at] ?? 0) ^ 1;
    }
    expect(await biosIsCurrent(disk, partition, bootImage, core(1))).toBe(true);
  });
});

const path = 'EFI/BOOT/BOOTX64.EFI';

/** A FAT32 file system behind a mebibyte, as it is on a medium. */
async function fatDisk(sectorSize: 512 | 4096): Promise<{ image: Buffer; base: number; bytes: number }> {
  const file = join(temporaryDirectory(), 'efi.img');
  const bytes = (sectorSize === 512 ? 40 : 288) * mebibyte;
  await makeDiskEfi(file, { bytes, sectorSize }, recordingContext());
  return { image: readFileSync(file), base: mebibyte, bytes };
}

describe('GRUB for UEFI', () => {
  test.each([512, 4096] as const)(
    'is a file that other tools read, sectors of %i bytes',
    async (sectorSize) => {
      const { image, base, bytes } = await fatDisk(sectorSize);
      const disk = memoryDisk(base + bytes);
      image.copy(disk.content, base);
      expect(await readFatFile(disk, base, bytes, path)).toBeUndefined();
      for (const content of [
        Buffer.alloc(300_000, 1),
        Buffer.alloc(1_000_001, 2),
        Buffer.alloc(0),
        Buffer.alloc(70_000, 3),
      ]) {
        await replaceFatFile(disk, base, bytes, path, content);
        expect((await readFatFile(disk, base, bytes, path))?.equals(content)).toBe(true);
      }
      await replaceFatFile(disk, base, bytes, 'EFI/BOOT/BOOTIA32.EFI', Buffer.from('another'));
      const file = join(temporaryDirectory(), 'efi.img');
      writeFileSync(file, disk.content.subarray(base));
      const mtools = { env: { ...process.env, MTOOLSRC: '/dev/null', MTOOLS_SKIP_CHECK: '1' } };
      expect(execFileSync('mcopy', ['-i', file, `::/${path}`, '-'], mtools)).toEqual(Buffer.alloc(70_000, 3));
      expect(execFileSync('mcopy', ['-i', file, '::/EFI/BOOT/BOOTIA32.EFI', '-'], mtools).toString()).toBe(
        'another',
      );
      // It ends with another status when the two tables, the chains or the count of free clusters are wrong.
      execFileSync('fsck.vfat', ['-n', file]);
    },
  );

  test('is the old one or the new one, wherever the power fails; the next run takes back what was lost', async () => {
    const { image, base, bytes } = await fatDisk(512);
    const start = memoryDisk(base + bytes);
    image.copy(start.content, base);
    const [old, next] = [Buffer.alloc(5000, 1), Buffer.alloc(7000, 2)];
    await replaceFatFile(start, base, bytes, path, old);
    const counting = memoryDisk(base + bytes);
    start.content.copy(counting.content);
    await replaceFatFile(counting, base, bytes, path, next);
    const seen = new Set<string>();
    for (let cut = 0; cut <= counting.done(); cut += 1) {
      const disk = memoryDisk(base + bytes, cut);
      start.content.copy(disk.content);
      await replaceFatFile(disk, base, bytes, path, next);
      const found = await readFatFile(disk, base, bytes, path);
      seen.add(found?.equals(old) === true ? 'old' : found?.equals(next) === true ? 'new' : 'neither');
      const mended = memoryDisk(base + bytes);
      disk.content.copy(mended.content);
      await replaceFatFile(mended, base, bytes, path, old);
      expect((await readFatFile(mended, base, bytes, path))?.equals(old)).toBe(true);
      if (cut !== 3) continue;
      const file = join(temporaryDirectory(), 'efi.img');
      writeFileSync(file, mended.content.subarray(base));
      execFileSync('fsck.vfat', ['-n', file]);
    }
    expect([...seen].toSorted()).toEqual(['new', 'old']);
  });

  test('a file system that is none, or runs in circles, is an error', async () => {
    const { image, base, bytes } = await fatDisk(512);
    const disk = memoryDisk(base + bytes);
    await expect(readFatFile(disk, base, bytes, path)).rejects.toMatchObject({ code: 'corrupt' });
    image.copy(disk.content, base);
    await replaceFatFile(disk, base, bytes, path, Buffer.alloc(5000));
    const tables = disk.content.readUInt16LE(base + 14) * 512;
    // The root directory's chain leads to itself.
    disk.content.writeUInt32LE(2, base + tables + 8);
    await expect(readFatFile(disk, base, bytes, path)).rejects.toMatchObject({ code: 'corrupt' });
  });
});
