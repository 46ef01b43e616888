import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { home } from '../../core/home.ts';
import { entryExists, sha256 } from '../../host/files.ts';
import type { Profile } from '../../site/profile.ts';
import type { Chroot } from '../chroot.ts';
import type { Stage } from '../layers.ts';
import { placeInside } from '../links.ts';

/** Source below runtime/, place in the system, mode. */
const files = [
  ['persist/relive-persist', 'usr/lib/relive/persist', 0o755],
  ['persist/relive-persist.service', 'usr/lib/systemd/system/relive-persist.service', 0o644],
] as const;

/** What runtime/persist reads: a line for each path, tabs between its fields. */
const configuration = 'usr/lib/relive/persist.conf';
/** Below it lies, by its path, what an empty volume gets the first time. */
const seeds = 'usr/lib/relive/seed';

type Persistent = Profile['persist'][number];

/** The name of a volume's directory in /volumes. */
function volumeName({ volume }: Persistent): string {
  return volume.replace(/^UUID=/, '');
}

function configurationLine({ path, volume, how, owner, mode, seed, required }: Persistent): string {
  const fields = [
    ...[path, volume, how, owner ?? '-', mode ?? '-'],
    ...[seed ? 'seed' : '-', required ? 'required' : '-'],
  ];
  return `${fields.join('\t')}\n`;
}

/**
 * Makes places of persistent data in a system: symbolic links into /volumes, or directories that the volume's are bound
 * to, and the unit that brings the volumes at boot. What the system has at a linked path becomes the volume's seed.
 */
export async function persistStage(persist: readonly Persistent[]): Promise<Stage> {
  const digests = await Promise.all(
    files.map(async ([source]) => sha256(await readFile(join(home, 'runtime', source)))),
  );
  return {
    name: 'persist',
    inputs: { persist, files: files.map(([, target, mode], index) => [target, mode, digests[index]]) },
    work: async ({ root, chroot: enter }) => {
      const chroot = await enter();
      for (const entry of persist) {
        await chroot.run('mkdir', ['--parents', dirname(entry.path), `/volumes/${volumeName(entry)}`]);
        if (entry.how === 'link') await linkOut(chroot, entry);
        else if (!(await entryExists(await placeInside(root, entry.path)))) {
          await chroot.run('mkdir', ['--parents', entry.path]);
        }
      }
      for (const [source, target, mode] of files) {
        await mkdir(dirname(join(root, target)), { recursive: true });
        await copyFile(join(home, 'runtime', source), join(root, target));
        await chmod(join(root, target), mode);
      }
      await writeFile(join(root, configuration), persist.map(configurationLine).join(''));
      await chroot.run('systemctl', ['enable', 'relive-persist.service'], { onLine: () => undefined });
    },
  };
}

/** Moves what is at the path to the seeds, and puts a link to the volume into its place. */
async function linkOut(chroot: Chroot, entry: Persistent): Promise<void> {
  const { path } = entry;
  if (await entryExists(await placeInside(chroot.root, path))) {
    if (entry.seed) {
      await chroot.run('mkdir', ['--parents', dirname(`/${seeds}${path}`)]);
      await chroot.run('cp', ['--archive', '--no-target-directory', path, `/${seeds}${path}`]);
    }
    await chroot.run('rm', ['--recursive', '--force', path]);
  }
  await chroot.run('ln', ['--symbolic', `/volumes/${volumeName(entry)}${path}`, path]);
}
