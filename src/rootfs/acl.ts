import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { unescapeOctal } from '../core/octal.ts';
import { run } from '../host/process.ts';

/** systemd-tmpfiles gives the journal its access lists again at every boot (tmpfiles.d(5), systemd.conf). */
const remadeAtBoot = 'var/log/journal';

/**
 * Removes POSIX access control lists (acl(5)) from a tree, since SquashFS has no place for them. Taken off here, the
 * group's permissions become again those of the owning group; lost in packing, they would stay the list's mask.
 * Warns of each list that does not come back by itself.
 */
export async function removeAccessLists(root: string, context: Context): Promise<void> {
  const paths: string[] = [];
  await run(
    'getfattr',
    ['--recursive', '--physical', '--no-dereference', '-m', '^system[.]posix_acl_', '.'],
    {
      ...context,
      cwd: root,
      onLine: (line) => {
        if (line.startsWith('# file: ')) paths.push(unescapeOctal(line.slice('# file: '.length)));
      },
    },
  );
  for (const path of paths) {
    await run('setfacl', ['--remove-all', '--', join(root, path)], context);
    if (path === remadeAtBoot || path.startsWith(`${remadeAtBoot}/`)) continue;
    context.emit({
      event: 'warning',
      message: `/${path} loses its access control list: SquashFS cannot keep it`,
      hint: 'set it at boot by a line in tmpfiles.d (tmpfiles.d(5), "a")',
    });
  }
}
