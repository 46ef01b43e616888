import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findCompressed, finishInitrd, initrdSettings } from '../../../src/rootfs/initrd.ts';
import { temporaryDirectory } from '../../support.ts';

const programs = {
  gzip: ['gzip', '-c'],
  lzma: ['xz', '--format=lzma', '-c'],
  lzo: ['lzop', '-c'],
  lz4: ['lz4', '-l', '-c'],
  xz: ['xz', '--check=crc32', '-c'],
  zstd: ['zstd', '-q', '-c'],
} as const;
const algorithms = Object.keys(programs) as (keyof typeof programs)[];

/** A cpio archive as the kernel reads it, of a file with this content. */
function archive(content: string): Buffer {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'file'), content);
  return execFileSync('cpio', ['--create', '--quiet', '--format=newc'], { cwd: directory, input: 'file\n' });
}

/** An initrd: an uncompressed archive in front, zeros, a compressed one. */
function initrd(algorithm: keyof typeof programs): Buffer {
  const [program, ...args] = programs[algorithm];
  const compressed = execFileSync(program, args, { input: archive('late'), stdio: 'pipe' });
  return Buffer.concat([archive('early, '.repeat(300)), Buffer.alloc(512), compressed]);
}

test.each(algorithms)('%s is found behind an uncompressed archive', (algorithm) => {
  const bytes = initrd(algorithm);
  const found = findCompressed(bytes);
  expect(found.algorithm).toBe(algorithm);
  const [program] = programs[algorithm];
  const format = algorithm === 'lzma' ? ['--format=lzma'] : [];
  const plain = execFileSync(program, [...format, '-d', '-c'], {
    input: bytes.subarray(found.offset),
    stdio: 'pipe',
  });
  expect(plain.toString('latin1')).toContain('late');
});

test('what is no initrd is refused', () => {
  for (const bytes of [
    Buffer.from('no archive'),
    Buffer.alloc(64),
    archive('x'),
    archive('x').subarray(0, 150),
  ]) {
    expect(() => findCompressed(bytes)).toThrow(/the initrd that was made is/);
  }
});

test("lzop's own time is replaced, and lzop still reads the file", async () => {
  const file = join(temporaryDirectory(), 'initrd');
  writeFileSync(file, initrd('lzo'));
  await finishInitrd(file, { algorithm: 'lzo' }, 1_700_000_000);
  const bytes = await readFile(file);
  const { offset } = findCompressed(bytes);
  const list = execFileSync('lzop', ['--info'], {
    input: bytes.subarray(offset),
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
  });
  expect(list).toContain('2023');
  expect(bytes.readUInt32BE(offset + 25)).toBe(1_700_000_000);
  execFileSync('lzop', ['--test'], { input: bytes.subarray(offset) });
  await expect(finishInitrd(file, { algorithm: 'zstd' }, 0)).rejects.toMatchObject({
    code: 'configuration',
    message: expect.stringContaining('zstd was wanted, but mkinitramfs took lzo'),
  });
});

test('the settings name the program and the level', () => {
  expect(initrdSettings({ algorithm: 'lzo', level: 7 })).toBe('COMPRESS=lzop\nCOMPRESSLEVEL=7\n');
  expect(initrdSettings({ algorithm: 'lz4' })).toBe('COMPRESS=lz4\n');
});
