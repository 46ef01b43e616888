import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { emptyProgram } from '../../../src/host/emulation.ts';
import { temporaryDirectory } from '../../support.ts';

function programFile(architecture: string): string {
  const file = join(temporaryDirectory(), 'program');
  writeFileSync(file, emptyProgram(architecture), { mode: 0o755 });
  return file;
}

test.each([
  ['amd64', 'ELF64', 'X86-64'],
  ['arm64', 'ELF64', 'AArch64'],
  ['armhf', 'ELF32', 'ARM'],
  ['i386', 'ELF32', 'Intel 80386'],
])('the program for %s is ELF as readelf reads it', (architecture, kind, machine) => {
  const { status, stdout, stderr } = spawnSync('readelf', ['-h', '-l', programFile(architecture)], {
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(new RegExp(`Class: +${kind}\n`));
  expect(stdout).toMatch(new RegExp(`Machine: .*${machine}\n`));
  expect(stdout).toMatch(/Type: +EXEC/);
  expect(stdout).toMatch(/LOAD .* R E +0x1000/s);
});

test.runIf(process.arch === 'x64')('that of this machine runs and does nothing', () => {
  expect(spawnSync(programFile('amd64')).status).toBe(0);
});
