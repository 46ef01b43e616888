import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { anonymousFile, withScratchDirectory } from '../../../src/host/anonymous.ts';

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), 'relive-test-anonymous-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test('an anonymous file is read and written by other programs, and has no name', async () => {
  const file = await anonymousFile(Buffer.from('before'));
  try {
    expect(execFileSync('cat', [file.path]).toString()).toBe('before');
    writeFileSync(file.path, 'after');
    expect(execFileSync('readlink', [file.path]).toString()).toMatch(/\(deleted\)\n$/);
    expect(execFileSync('cat', [file.path]).toString()).toBe('after');
  } finally {
    await file.close();
  }
  expect(() => readFileSync(file.path)).toThrow('ENOENT');
});

test('a scratch directory goes with the work, and with its failure', async () => {
  const parent = temporary();
  const inside = await withScratchDirectory(parent, async (directory) => {
    writeFileSync(join(directory, 'part'), 'x');
    return await Promise.resolve(readdirSync(parent));
  });
  expect(inside).toHaveLength(1);
  expect(inside[0]).toMatch(/^\.tmp-/);
  expect(readdirSync(parent)).toEqual([]);
  await expect(
    withScratchDirectory(parent, async () => await Promise.reject(new Error('no'))),
  ).rejects.toThrow('no');
  expect(readdirSync(parent)).toEqual([]);
});

test('a scratch directory goes when the process is killed', async () => {
  const parent = temporary();
  const module = join(import.meta.dirname, '../../../build/modules/host/anonymous.js');
  const script = `
    import { writeFileSync } from 'node:fs';
    import { withScratchDirectory } from ${JSON.stringify(module)};
    await withScratchDirectory(process.argv[1], async (directory) => {
      writeFileSync(directory + '/part', 'x');
      process.stdout.write('ready');
      await new Promise((done) => setTimeout(done, 60000));
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script, parent], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((ready) => child.stdout.once('data', ready));
  expect(readdirSync(parent)).toHaveLength(1);
  child.kill('SIGKILL');
  await expect.poll(() => readdirSync(parent), { timeout: 15_000 }).toEqual([]);
});
