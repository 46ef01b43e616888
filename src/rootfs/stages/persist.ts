import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { home } from '../../core/home.ts';
import { entryExists, makeDirectories, sha256 } from '../../host/files.ts';
import { formatPersistLine, lockedVolumes, persistConfiguration } from '../../site/persistent.ts';
import type { Profile } from '../../site/profile.ts';
import { volumeDirectory } from '../../site/volume.ts';
import type { Chroot } from '../chroot.ts';
import type { Stage } from '../layers.ts';
import { placeInside } from '../links.ts';

/** Source below runtime/, place in the system, mode. */
const files = [
  ['persist/relive-persist', 'usr/lib/relive/persist', 0o755],
  ['persist/relive-persist.service', 'usr/lib/systemd/system/relive-persist.service', 0o644],
] as const;

/** Those of the machine's identity. */
const identityFiles = [
  ['persist/relive-identity', 'usr/lib/relive/identity', 0o755],
  ['persist/relive-identity.service', 'usr/lib/systemd/system/relive-identity.service', 0o644],
  ['persist/relive-identity.path', 'usr/lib/systemd/system/relive-identity.path', 0o644],
] as const;

/** What runtime/persist and the initramfs read: the volume and what is kept, then the name that the image gives. */
const identityConfiguration = 'usr/lib/relive/identity.conf';
/** Below it lies, by its path, what an empty volume gets the first time. */
const seeds = 'usr/lib/relive/seed';

type Persistent = Profile['persist'][number];

/** Unless the profile says otherwise, a passphrase is waited for so long. */
const passphraseSeconds = 90;

function lockedLine({ volume, key, passphrase, timeout }: Profile['luks'][number]): string {
  const seconds = passphrase === true ? String(timeout ?? passphraseSeconds) : '-';
  return `${[volume, key?.volume ?? '-', key?.file ?? '-', seconds].join('\t')}\n`;
}

/**
 * Makes places of persistent data in a system: symbolic links into /volumes, or directories that the volume's are bound
 * to, and the units that bring the volumes at boot. What the system has at a linked path becomes the volume's seed.
 */
export async function persistStage({
  persist,
  luks,
  identity,
  hostname,
}: Pick<Profile, 'persist' | 'luks' | 'identity' | 'hostname'>): Promise<Stage> {
  const own = identity === undefined ? files : [...files, ...identityFiles];
  const digests = await Promise.all(
    own.map(async ([source]) => sha256(await readFile(join(home, 'runtime', source)))),
  );
  return {
    name: 'persist',
    inputs: {
      persist,
      ...(luks.length === 0 ? {} : { luks }),
      files: own.map(([, target, mode], index) => [target, mode, digests[index]]),
      ...(identity === undefined ? {} : { identity, hostname }),
    },
    work: async ({ root, chroot: enter }) => {
      const chroot = await enter();
      for (const entry of persist) {
        await chroot.run('mkdir', [
          '--parents',
          dirname(entry.path),
          `/volumes/${volumeDirectory(entry.volume)}`,
        ]);
        if (entry.how === 'link') await linkOut(chroot, entry);
        else if (!(await entryExists(await placeInside(root, entry.path)))) {
          await chroot.run('mkdir', ['--parents', entry.path]);
        }
      }
      for (const [source, target, mode] of own) {
        await makeDirectories(dirname(join(root, target)));
        await copyFile(join(home, 'runtime', source), join(root, target));
        await chmod(join(root, target), mode);
      }
      await writeFile(join(root, persistConfiguration), persist.map(formatPersistLine).join(''));
      if (luks.length > 0) await writeFile(join(root, lockedVolumes), luks.map(lockedLine).join(''));
      const units = ['relive-persist.service'];
      if (identity !== undefined) {
        const { volume, keep } = identity;
        await writeFile(join(root, identityConfiguration), `${volume}\t${keep.join(' ')}\n${hostname}\n`);
        units.push('relive-identity.service', 'relive-identity.path');
      }
      await chroot.run('systemctl', ['enable', ...units], { onLine: () => undefined });
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
  await chroot.run('ln', ['--symbolic', `/volumes/${volumeDirectory(entry.volume)}${path}`, path]);
}
