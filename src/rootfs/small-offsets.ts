import { chmod, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Sees to it that emulated programs of 32 bits can read the directories below `directory` with fts(3). ext4 names places
 * in a directory by hashes of 64 bits, which it cuts for such programs only where the kernel itself runs them; under
 * qemu-user their reads end early, without an error (dracut-install then leaves most drivers out of the initramfs).
 * A directory that overlayfs merges of two layers has places counted from one: so each is copied up, unchanged.
 * @param directory in the merged tree of an overlay whose upper layer has none of it yet
 */
export async function useSmallOffsets(directory: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const below = entries.filter((entry) => entry.isDirectory());
  for (const path of [directory, ...below.map(({ parentPath, name }) => join(parentPath, name))]) {
    await chmod(path, (await stat(path)).mode & 0o7777);
  }
}
