import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ReliveError } from '../core/error.ts';

/** The Debian package that brings each foreign program which relive starts. */
const packageOf: Readonly<Record<string, string>> = {
  'apt-get': 'apt',
  blkid: 'util-linux',
  blockdev: 'util-linux',
  bzip2: 'bzip2',
  chroot: 'coreutils',
  ckbcomp: 'console-setup',
  cp: 'coreutils',
  dash: 'dash',
  dd: 'coreutils',
  debootstrap: 'debootstrap',
  debugfs: 'e2fsprogs',
  dmsetup: 'dmsetup',
  dpkg: 'dpkg',
  du: 'coreutils',
  e2fsck: 'e2fsprogs',
  findmnt: 'util-linux',
  flock: 'util-linux',
  'fsck.exfat': 'exfatprogs',
  getfattr: 'attr',
  git: 'git',
  'gnupg-pkcs11-scd': 'gnupg-pkcs11-scd',
  gpg: 'gpg',
  'gpg-agent': 'gpg-agent',
  gpgconf: 'gpgconf',
  gpgv: 'gpgv',
  'grub-mkimage': 'grub-common',
  'grub-mklayout': 'grub-common',
  kexec: 'kexec-tools',
  losetup: 'mount',
  lsblk: 'util-linux',
  mcopy: 'mtools',
  mke2fs: 'e2fsprogs',
  mformat: 'mtools',
  mksquashfs: 'squashfs-tools',
  'mkfs.exfat': 'exfatprogs',
  mmd: 'mtools',
  mmdebstrap: 'mmdebstrap',
  mount: 'mount',
  'mount.exfat-fuse': 'exfat-fuse',
  setfacl: 'acl',
  'apt-mirror': 'apt-mirror',
  debmirror: 'debmirror',
  'dpkg-deb': 'dpkg',
  openssl: 'openssl',
  'sign-efi-sig-list': 'efitools',
  ftpsync: 'ftpsync',
  resize2fs: 'e2fsprogs',
  rsync: 'rsync',
  'qemu-system-aarch64': 'qemu-system-arm',
  'qemu-system-arm': 'qemu-system-arm',
  'qemu-system-x86_64': 'qemu-system-x86',
  setfattr: 'attr',
  setpriv: 'util-linux',
  ldconfig: 'libc-bin',
  sync: 'coreutils',
  systemctl: 'systemd',
  'systemd-sysusers': 'systemd',
  'systemd-tmpfiles': 'systemd',
  tar: 'tar',
  udevadm: 'udev',
  umount: 'mount',
  veritysetup: 'cryptsetup-bin',
  unmkinitramfs: 'initramfs-tools-core',
  unshare: 'util-linux',
  unsquashfs: 'squashfs-tools',
  xargs: 'findutils',
  xorriso: 'xorriso',
  xz: 'xz-utils',
  zstd: 'zstd',
};

/** Where programs are looked for: the caller's PATH, then where Debian keeps those for the administrator. */
export function searchPath(): string {
  const wanted = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return [
    ...new Set([...wanted, '/usr/local/bin', '/usr/bin', '/bin'].filter((dir) => dir.startsWith('/'))),
  ].join(delimiter);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The path of a program, or undefined where this host has none. */
export function findTool(name: string): string | undefined {
  if (name.includes('/')) return isExecutable(name) ? name : undefined;
  return searchPath()
    .split(delimiter)
    .map((dir) => join(dir, name))
    .find((path) => isExecutable(path));
}

/**
 * The path of a program.
 * @throws ReliveError `tool-missing` with the command that installs it
 */
export function requireTool(name: string): string {
  const path = findTool(name);
  if (path !== undefined) return path;
  const brings = packageOf[name];
  throw new ReliveError('tool-missing', `${name} is not installed`, {
    hint:
      brings === undefined
        ? `install ${name}`
        : `apt-get install ${brings} (relive doctor lists all that is missing)`,
  });
}

/** The Debian package that brings a program, where relive knows it. */
export function packageOfTool(name: string): string | undefined {
  return packageOf[name];
}

/** Every foreign program that relive may start, by the Debian package that brings it. */
export function toolsByPackage(): ReadonlyMap<string, readonly string[]> {
  const tools = new Map<string, string[]>();
  for (const [tool, brings] of Object.entries(packageOf))
    tools.set(brings, [...(tools.get(brings) ?? []), tool]);
  return tools;
}
