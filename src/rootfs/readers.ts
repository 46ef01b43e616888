/*
 * Who can read what: the one place for what relive knows of compressions. Tried with the tools of Debian 12 and 13
 * (mount, grub-fstest, unsquashfs); the sources are fs/squashfs/Kconfig and usr/Kconfig of the kernel, grub-core/fs/squash4.c.
 */

/** What reads a SquashFS file besides unsquashfs, which reads all of them. */
export const squashfsReaders = {
  gzip: ['kernel', 'grub'],
  // mksquashfs still makes it, and only unpacking reads it: the kernel never had it.
  lzma: [],
  lzo: ['kernel', 'grub'],
  lz4: ['kernel'],
  xz: ['kernel', 'grub'],
  zstd: ['kernel'],
} as const satisfies Readonly<Record<string, readonly ('kernel' | 'grub')[]>>;

/** Whether the kernel can mount a layer; else it can only be unpacked. Of what is not known it cannot. */
export function kernelMounts(algorithm: string): boolean {
  const readers: Readonly<Record<string, readonly string[]>> = squashfsReaders;
  return readers[algorithm]?.includes('kernel') === true;
}
