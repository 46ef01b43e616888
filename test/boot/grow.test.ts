import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand, succeed } from '../fixtures/command.ts';
import { makeTinyStore, type TinyStore } from '../fixtures/guest.ts';
import { runInGuest } from '../fixtures/host-guest.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { copySparse, cutPower, parseLog, seeded } from '../fixtures/write-log.ts';
import { slowTests, temporaryDirectory } from '../support.ts';

const mebibyte = 2 ** 20;
const grownBytes = 700 * mebibyte;
const image = 'tiny-20261122.01';
const directory = 'images/tiny/20261122.01';

let key: SigningKey;
let tiny: TinyStore;
beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  tiny = makeTinyStore('not-started', key);
});
afterAll(() => {
  tiny.remove();
  key.remove();
});

/** Whether partx finds the store by the first copy of the table alone, as Linux does. */
function linuxFindsStore(disk: string): boolean {
  const table = join(temporaryDirectory(), 'table');
  execFileSync('dd', [`if=${disk}`, `of=${table}`, 'bs=1M', 'count=1', 'status=none']);
  truncateSync(table, grownBytes);
  const found = execFileSync('partx', ['--raw', '--noheadings', '--output', 'NAME', table], {
    encoding: 'utf8',
  });
  return /^RELIVE$/m.test(found);
}

/** Whether GRUB, which replays no journal, reads a file of the image as the site has it. */
function grubReads(disk: string, name: string): boolean {
  const path = `(loop0,gpt3)/${directory}/${name}`;
  try {
    const local = join(tiny.store, directory, name);
    return (
      execFileSync('grub-fstest', [disk, 'cmp', path, local], { encoding: 'utf8', stdio: 'pipe' }) === ''
    );
  } catch {
    return false;
  }
}

test.runIf(slowTests)(
  'a device grows as the kernel lets root grow it, with sectors of 512 and 4096 bytes, and not while it is mounted; power may fail meanwhile',
  async () => {
    const { site } = tiny;
    const work = temporaryDirectory();
    const [small, large, before, log] = ['small', 'large', 'before', 'log'].map((name) => join(work, name));
    if (small === undefined || large === undefined || before === undefined || log === undefined)
      throw new TypeError('four names');
    for (const [file, size] of [
      [small, '512'],
      [large, '4096'],
    ] as const) {
      await succeed(['medium', 'create', file, '--size', '400M', '--sector-size', size], { site });
      truncateSync(file, grownBytes);
    }
    copySparse(small, before);
    const text = await runInGuest(
      `relive medium grow /dev/vda
relive medium grow /dev/vdb
relive medium grow /dev/vda
busybox mount -t ext4 -o ro /dev/vda3 /mnt
relive medium grow /dev/vda`,
      [
        { file: small, log },
        { file: large, sectorSize: 4096 },
      ],
    );
    const ends = text
      .split('\n')
      .filter((line) => /^\{"event":"(?:result|error)"/.test(line))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const grown = { ok: true, bytes: grownBytes };
    expect(ends).toMatchObject([
      { ...grown, target: '/dev/vda' },
      { ...grown, target: '/dev/vdb' },
      // There is nothing left to do.
      { ...grown, storeBefore: ends[0]?.['store'] },
      { code: 'locked', message: '/dev/vda is in use: /dev/vda3 is mounted at /mnt' },
    ]);
    expect(Number(ends[0]?.['store']) - Number(ends[0]?.['storeBefore'])).toBe(300 * mebibyte);
    for (const file of [small, large]) {
      expect(await runCommand(['medium', 'verify', file], { site })).toMatchObject({
        status: 0,
        last: { images: { [image]: 0 } },
      });
    }

    const writes = parseLog(readFileSync(log));
    const faults = await cutPower(before, writes, 16, seeded(20_261_124), async (disk, cut) => {
      if (!linuxFindsStore(disk)) return ['Linux does not find the store'];
      const found = ['boot.cfg', 'vmlinuz', 'initrd.img'].flatMap((name) =>
        grubReads(disk, name) ? [] : [`GRUB does not read ${name}`],
      );
      if (cut % 4 !== 3) return found;
      const again = await runCommand(['medium', 'grow', disk], { site });
      const checked = await runCommand(['medium', 'verify', disk], { site });
      return [
        ...found,
        ...(again.status === 0 ? [] : [`grow does not finish: ${JSON.stringify(again.last)}`]),
        ...(checked.status === 0 ? [] : [`verify: ${JSON.stringify(checked.lines)}`]),
      ];
    });
    expect(faults).toEqual([]);
    // Those of the table, and those of the kernel; test/integration/medium/power.test.ts looks at the former alone.
    expect(writes.length).toBeGreaterThan(20);
  },
);
