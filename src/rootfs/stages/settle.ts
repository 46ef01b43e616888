import { lutimes, readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { directoryNames, exists, ifThere } from '../../host/files.ts';
import type { Stage } from '../layers.ts';
import { placeInside } from '../links.ts';

/** systemd's own units which wait for a newer /usr, in the order of the boot, and what each of them runs. */
const updates: readonly (readonly [string, readonly [string, ...string[]]])[] = [
  ['systemd-sysusers.service', ['systemd-sysusers']],
  ['systemd-hwdb-update.service', ['systemd-hwdb', 'update']],
  ['ldconfig.service', ['ldconfig', '-X']],
  ['systemd-journal-catalog-update.service', ['journalctl', '--update-catalog']],
  ['systemd-update-done.service', ['/usr/lib/systemd/systemd-update-done']],
];
const shipped = 'usr/lib/systemd/system';
/** Where units are (systemd.unit(5)). */
const unitDirectories = [shipped, 'usr/local/lib/systemd/system', 'etc/systemd/system'] as const;

/**
 * Does once what the system would do at each boot, into RAM: systemd takes /etc and /var for older than /usr until
 * systemd-update-done(8) has marked them, and has users, libraries and catalogues brought up to date before. Behind all
 * stages that change the system. One with further units that wait for that is not marked.
 */
export function settleStage(sourceDateEpoch: number): Stage {
  return {
    name: 'settle',
    inputs: { sourceDateEpoch },
    work: async ({ root, chroot: enter }, context) => {
      const waiting = await othersWaiting(root);
      if (waiting.length > 0) {
        const message = `brought up to date at each boot, as this waits for it: ${waiting.join(', ')}`;
        context.emit({ event: 'note', source: 'settle', message });
        return;
      }
      // What the marks say is the time of /usr, which must not depend on the way that led to the system.
      await lutimes(join(root, 'usr'), sourceDateEpoch, sourceDateEpoch);
      const chroot = await enter();
      const env = { SOURCE_DATE_EPOCH: String(sourceDateEpoch) };
      for (const [unit, [program, ...args]] of updates) {
        if (await isWanted(root, unit)) await chroot.run(program, args, { env, onLine: () => undefined });
      }
    },
  };
}

/** The conditions of systemd-hwdb-update.service but for the one that all have. */
async function isWanted(root: string, unit: string): Promise<boolean> {
  if (!(await exists(join(await placeInside(root, shipped), unit)))) return false;
  if (unit !== 'systemd-hwdb-update.service') return true;
  const own = await placeInside(root, 'etc/udev');
  return (await exists(join(own, 'hwdb.bin'))) || (await directoryNames(join(own, 'hwdb.d'))).length > 0;
}

/** The units that wait for a newer /usr and are not systemd's own, as paths below the root. */
async function othersWaiting(root: string): Promise<string[]> {
  const known = new Set(updates.map(([unit]) => `${shipped}/${unit}`));
  const found: string[] = [];
  for (const directory of unitDirectories) {
    const place = await placeInside(root, directory);
    for (const entry of (await ifThere(readdir(place, { recursive: true, withFileTypes: true }))) ?? []) {
      const file = join(entry.parentPath, entry.name);
      const path = join(directory, relative(place, file));
      if (!entry.isFile() || known.has(path)) continue;
      if (/^ConditionNeedsUpdate *=/m.test(await readFile(file, 'latin1'))) found.push(path);
    }
  }
  return found.toSorted();
}
