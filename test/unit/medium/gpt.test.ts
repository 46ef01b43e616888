import { randomUUID } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { guidBytes, guidText } from '../../../src/core/guid.ts';
import type { DiskBytes } from '../../../src/medium/bytes.ts';
import {
  type PartitionTable,
  partitionTypes,
  readTable,
  replaceTable,
  usableSectors,
  withProtectiveTable,
  writeTable,
} from '../../../src/medium/gpt.ts';
import { memoryDisk } from './memory-disk.ts';

const bytes = 4 * 1024 * 1024;

function example(sectorSize: number): PartitionTable {
  const sectors = bytes / sectorSize;
  const { first, last } = usableSectors(sectors, sectorSize);
  return {
    ...{ sectorSize, sectors, diskGuid: randomUUID() },
    partitions: [
      { type: partitionTypes.efiSystem, guid: randomUUID(), name: 'RELIVE EFI', first, last: first + 9 },
      {
        type: partitionTypes.linux,
        guid: randomUUID(),
        name: 'Ünïcode 36 characters are the most…',
        first: first + 10,
        last,
      },
    ],
  };
}

async function written(
  sectorSize: number,
): Promise<{ disk: DiskBytes & { content: Buffer }; table: PartitionTable }> {
  const disk = memoryDisk(bytes);
  const table = example(sectorSize);
  await writeTable(disk, table);
  return { disk, table };
}

describe('a GUID partition table', () => {
  test.each([512, 4096])('is read as it was written, sectors of %i bytes', async (sectorSize) => {
    const { disk, table } = await written(sectorSize);
    expect(await readTable(disk, bytes)).toEqual({ table, faults: [] });
  });

  test('is read from either copy, which says what is wrong with the other', async () => {
    for (const [where, at] of [
      ['first', 512 + 70],
      ['first', 1024 + 5],
      ['second', bytes - 512 + 70],
      ['second', bytes - 33 * 512 + 5],
    ] as const) {
      const { disk, table } = await written(512);
      disk.content[at] = (disk.content[at] ?? 0) ^ 1;
      const found = await readTable(disk, bytes);
      expect(found?.table).toEqual(table);
      expect(found?.faults).toEqual([expect.stringContaining(`the ${where} copy`)]);
    }
  });

  test('whatever happens to the first copy, the table is the same', async () => {
    const { disk, table } = await written(512);
    const whole = Buffer.from(disk.content);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 512, max: 512 * 34 - 1 }), fc.integer({ min: 0, max: 255 })), {
          minLength: 1,
          maxLength: 8,
        }),
        async (changes) => {
          whole.copy(disk.content);
          for (const [at, value] of changes) disk.content[at] = value;
          const found = await readTable(disk, bytes);
          expect(found?.table).toEqual(table);
        },
      ),
      { numRuns: 200 },
    );
  });

  test.each([512, 4096])(
    'is replaced so that the first copy is good at any write, sectors of %i bytes',
    async (sectorSize) => {
      const old = example(sectorSize);
      const begin = (1024 * 1024) / sectorSize;
      const partitions = old.partitions.map((one, index) => ({
        ...one,
        first: begin + index,
        last: begin + index,
      }));
      const before = { ...old, partitions };
      const sectors = (2 * bytes) / sectorSize;
      const after = {
        ...before,
        sectors,
        partitions: partitions.map((one) => ({ ...one, guid: randomUUID() })),
      };
      const seen: unknown[] = [];
      for (let writes = 0; writes <= 6; writes += 1) {
        const disk = memoryDisk(2 * bytes);
        await writeTable(disk, before);
        // The kernel takes the first copy alone.
        const limited = memoryDisk(2 * bytes, writes);
        disk.content.copy(limited.content);
        await replaceTable(limited, after);
        expect(limited.done()).toBe(6);
        limited.content.fill(0, 2 * bytes - sectorSize);
        const found = await readTable(limited, 2 * bytes, sectorSize);
        expect(found?.faults).toEqual(['the second copy of the partition table is missing']);
        seen.push(found?.table.partitions);
      }
      expect(seen).toEqual([...Array(4).fill(partitions), ...Array(3).fill(after.partitions)]);
    },
  );

  test('is not replaced where its entries would lie in a partition', async () => {
    const { disk, table } = await written(512);
    await expect(replaceTable(disk, table)).rejects.toThrow(TypeError);
  });

  test('is absent on a disk of zeros, and on one that is too small', async () => {
    expect(await readTable(memoryDisk(bytes), bytes)).toBeUndefined();
    expect(await readTable(memoryDisk(512), 512)).toBeUndefined();
  });
});

test('the protective table covers the disk and keeps the code before it', () => {
  const sector = withProtectiveTable(Buffer.alloc(512, 0x90), 8192);
  expect(sector.subarray(0, 446).every((byte) => byte === 0x90)).toBe(true);
  expect(sector[450]).toBe(0xee);
  expect([sector.readUInt32LE(454), sector.readUInt32LE(458), sector.readUInt16LE(510)]).toEqual([
    1, 8191, 0xaa55,
  ]);
  expect(withProtectiveTable(Buffer.alloc(512), 2 ** 40).readUInt32LE(458)).toBe(0xffff_ffff);
});

test('a GUID has the byte order of GPT', () => {
  // The example of the UEFI specification: the type of EFI system partitions.
  expect(guidBytes(partitionTypes.efiSystem).toString('hex')).toBe('28732ac11ff8d211ba4b00a0c93ec93b');
  const guid = randomUUID();
  expect(guidText(guidBytes(guid))).toBe(guid);
  expect(guid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
