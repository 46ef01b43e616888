import type { FileHandle } from 'node:fs/promises';

/** Random access to a disk or a disk file; offsets and lengths in bytes. */
export interface DiskBytes {
  /** Exactly `length` bytes; what lies behind the end reads as zeros. */
  readonly read: (offset: number, length: number) => Promise<Buffer>;
  readonly write: (offset: number, content: Uint8Array) => Promise<void>;
  /** Waits until what was written is on the disk (fsync(2)). */
  readonly sync: () => Promise<void>;
}

/** The bytes of an open file or block device. */
export function diskBytes(handle: FileHandle): DiskBytes {
  return {
    read: async (offset, length) => {
      const buffer = Buffer.alloc(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await handle.read(buffer, done, length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return buffer;
    },
    write: async (offset, content) => {
      for (let done = 0; done < content.length; ) {
        done += (await handle.write(content, done, content.length - done, offset + done)).bytesWritten;
      }
    },
    sync: async () => await handle.sync(),
  };
}
