import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { surplusImages } from '../../../src/medium/fill.ts';
import { grownTable, layOut, layoutOf, parseSize, parseVolumes } from '../../../src/medium/layout.ts';

const mebibyte = 1024 * 1024;
const plain = { bytes: 1024 * mebibyte, sectorSize: 512, volumes: [], storeBytes: mebibyte } as const;

describe('the layout of a medium', () => {
  test('is found again in its partition table', () => {
    const layout = layOut({ ...plain, volumes: parseVolumes('DATA:100M,HOME') });
    expect(layoutOf(layout.table)).toEqual(layout);
    expect(layout.table.partitions.map(({ name }) => name)).toEqual([
      'RELIVE BIOS',
      'RELIVE EFI',
      'DATA',
      'HOME',
      'RELIVE',
    ]);
    // What is left is shared evenly.
    expect(Math.abs(layout.store.bytes - (layout.volumes[1]?.bytes ?? 0))).toBeLessThanOrEqual(2 * mebibyte);
  });

  test('grows: its store to the end of the disk, and nothing else', () => {
    for (const sectorSize of [512, 4096] as const) {
      const options = { ...plain, sectorSize, volumes: parseVolumes('DATA:100M') };
      const { table } = layOut(options);
      const grown = layoutOf(grownTable(table, 3 * plain.bytes));
      const larger = layOut({ ...options, bytes: 3 * plain.bytes });
      expect({ ...grown, table: undefined }).toEqual({ ...larger, table: undefined });
      expect(grown?.table.sectors).toBe(larger.table.sectors);
      expect(grownTable(table, plain.bytes)).toEqual(table);
      const [first, ...others] = table.partitions;
      const moved = { ...table, partitions: [...others, { ...first, first: 1e7, last: 1e7 + 9 }] };
      expect(() => grownTable(moved as typeof table, 3 * plain.bytes)).toThrow('lies behind the store');
    }
  });

  test('has no place for BIOS with sectors of 4096 bytes', () => {
    const layout = layOut({ ...plain, sectorSize: 4096 });
    expect(layout.bios).toBeUndefined();
    expect(layoutOf(layout.table)).toEqual(layout);
  });

  test('never overlaps, stays on the disk and begins at whole mebibytes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 400 * mebibyte, max: 2 ** 45 }),
        fc.constantFrom(512 as const, 4096 as const),
        fc.array(fc.option(fc.integer({ min: 8 * mebibyte, max: 20 * mebibyte }), { nil: undefined }), {
          maxLength: 3,
        }),
        (bytes, sectorSize, sizes) => {
          const volumes = sizes.map((size, index) => ({ label: `V${index}`, bytes: size }));
          const { table } = layOut({ bytes, sectorSize, volumes, storeBytes: 0 });
          let end = mebibyte / sectorSize;
          for (const { first, last } of table.partitions) {
            expect(first).toBe(end);
            expect((first * sectorSize) % mebibyte).toBe(0);
            end = last + 1;
          }
          expect(end * sectorSize).toBeLessThanOrEqual(bytes - 33 * 512);
          expect(bytes - end * sectorSize).toBeLessThan(3 * mebibyte);
        },
      ),
    );
  });

  test('that does not fit is an error', () => {
    expect(() => layOut({ ...plain, storeBytes: 2048 * mebibyte })).toThrow(
      expect.objectContaining({ code: 'disk-full' }),
    );
    expect(() => layOut({ ...plain, volumes: parseVolumes('DATA:2G') })).toThrow(
      expect.objectContaining({ code: 'disk-full' }),
    );
  });
});

test.each([
  ['512', 512],
  ['8G', 8 * 1024 ** 3],
  ['1.5M', 1.5 * mebibyte],
  ['2TiB', 2 * 1024 ** 4],
])('a size: %s', (text, bytes) => {
  expect(parseSize(text, '--size')).toBe(bytes);
});

test.each(['', '0', '-1', 'G', '8X', '8 G', '9'.repeat(20)])('no size: %j', (text) => {
  expect(() => parseSize(text, '--size')).toThrow(expect.objectContaining({ code: 'usage' }));
});

test.each(['', 'DATA,', 'DATA:', 'A,A', 'RELIVE', 'DATA:1K', 'a b', 'x'.repeat(17), '-rf', 'A:1G:2'])(
  'no volumes: %j',
  (text) => {
    expect(() => parseVolumes(text)).toThrow(expect.objectContaining({ code: 'usage' }));
  },
);

test('retention keeps the newest of each profile, and what was asked for', () => {
  const images = ['a-20260101.01', 'a-20260102.01', 'a-20260103.01', 'b-20250101.01'].map((name) => ({
    ...{ name, directory: `/store/${name}` },
    ...{ profile: name.slice(0, 1), version: name.slice(2) },
  }));
  const names = (keep: number, wanted: readonly string[]): string[] =>
    surplusImages(images, new Map([['a', { keep }]]), wanted).map(({ name }) => name);
  expect(names(1, [])).toEqual(['a-20260102.01', 'a-20260101.01']);
  expect(names(2, [])).toEqual(['a-20260101.01']);
  expect(names(1, ['a-20260101.01'])).toEqual(['a-20260102.01']);
  expect(names(3, [])).toEqual([]);
});
