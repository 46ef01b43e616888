import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  digestFile,
  exists,
  explainDiskFull,
  explainRefusal,
  freeBytes,
  makeDirectories,
  sha256,
  syncDirectory,
  temporaryBeside,
  writeFileAtomic,
} from '../../../src/host/files.ts';
import { startModule, temporaryDirectory, until } from '../../support.ts';

test('a file is written with its directories, mode and content', async () => {
  const path = join(temporaryDirectory(), 'a/b/file');
  const before = process.umask(0o077);
  try {
    await writeFileAtomic(path, 'one', { mode: 0o644 });
  } finally {
    process.umask(before);
  }
  expect(readFileSync(path, 'utf8')).toBe('one');
  expect(statSync(path).mode & 0o7777).toBe(0o644);
  await writeFileAtomic(path, new Uint8Array([1, 2, 255]));
  expect([...readFileSync(path)]).toEqual([1, 2, 255]);
  expect(readdirSync(join(path, '..'))).toEqual(['file']);
});

test('a failed write leaves what was there, and nothing beside it', async () => {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, 'target'));
  await expect(writeFileAtomic(join(directory, 'target'), 'x')).rejects.toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
  expect(readdirSync(directory)).toEqual(['target']);
});

test('a writer that is killed leaves the old file or the new one, whole', async () => {
  const directory = temporaryDirectory();
  const path = join(directory, 'file');
  writeFileSync(path, 'A'.repeat(1_000_000));
  const { child, ended } = startModule(
    `import { writeFileAtomic } from 'build/modules/host/files.js';
     for (let turn = 0; ; turn += 1) await writeFileAtomic(process.argv[1], 'AB'[turn % 2].repeat(1_000_000));`,
    [path],
  );
  await until(() => readdirSync(directory).some((name) => name.startsWith('.tmp-')), 'a temporary file');
  child.kill('SIGKILL');
  await ended;
  expect(readFileSync(path, 'utf8')).toMatch(/^(?:A{1000000}|B{1000000})$/);
  for (const name of readdirSync(directory)) expect(name).toMatch(/^file$|^\.tmp-file-[0-9a-f]{8}$/);
});

test('only a directory can be made durable as one', async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'file'), '');
  await expect(syncDirectory(directory)).resolves.toBeUndefined();
  await expect(syncDirectory(join(directory, 'file'))).rejects.toThrow('ENOTDIR');
});

test('a temporary name is in the same directory, and another one each time', () => {
  expect(temporaryBeside('/a/b/c')).toMatch(/^\/a\/b\/\.tmp-c-[0-9a-f]{8}$/);
  expect(temporaryBeside('/a/b/c')).not.toBe(temporaryBeside('/a/b/c'));
});

test('only a full disk is explained as one', () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  const other = Object.assign(new Error('EACCES'), { code: 'EACCES' });
  expect(explainDiskFull(full, '/store/x')).toMatchObject({ code: 'disk-full', cause: full });
  expect(explainDiskFull(other, '/store/x')).toBe(other);
});

test('what is there, and what is not', async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'file'), '');
  symlinkSync('nowhere', join(directory, 'dangling'));
  expect(await exists(join(directory, 'file'))).toBe(true);
  expect(await exists(join(directory, 'none'))).toBe(false);
  expect(await exists(join(directory, 'file/below'))).toBe(false);
  expect(await exists(join(directory, 'dangling'))).toBe(false);
});

test('directories are made with what is above them; where none can be, that is said at once', async () => {
  const directory = temporaryDirectory();
  const deep = join(directory, 'a/b/c');
  await makeDirectories(deep, 0o700);
  await makeDirectories(deep);
  expect(statSync(join(directory, 'a')).mode & 0o777).toBe(0o700);
  writeFileSync(join(directory, 'file'), '');
  symlinkSync('nowhere', join(directory, 'dangling'));
  // Node.js itself would never end in /proc.
  for (const path of [join(directory, 'file'), join(directory, 'dangling'), '/proc/nowhere/below'])
    await expect(makeDirectories(path)).rejects.toMatchObject({ code: 'usage' });
});

test('what the kernel refuses is no bug of ours', async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'file'), '');
  const errors = [join(directory, 'x'.repeat(300)), join(directory, 'file/below')].map(
    async (path) => await readFile(path).catch((error: unknown) => explainRefusal(error)),
  );
  expect(await Promise.all(errors)).toMatchObject([
    { code: 'usage', message: expect.stringContaining('the name is too long (open)') },
    { code: 'usage', message: expect.stringContaining('file/below: a part of the path is no directory') },
  ]);
  expect(explainRefusal(new Error('another'))).toBeUndefined();
});

test('free room is told for what is yet to be made, too', async () => {
  const directory = temporaryDirectory();
  expect(await freeBytes(join(directory, 'not/yet'))).toBeGreaterThan(0);
});

test('digests', async () => {
  const path = join(temporaryDirectory(), 'file');
  writeFileSync(path, 'abc');
  chmodSync(path, 0o400);
  // FIPS 180-2, appendices B.1 and C.1.
  const abc256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
  const abc512 =
    'ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a' +
    '2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f';
  expect(await digestFile(path, 'sha256')).toEqual({ size: 3, digest: abc256 });
  expect(await digestFile(path, 'sha512')).toEqual({ size: 3, digest: abc512 });
  expect(sha256('abc')).toBe(abc256);
  expect(sha256(new Uint8Array([97, 98, 99]))).toBe(abc256);
});

test('a digest of several buffers equals that of sha256sum, and can be aborted', async () => {
  const path = join(temporaryDirectory(), 'file');
  const content = Buffer.alloc(3_000_001, 'relive');
  writeFileSync(path, content);
  expect(await digestFile(path, 'sha256')).toEqual({ size: content.length, digest: sha256(content) });
  await expect(digestFile(path, 'sha256', AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});
