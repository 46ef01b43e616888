import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { type ExfatState, exfatState } from '../../../src/medium/exfat.ts';
import { memoryDisk } from './memory-disk.ts';

const mebibyte = 2 ** 20;
let made: Buffer;

beforeAll(() => {
  const directory = mkdtempSync(join(tmpdir(), 'relive-test-exfat-'));
  const file = join(directory, 'exfat');
  writeFileSync(file, '');
  truncateSync(file, 16 * mebibyte);
  execFileSync('mkfs.exfat', ['-L', 'RELIVE', file], { stdio: 'pipe' });
  made = readFileSync(file);
  rmSync(directory, { recursive: true });
});

async function stateOf(content: Buffer): Promise<ExfatState | undefined> {
  const disk = memoryDisk(content.length);
  disk.content.set(content);
  return await exfatState(disk, { offset: 0, bytes: content.length });
}

describe('what exFAT says of itself', () => {
  test('label, size, and whether it was unmounted', async () => {
    expect(await stateOf(made)).toEqual({ label: 'RELIVE', unclean: false, bytes: 16 * mebibyte });
    const dirty = Buffer.from(made);
    dirty.writeUInt16LE(2, 106);
    expect(await stateOf(dirty)).toMatchObject({ unclean: true });
    expect(await stateOf(Buffer.alloc(mebibyte))).toBeUndefined();
  });

  test('whatever stands in its first sector, it is read without an error', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 64, max: 119 }),
        fc.uint8Array({ minLength: 1, maxLength: 16 }),
        async (at, bytes) => {
          const other = Buffer.from(made.subarray(0, 4 * mebibyte));
          other.set(bytes, at);
          const state = await stateOf(other);
          expect(state?.label.length ?? 0).toBeLessThan(12);
        },
      ),
      { numRuns: 200 },
    );
  });
});
