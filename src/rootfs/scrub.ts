import { lstat, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { directoryNames, regularText } from '../host/files.ts';
import { placeInside, throughLinks } from './links.ts';

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

/** Directories whose contents are removed, save those of them that stand here too: they belong to apt. */
const emptied: readonly string[] = [
  'var/backups',
  'var/cache/apt/archives',
  'var/cache/apt/archives/partial',
  'var/lib/apt/lists',
  'var/lib/apt/lists/partial',
  'var/lib/apt/mirrors',
  'var/lib/apt/mirrors/partial',
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

/**
 * Removes from the system at `root` what identifies the machine or the moment it was built on: logs, package lists,
 * caches, backups, machine-id, ssh host keys, random seeds, the day when an account was made. Links of the system are resolved inside it: /var/tmp may be
 * one to /tmp.
 */
export async function scrub(root: string): Promise<void> {
  for (const path of removed) await rm(join(root, await throughLinks(root, path)), { force: true });
  for (const directory of emptied) {
    const place = await placeInside(root, directory);
    for (const name of await directoryNames(place)) {
      if (emptied.includes(`${directory}/${name}`)) continue;
      await rm(join(place, name), { recursive: true, force: true });
    }
  }
  for (const [directory, ending] of oldCopies) {
    const place = await placeInside(root, directory);
    for (const name of await directoryNames(place)) {
      const isHostKey = directory !== 'etc/ssh' || name.startsWith('ssh_host_');
      if (name.endsWith(ending) && isHostKey) await rm(join(place, name), { force: true });
    }
  }
  // An empty machine-id is filled in at boot (machine-id(5)); logs keep their file, owner and mode.
  const logs = await placeInside(root, 'var/log');
  const kept = [
    join(root, await throughLinks(root, 'etc/machine-id')),
    ...(await directoryNames(logs)).map((name) => join(logs, name)),
  ];
  for (const path of kept) {
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile() === true && found.size > 0) await truncate(path);
  }
  await forgetDays(root);
}

/** An account without a password, and without a rule for its age (shadow(5)): "*", "!" and "!*" are no passwords. Those of systemd-sysusers(8) have expired besides. */
const passwordless = /^([^:\n]*:[!*][^:\n]*):[1-9]\d*:(0:99999:7:::|::::1?:)$/gm;

/** The day of the last change of a password that there is not is that of the newest package when the account was made. */
async function forgetDays(root: string): Promise<void> {
  const path = join(await placeInside(root, 'etc'), 'shadow');
  const text = await regularText(path, 'latin1');
  const without = text?.replaceAll(passwordless, '$1::$2');
  if (without !== undefined && without !== text) await writeFile(path, without, 'latin1');
}
