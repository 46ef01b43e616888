import { toolsByPackage } from './tools.ts';

/** How much relive wants a Debian package: without a needed one it cannot do its work. */
export type Need = 'needed' | 'recommended' | 'suggested';

/** What relive uses a Debian package for. */
export interface PackageUse {
  readonly purpose: string;
  /** The program, and its arguments, that tells the version. */
  readonly ask?: readonly [string, ...string[]];
  /** A file that shows that it is there, for packages without a program. */
  readonly file?: string;
  /** `needed` unless given. */
  readonly need?: Exclude<Need, 'needed'>;
  /** On every Debian system (Essential: yes): no package depends on it. */
  readonly essential?: true;
}

/** Debian's keys, as its package debian-archive-keyring installs them. */
export const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/**
 * What relive uses each Debian package for: `relive doctor`, the dependencies of relive's own package and what a factory
 * image holds come from here. Packages of `toolsByPackage` that are not here are needed too.
 */
export const packageUses: Readonly<Record<string, PackageUse>> = {
  apt: { purpose: 'resolving and downloading packages', ask: ['apt-get', '--version'] },
  acl: { purpose: 'taking away what SquashFS cannot hold', ask: ['setfacl', '--version'] },
  'apt-mirror': { purpose: 'mirrors with "engine: apt-mirror"', need: 'suggested' },
  debmirror: { purpose: 'mirrors with "engine: debmirror"', need: 'suggested' },
  ftpsync: { purpose: 'mirrors with "engine: ftpsync"', need: 'suggested' },
  rsync: { purpose: 'upstreams with rsync://', ask: ['rsync', '--version'], need: 'suggested' },
  attr: { purpose: 'comparing trees with their attributes', ask: ['getfattr', '--version'] },
  bzip2: { purpose: 'indices of repositories', ask: ['bzip2', '--help'] },
  'ca-certificates': {
    purpose: 'repositories and stores at https://',
    file: '/etc/ssl/certs/ca-certificates.crt',
    need: 'recommended',
  },
  'console-setup': { purpose: "keyboard layouts of GRUB's menu by BIOS", need: 'suggested' },
  coreutils: {
    purpose: 'running programs inside a system that is built',
    ask: ['chroot', '--version'],
    essential: true,
  },
  'cryptsetup-bin': { purpose: 'hash trees of layers', ask: ['veritysetup', '--version'] },
  dash: { purpose: 'ending what was started', essential: true },
  'debian-archive-keyring': { purpose: "checking Debian's signatures", file: debianKeyring },
  debootstrap: {
    purpose: 'profiles with "bootstrap: debootstrap"',
    ask: ['debootstrap', '--version'],
    need: 'recommended',
  },
  dmsetup: { purpose: 'relive live', ask: ['dmsetup', '--version'], need: 'suggested' },
  dpkg: { purpose: 'reading packages', ask: ['dpkg', '--version'], essential: true },
  e2fsprogs: { purpose: 'the store and the volumes of media', ask: ['mke2fs', '-V'] },
  efitools: { purpose: 'keys of Secure Boot for firmware', need: 'suggested' },
  'exfat-fuse': { purpose: 'media of exFAT, where the kernel has none', need: 'suggested' },
  exfatprogs: { purpose: 'media of exFAT', need: 'suggested' },
  findutils: { purpose: 'working on many files at once', essential: true },
  git: {
    purpose: 'recording the commit of a site in its images',
    ask: ['git', '--version'],
    need: 'recommended',
  },
  'gnupg-pkcs11-scd': { purpose: 'keys of images on tokens (PKCS #11)', need: 'suggested' },
  gpg: { purpose: 'signing images', ask: ['gpg', '--version'] },
  'gpg-agent': { purpose: 'keeping the signing key', ask: ['gpg-agent', '--version'] },
  gpgconf: { purpose: 'ending the agent that keeps the signing key', ask: ['gpgconf', '--version'] },
  gpgv: { purpose: 'checking signatures', ask: ['gpgv', '--version'] },
  'grub-common': { purpose: 'making boot loaders', ask: ['grub-mkimage', '--version'] },
  'grub-efi-amd64-bin': {
    purpose: 'images that boot by UEFI',
    file: '/usr/lib/grub/x86_64-efi/kernel.img',
  },
  'grub-efi-ia32-bin': {
    purpose: 'images that boot by UEFI of 32 bits',
    file: '/usr/lib/grub/i386-efi/kernel.img',
    need: 'suggested',
  },
  'grub-pc-bin': { purpose: 'images that boot by BIOS', file: '/usr/lib/grub/i386-pc/kernel.img' },
  'initramfs-tools-core': { purpose: 'looking into initial RAM disks', need: 'recommended' },
  'kexec-tools': { purpose: 'relive live', ask: ['kexec', '--version'], need: 'suggested' },
  'libc-bin': { purpose: 'relive live', essential: true },
  'libengine-pkcs11-openssl': {
    purpose: 'keys of Secure Boot on tokens (PKCS #11)',
    file: '/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so',
    need: 'suggested',
  },
  mmdebstrap: { purpose: 'the first stage of a build', ask: ['mmdebstrap', '--version'] },
  mount: { purpose: 'stacking layers', ask: ['mount', '--version'] },
  mtools: { purpose: 'EFI system partitions', ask: ['mcopy', '--version'] },
  openssl: { purpose: 'keys of Secure Boot', ask: ['openssl', 'version'], need: 'suggested' },
  ovmf: {
    purpose: 'booting images here by UEFI',
    file: '/usr/share/OVMF/OVMF_CODE_4M.fd',
    need: 'recommended',
  },
  'ovmf-ia32': {
    purpose: 'booting images here by UEFI of 32 bits',
    file: '/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd',
    need: 'suggested',
  },
  'qemu-efi-aarch64': {
    purpose: 'booting images for arm64 here',
    file: '/usr/share/AAVMF/AAVMF_CODE.fd',
    need: 'suggested',
  },
  'qemu-efi-arm': {
    purpose: 'booting images for armhf here',
    file: '/usr/share/AAVMF/AAVMF32_CODE.fd',
    need: 'suggested',
  },
  'qemu-system-arm': {
    purpose: 'booting images for arm64 and armhf here',
    ask: ['qemu-system-aarch64', '--version'],
    need: 'suggested',
  },
  'qemu-system-x86': {
    purpose: 'booting images here',
    ask: ['qemu-system-x86_64', '--version'],
    need: 'recommended',
  },
  'squashfs-tools': { purpose: 'packing and unpacking layers', ask: ['mksquashfs', '-version'] },
  systemd: { purpose: 'relive live', ask: ['systemctl', '--version'], need: 'suggested' },
  tar: { purpose: 'exporting containers', ask: ['tar', '--version'], essential: true },
  udev: { purpose: 'relive live', ask: ['udevadm', '--version'], need: 'suggested' },
  'util-linux': {
    purpose: 'namespaces, locks, ending what was started',
    ask: ['unshare', '--version'],
    essential: true,
  },
  xorriso: { purpose: 'writing and reading ISOs', ask: ['xorriso', '-version'] },
  'xz-utils': { purpose: 'indices of repositories', ask: ['xz', '--version'] },
  zstd: { purpose: 'indices of repositories', ask: ['zstd', '--version'] },
};

/** A Debian package that relive uses. */
export interface HostPackage {
  readonly name: string;
  readonly need: Need;
  readonly essential: boolean;
}

/** Every Debian package that relive uses, by name. */
export function hostPackages(): HostPackage[] {
  const names = new Set([...toolsByPackage().keys(), ...Object.keys(packageUses)]);
  return [...names].toSorted().map((name) => {
    const use = packageUses[name];
    return { name, need: use?.need ?? 'needed', essential: use?.essential === true };
  });
}
