import { hostPackages } from '../host/packages.ts';
import { formatPosition } from '../site/position.ts';
import type { Profile } from '../site/profile.ts';
import { initrdPackage } from './initrd.ts';
import type { WantedPackage } from './resolve.ts';

/** What every live system needs to boot: an init, the means to make an initramfs, and live-boot in it. */
const live = [
  'dmsetup',
  'live-boot',
  'live-boot-initramfs-tools',
  'initramfs-tools',
  'systemd-sysv',
  'udev',
  'kmod',
];

/** For graphics and wired networks; what a wireless card needs is large and for the profile to name. */
const firmware = ['firmware-linux', 'firmware-realtek', 'firmware-bnx2', 'firmware-bnx2x'];
const microcode = ['amd64-microcode', 'intel-microcode'];
/** It starts where the machine has a channel for it, and only there. */
const agent = 'qemu-guest-agent';

/** What each kind of host needs besides, by architecture. A container has neither a kernel nor anything that boots. */
const ofHost: Readonly<
  Record<Profile['host'], Readonly<Record<Profile['architecture'], readonly string[]>>>
> = {
  'bare-metal': {
    amd64: ['linux-image-amd64', ...microcode, ...firmware],
    arm64: ['linux-image-arm64', ...firmware],
    armhf: ['linux-image-armmp', ...firmware],
    i386: ['linux-image-686-pae', ...microcode, ...firmware],
  },
  // Debian has cloud kernels for two of them.
  'virtual-machine': {
    amd64: ['linux-image-cloud-amd64', agent],
    arm64: ['linux-image-cloud-arm64', agent],
    armhf: ['linux-image-armmp', agent],
    i386: ['linux-image-686-pae', agent],
  },
  container: { amd64: [], arm64: [], armhf: [], i386: [] },
};

/** What relive runs on and drives, for systems that build images; not what it suggests only. */
function factory(): readonly string[] {
  const driven = hostPackages().filter(({ need, essential }) => need !== 'suggested' && !essential);
  return ['nodejs', ...driven.map(({ name }) => name)];
}

/** What `relive live` runs on and drives beside the essential packages. */
const liveCommands = ['nodejs', 'attr', 'gpgv', 'kexec-tools', 'mount'];

function base(name: string, why: string): WantedPackage {
  return { name, why: 'base', from: `relive's base packages (${why})` };
}

/** The packages that a profile's system consists of beside the essential ones, each with who wants it. */
export function wantedPackages(profile: Profile): WantedPackage[] {
  const wanted = [
    ...(profile.host === 'container' ? [] : live).map((name) => base(name, 'live system')),
    ...ofHost[profile.host][profile.architecture].map((name) => base(name, profile.host)),
    ...profile.packages.map(({ name, at }) => ({
      name,
      why: 'profile' as const,
      from: formatPosition(at),
    })),
  ];
  if (profile.boot.ram === 'unpacked') wanted.push(base('squashfs-tools', 'boot.ram: unpacked'));
  // For fsck, which volumes go through before they are mounted.
  if (profile.persist.length > 0) wanted.push(base('e2fsprogs', 'persist'));
  if (profile.luks.length > 0) wanted.push(base('cryptsetup-bin', 'luks'));
  if (profile.identity !== undefined) wanted.push(base('e2fsprogs', 'identity'));
  const url = profile.boot.health?.url;
  if (url !== undefined) {
    wanted.push(base('curl', 'boot.health.url'));
    if (url.startsWith('https:')) wanted.push(base('ca-certificates', 'boot.health.url'));
  }
  if (profile.factory) wanted.push(...factory().map((name) => base(name, 'factory: true')));
  if (profile.live) wanted.push(...liveCommands.map((name) => base(name, 'live: true')));
  if (needsLocales(profile.locale)) wanted.push(base('locales', `locale: ${profile.locale}`));
  if (profile.timezone !== 'Etc/UTC') wanted.push(base('tzdata', `timezone: ${profile.timezone}`));
  const compressor = profile.host === 'container' ? undefined : initrdPackage(profile.image.initrd);
  if (compressor !== undefined) wanted.push(base(compressor, `initrd: ${profile.image.initrd.algorithm}`));
  // Not essential: a container may have come without.
  if (profile.users.length > 0) wanted.push(base('passwd', 'users'));
  const layout = profile.keyboard?.layout;
  if (layout !== undefined) wanted.push(base('console-setup', `keyboard: ${layout}`));
  return [...new Map(wanted.map((each) => [each.name, each])).values()].toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  );
}

/** Whether a locale must be generated; libc brings these two. */
export function needsLocales(locale: string): boolean {
  return !['C', 'C.UTF-8', 'POSIX'].includes(locale);
}
