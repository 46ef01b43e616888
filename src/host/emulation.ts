import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from './anonymous.ts';
import { run } from './process.ts';

/** The machine code of exit(0) for each architecture of Debian: the class of its ELF files, its number there (elf.h). */
const programs: Readonly<
  Record<string, { readonly bits: 32 | 64; readonly machine: number; readonly code: string }>
> = {
  // mov $60, %eax; xor %edi, %edi; syscall
  amd64: { bits: 64, machine: 62, code: 'b83c00000031ff0f05' },
  // mov x0, #0; mov x8, #93; svc #0
  arm64: { bits: 64, machine: 183, code: '000080d2a80b80d2010000d4' },
  // mov r0, #0; mov r7, #1; svc #0
  armhf: { bits: 32, machine: 40, code: '0000a0e30170a0e3000000ef' },
  // mov $1, %eax; xor %ebx, %ebx; int $0x80
  i386: { bits: 32, machine: 3, code: 'b80100000031dbcd80' },
};

/** This process's own architecture in Debian's words. */
const own: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64', arm: 'armhf', ia32: 'i386' };

/** Architectures in Debian's words that this machine's processors run by themselves; the others are emulated. */
const native: Readonly<Record<string, readonly string[]>> = {
  x64: ['amd64', 'i386'],
  arm64: ['arm64', 'armhf'],
  arm: ['armhf'],
  ia32: ['i386'],
};

/** What registers an emulator, by the architectures that it is for. */
const interpreters: Readonly<Record<string, string>> = {
  amd64: 'qemu-x86_64',
  arm64: 'qemu-aarch64',
  armhf: 'qemu-arm',
  i386: 'qemu-i386',
};

/** A program that does nothing but end with status 0: ELF (elf(5)) with one segment, without libraries. */
export function emptyProgram(architecture: string): Uint8Array {
  const program = programs[architecture];
  if (program === undefined) throw new TypeError(`no program for ${architecture}`);
  const { bits, machine } = program;
  const code = Buffer.from(program.code, 'hex');
  const wide = bits === 64;
  const headers = wide ? 64 + 56 : 52 + 32;
  const base = 0x10000;
  const bytes = Buffer.alloc(headers);
  let at = 0;
  const half = (value: number): void => {
    at = bytes.writeUInt16LE(value, at);
  };
  const word = (value: number): void => {
    at = bytes.writeUInt32LE(value, at);
  };
  const address = (value: number): void => {
    at = wide ? bytes.writeBigUInt64LE(BigInt(value), at) : bytes.writeUInt32LE(value, at);
  };
  bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  at = 16;
  half(2);
  half(machine);
  word(1);
  address(base + headers);
  address(wide ? 64 : 52);
  address(0);
  // ARM: the fifth version of its ABI, hard floats.
  word(architecture === 'armhf' ? 0x5000400 : 0);
  for (const value of wide ? [64, 56, 1, 64, 0, 0] : [52, 32, 1, 40, 0, 0]) half(value);
  const size = headers + code.length;
  word(1);
  if (wide) word(5);
  for (const value of [0, base, base, size, size]) address(value);
  if (!wide) word(5);
  address(0x1000);
  return Buffer.concat([bytes, code]);
}

/**
 * Tries whether programs of an architecture run in a chroot of this host, by themselves or by an emulator (qemu-user
 * through binfmt_misc). Needs root.
 * @param below where the chroot is made: on a file system that is not mounted noexec
 */
export async function runsPrograms(
  architecture: string,
  context: Context,
  below = tmpdir(),
): Promise<boolean> {
  if (own[process.arch] === architecture) return true;
  return await withScratchDirectory(below, async (directory) => {
    try {
      await writeFile(join(directory, 'probe'), emptyProgram(architecture), { mode: 0o755 });
      await run('chroot', [directory, '/probe'], { signal: context.signal, timeoutSeconds: 20 });
      return true;
    } catch (error) {
      if (!isReliveError(error, 'tool-failed', 'timed-out')) throw error;
      return false;
    }
  });
}

/** Whether the processors of this machine run programs of an architecture by themselves. */
export function isNative(architecture: string): boolean {
  return native[process.arch]?.includes(architecture) === true;
}

/** What makes programs of an architecture run here. */
export function emulationHint(architecture: string): string {
  if (isNative(architecture)) return 'the kernel must be built with CONFIG_IA32_EMULATION or CONFIG_COMPAT';
  return (
    'apt-get install qemu-user-static binfmt-support (Debian 13: qemu-user-binfmt); where that is installed: ' +
    `mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable ${interpreters[architecture] ?? ''} (or systemctl restart systemd-binfmt)`
  );
}

/**
 * Refuses an architecture whose programs do not run here.
 * @param below as for `runsPrograms`
 * @throws ReliveError `host-unable`
 */
export async function requirePrograms(architecture: string, below: string, context: Context): Promise<void> {
  if (await runsPrograms(architecture, context, below)) return;
  throw new ReliveError('host-unable', `this host does not run programs for ${architecture}`, {
    hint: emulationHint(architecture),
  });
}
