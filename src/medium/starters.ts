import { type EfiPlatform, grubDirectory, hasGrub } from './grub.ts';

/** What starts a machine: BIOS or not, and UEFI. */
export interface Starter {
  readonly bios: boolean;
  readonly efi: EfiPlatform;
  /** What starts such machines whose UEFI is another one, where this host has GRUB for it. */
  readonly rarer?: EfiPlatform;
}

/** What starts images, by Debian's name of their processor; runtime/grub/functions.cfg (relive_suits) knows the same. */
const starters: Readonly<Record<string, Starter>> = {
  amd64: { bios: true, efi: 'efi', rarer: 'i386-efi' },
  i386: { bios: true, efi: 'efi', rarer: 'i386-efi' },
  arm64: { bios: false, efi: 'arm64-efi' },
  armhf: { bios: false, efi: 'arm-efi' },
};

/** The processors whose images media and ISOs can start. */
export const startedArchitectures: readonly string[] = Object.keys(starters);

/** What starts images for a processor; undefined: nothing that relive makes. */
export function starterOf(architecture: string): Starter | undefined {
  return Object.hasOwn(starters, architecture) ? starters[architecture] : undefined;
}

/** Its rarer UEFI, where this host has GRUB for it. */
export async function rarerEfi({ rarer }: Pick<Starter, 'rarer'>): Promise<EfiPlatform | undefined> {
  return rarer !== undefined && (await hasGrub(rarer, grubDirectory)) ? rarer : undefined;
}

/** Whether one machine starts images for both processors: then its menu offers both. */
export function startTogether(one: string, other: string): boolean {
  return one === other || (starterOf(one) !== undefined && starterOf(one)?.efi === starterOf(other)?.efi);
}
