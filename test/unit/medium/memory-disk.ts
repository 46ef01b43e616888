import type { DiskBytes } from '../../../src/medium/bytes.ts';

/** A disk in memory; with `writes` only so many writes happen, as when the power fails then. */
export function memoryDisk(
  bytes: number,
  writes = Number.POSITIVE_INFINITY,
): DiskBytes & { readonly content: Buffer; readonly done: () => number } {
  const content = Buffer.alloc(bytes);
  let count = 0;
  return {
    content,
    done: () => count,
    read: async (offset, length) => {
      const result = Buffer.alloc(length);
      content.copy(result, 0, offset, offset + length);
      return await Promise.resolve(result);
    },
    write: async (offset, piece) => {
      if (count < writes) content.set(piece, offset);
      count += 1;
      await Promise.resolve();
    },
    sync: async () => await Promise.resolve(),
  };
}
