import { lstat, readdir, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../core/error.ts';

/** Made by package tools while building; of no use in the system, and different in every build. */
const removed: readonly string[] = [
  'etc/passwd-',
  'etc/group-',
  'etc/shadow-',
  'etc/gshadow-',
  'etc/subuid-',
  'etc/subgid-',
  'root/.bash_history',
  'var/cache/apt/pkgcache.bin',
  'var/cache/apt/srcpkgcache.bin',
  'var/cache/ldconfig/aux-cache',
  'var/lib/dbus/machine-id',
  'var/lib/systemd/catalog/database.tmp',
  'var/lib/systemd/credential.secret',
  'var/lib/systemd/random-seed',
  'var/log/alternatives.log',
  'var/log/bootstrap.log',
  'var/log/dpkg.log',
];

/** Directories whose contents are removed. */
const emptied: readonly string[] = [
  'var/backups',
  'var/cache/apt/archives',
  'var/lib/apt/lists',
  'var/lib/apt/mirrors',
  'var/log/apt',
  'var/log/journal',
  'var/tmp',
];

/** Files of these directories whose names end so are removed. */
const oldCopies: readonly (readonly [string, string])[] = [
  ['var/lib/dpkg', '-old'],
  ['var/cache/debconf', '-old'],
  ['etc/ssh', '_key'],
  ['etc/ssh', '_key.pub'],
];

async function entries(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Removes from the system at `root` what identifies the machine or the moment it was built on: logs, package lists,
 * caches, backups, machine-id, ssh host keys, random seeds. Links are not followed.
 */
export async function scrub(root: string): Promise<void> {
  for (const path of removed) await rm(join(root, path), { force: true });
  for (const directory of emptied) {
    for (const name of await entries(join(root, directory))) {
      await rm(join(root, directory, name), { recursive: true, force: true });
    }
  }
  for (const [directory, ending] of oldCopies) {
    for (const name of await entries(join(root, directory))) {
      const isHostKey = directory !== 'etc/ssh' || name.startsWith('ssh_host_');
      if (name.endsWith(ending) && isHostKey) await rm(join(root, directory, name), { force: true });
    }
  }
  // An empty machine-id is filled in at boot (machine-id(5)); logs keep their file, owner and mode.
  for (const path of [
    'etc/machine-id',
    ...(await entries(join(root, 'var/log'))).map((name) => `var/log/${name}`),
  ]) {
    const found = await lstat(join(root, path)).catch(() => undefined);
    if (found?.isFile() === true && found.size > 0) await truncate(join(root, path));
  }
}
