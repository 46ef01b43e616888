import { readFile, writeFile } from 'node:fs/promises';
import { ReliveError } from '../core/error.ts';
import type { Profile } from '../site/profile.ts';

/** How a profile wants its initrd compressed. */
export type InitrdCompression = Profile['image']['initrd'];

/** What makes each compression in the system: the program that mkinitramfs(8) starts, and its package where that is not essential. */
const programs: Readonly<
  Record<InitrdCompression['algorithm'], { readonly program: string; readonly package?: string }>
> = {
  gzip: { program: 'gzip' },
  lzma: { program: 'lzma', package: 'xz-utils' },
  lzo: { program: 'lzop', package: 'lzop' },
  lz4: { program: 'lz4', package: 'lz4' },
  xz: { program: 'xz', package: 'xz-utils' },
  zstd: { program: 'zstd', package: 'zstd' },
};

/** The package that the system needs for compressing its initrd so. */
export function initrdPackage({ algorithm }: InitrdCompression): string | undefined {
  return programs[algorithm].package;
}

/** The settings for mkinitramfs (initramfs.conf(5)). */
export function initrdSettings({ algorithm, level }: InitrdCompression): string {
  const lines = [`COMPRESS=${programs[algorithm].program}`];
  if (level !== undefined) lines.push(`COMPRESSLEVEL=${level}`);
  return `${lines.join('\n')}\n`;
}

/** The first bytes of what each compression makes (the kernel's lib/decompress.c). */
const magics: readonly (readonly [InitrdCompression['algorithm'], string])[] = [
  ['gzip', '1f8b'],
  ['xz', 'fd377a585a00'],
  ['zstd', '28b52ffd'],
  ['lz4', '02214c18'],
  ['lzo', '894c5a4f000d0a1a0a'],
  ['lzma', '5d0000'],
];

const headerLength = 110;

/**
 * Where the compressed archive of an initrd begins, behind the uncompressed ones (microcode, compressed modules), and
 * how it is compressed (the kernel's buffer-format.rst).
 * @throws ReliveError `corrupt`
 */
export function findCompressed(initrd: Buffer): {
  readonly algorithm: InitrdCompression['algorithm'];
  readonly offset: number;
} {
  let at = 0;
  while (at < initrd.length) {
    if (initrd[at] === 0) at += 1;
    else if (initrd.toString('latin1', at, at + 5) === '07070') at = endOfArchive(initrd, at);
    else {
      const here = initrd.toString('hex', at, at + 9);
      const found = magics.find(([, magic]) => here.startsWith(magic));
      if (found !== undefined) return { algorithm: found[0], offset: at };
      break;
    }
  }
  throw new ReliveError('corrupt', 'the initrd that was made is none: nothing compressed is in it');
}

/** The end of a cpio archive ("newc") that begins at `start`. */
function endOfArchive(initrd: Buffer, start: number): number {
  for (let at = start; initrd.toString('latin1', at, at + 5) === '07070'; ) {
    const field = (index: number): number =>
      Number.parseInt(initrd.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    const [size, nameLength] = [field(6), field(11)];
    const name = initrd.toString('latin1', at + headerLength, at + headerLength + nameLength - 1);
    const body = start + padded(at - start + headerLength + nameLength);
    at = start + padded(body - start + size);
    if (name === 'TRAILER!!!') return at;
  }
  throw new ReliveError('corrupt', 'the initrd that was made is cut off');
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/**
 * Checks that an initrd is compressed as was wanted: mkinitramfs takes gzip, with a warning only, where a program is
 * missing or the kernel cannot decompress. lzop writes the time of its run into its header: `time` takes its place.
 * @param file the initrd
 * @param time seconds since 1970
 * @throws ReliveError `configuration`, `corrupt`
 */
export async function finishInitrd(file: string, wanted: InitrdCompression, time: number): Promise<void> {
  const initrd = await readFile(file);
  const { algorithm, offset } = findCompressed(initrd);
  if (algorithm !== wanted.algorithm) {
    throw new ReliveError(
      'configuration',
      `image.initrd: ${wanted.algorithm} was wanted, but mkinitramfs took ${algorithm}: the kernel of the system cannot read ${wanted.algorithm}, or ${programs[wanted.algorithm].program} is missing`,
      { hint: 'choose another algorithm; --json shows what mkinitramfs says' },
    );
  }
  if (algorithm === 'lzo') await writeFile(file, withLzopTime(initrd, offset, time));
}

/** The header of lzop's files (lzop's conf.h, header_t): where the time is, its two halves, and the length of the name. */
const lzop = { start: 9, low: 25, high: 29, nameLength: 33 } as const;

/** A file with the time in lzop's header at `offset` replaced. @throws ReliveError `corrupt` where it is no such header */
export function withLzopTime(bytes: Buffer, offset: number, time: number): Buffer {
  const changed = Buffer.from(bytes);
  const header = changed.subarray(offset);
  const end = lzop.nameLength + 1 + (header[lzop.nameLength] ?? 0);
  if (header.length < end + 4 || header.readUInt32BE(end) !== adler32(header.subarray(lzop.start, end))) {
    throw new ReliveError('corrupt', 'the initrd that was made has no header of lzop');
  }
  header.writeUInt32BE(time % 2 ** 32, lzop.low);
  header.writeUInt32BE(Math.floor(time / 2 ** 32), lzop.high);
  header.writeUInt32BE(adler32(header.subarray(lzop.start, end)), end);
  return changed;
}

/** RFC 1950, 8.2. */
function adler32(bytes: Uint8Array): number {
  let [low, high] = [1, 0];
  for (const byte of bytes) {
    low = (low + byte) % 65_521;
    high = (high + low) % 65_521;
  }
  return high * 65_536 + low;
}
