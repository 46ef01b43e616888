import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';

/**
 * Makes the hash tree of a file for dm-verity (kernel documentation, admin-guide/device-mapper/verity): version 1,
 * blocks of 4096 bytes, SHA-256, no superblock, so that the same file and salt give the same bytes.
 * @param file a multiple of 4096 bytes
 * @param salt hexadecimal
 * @param output the file to write the tree to
 * @returns the root hash, hexadecimal
 * @throws ReliveError `tool-missing`, `tool-failed`
 */
export async function makeVerityTree(
  file: string,
  salt: string,
  output: string,
  context: Context,
): Promise<string> {
  const { stdout } = await run(
    'veritysetup',
    [
      ...['format', '--no-superblock', '--format=1', '--hash=sha256'],
      ...['--data-block-size=4096', '--hash-block-size=4096', `--salt=${salt}`, file, output],
    ],
    context,
  );
  const root = /^Root hash:\s+([0-9a-f]{64})$/m.exec(stdout)?.[1];
  if (root === undefined) {
    throw new ReliveError('tool-failed', `veritysetup named no root hash of ${file}:\n${stdout}`);
  }
  return root;
}
