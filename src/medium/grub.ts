import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { home } from '../core/home.ts';
import { exists } from '../host/files.ts';
import { run } from '../host/process.ts';
import { tarOf } from '../host/tar.ts';
import { programSection, type Signer, signProgram } from '../image/authenticode.ts';
import type { Shim } from './shim.ts';

/**
 * `pc`: BIOS, from a CD or the first sectors of a disk. `efi`: UEFI on x86-64. `i386-efi`: UEFI of 32 bits, which some PCs have
 * whose processor has 64. The others: UEFI on ARM.
 */
export type GrubPlatform = 'pc' | 'efi' | 'i386-efi' | 'arm64-efi' | 'arm-efi';

/** How GRUB checks what it reads: by its signature, by checksums kept beside it, or not at all. */
export const grubChecks = ['signature', 'checksum', 'none'] as const;
export type GrubCheck = (typeof grubChecks)[number];

/** What the GRUB of a medium is made for. Its menu is made when it is shown, of the images and ISO files it finds then. */
export interface GrubOptions {
  readonly check: GrubCheck;
  /** A binary OpenPGP public key; wanted for `signature`, and for nothing else. */
  readonly publicKey: Uint8Array | undefined;
  /** Seconds which the menu waits before it starts an image; 0: none. */
  readonly timeoutSeconds: number;
  /** The layout of the keyboard, as `grubLayout` makes it; for BIOS: with UEFI the firmware reads the keyboard. */
  readonly layout?: Uint8Array | undefined;
}

/** What a GRUB for Secure Boot wants besides modules. */
export interface SecureGrub {
  readonly signer: Signer;
  /** The directory with the platform's folder of whole GRUBs of the same version (see `findGrub`). */
  readonly whole: string;
  /** What firmware starts first, and GRUB asks about the kernel; undefined: it asks the firmware. */
  readonly shim: Shim | undefined;
}

/** Where Debian's grub-pc-bin, grub-efi-amd64-bin, ... put what core images are made of. */
export const grubDirectory = '/usr/lib/grub';

/** GRUB's scripts as they lie in runtime/grub/, and inside GRUB in /boot/grub/ of its memory disk. */
export const grubScripts = ['grub.cfg', 'functions.cfg', 'menu.cfg'] as const;

/** The graphic menu: beside the scripts, in theme/. */
export const themeFiles = [
  ...['theme.txt', 'sans.pf2', 'bold.pf2', 'mono.pf2'],
  ...['desktop.png', 'select_c.png', 'select_e.png', 'select_w.png'],
] as const;

/** Names by platform: the folder of modules, the format of `grub-mkimage`, the package that brings them. */
export const grubPlatforms = {
  pc: { folder: 'i386-pc', format: 'i386-pc-eltorito', brings: 'grub-pc-bin' },
  efi: { folder: 'x86_64-efi', format: 'x86_64-efi', brings: 'grub-efi-amd64-bin' },
  'i386-efi': { folder: 'i386-efi', format: 'i386-efi', brings: 'grub-efi-ia32-bin' },
  'arm64-efi': { folder: 'arm64-efi', format: 'arm64-efi', brings: 'grub-efi-arm64-bin' },
  'arm-efi': { folder: 'arm-efi', format: 'arm-efi', brings: 'grub-efi-arm-bin' },
} as const;

/**
 * The names in EFI/BOOT of what firmware starts from removable media (UEFI specification, 3.5.1.1).
 */
export const efiPrograms = {
  efi: 'BOOTX64.EFI',
  'i386-efi': 'BOOTIA32.EFI',
  'arm64-efi': 'BOOTAA64.EFI',
  'arm-efi': 'BOOTARM.EFI',
} as const satisfies Partial<Record<GrubPlatform, string>>;

/** The platforms of UEFI. */
export type EfiPlatform = keyof typeof efiPrograms;

/** How shim calls a processor in the names of what it starts (shim, Makefile, ARCH_SUFFIX), of those that Debian has it for. */
export const efiNames: Readonly<Partial<Record<GrubPlatform, string>>> = { efi: 'x64', 'arm64-efi': 'aa64' };

const commonModules = [
  ...['memdisk', 'tar', 'normal', 'configfile', 'test', 'true', 'echo', 'sleep', 'terminal', 'serial'],
  // regexp brings `*` in names, too; probe tells a file system by its UUID to the system that is started.
  ...['regexp', 'probe', 'loadenv', 'loopback', 'linux', 'reboot', 'halt'],
  ...['part_msdos', 'part_gpt', 'iso9660', 'fat', 'exfat', 'ext2', 'btrfs', 'xfs', 'squash4'],
];
const graphicModules: readonly string[] = ['gfxterm', 'gfxmenu', 'png'];
// Without efi_gop the kernel gets no frame buffer and the screen stays black.
const efiModules: readonly string[] = ['efi_gop', 'efifwsetup'];
const platformModules: Readonly<Record<GrubPlatform, readonly string[]>> = {
  pc: ['biosdisk', 'linux16', 'vbe', ...graphicModules],
  efi: [...efiModules, ...graphicModules],
  'i386-efi': [...efiModules, ...graphicModules],
  'arm64-efi': efiModules,
  'arm-efi': efiModules,
};
// iorw asks whether there is a keyboard that GRUB can read by itself.
const keyboardModules: readonly string[] = ['at_keyboard', 'keylayouts', 'iorw'];
const checkModules: Readonly<Record<GrubCheck, readonly string[]>> = {
  // Signatures are made with SHA-256 (src/host/gpg.ts); those of images made before have SHA-512.
  signature: ['pgp', 'gcry_rsa', 'gcry_sha256', 'gcry_sha512'],
  checksum: ['hashsum', 'gcry_sha256', 'gcry_sha512'],
  none: [],
};

/** Whether GRUB reads the keyboard by itself there. */
function readsKeyboard(platform: GrubPlatform, { layout }: Pick<GrubOptions, 'layout'>): boolean {
  return platform === 'pc' && layout !== undefined;
}

/**
 * The modules of a core image: all that it will ever have, since a medium carries no loose ones.
 * @param options with a layout for the keyboard, or without
 */
export function grubModules(
  platform: GrubPlatform,
  check: GrubCheck,
  options: Pick<GrubOptions, 'layout'> = {},
): readonly string[] {
  return [
    ...commonModules,
    ...platformModules[platform],
    ...(readsKeyboard(platform, options) ? keyboardModules : []),
    ...checkModules[check],
  ];
}

/**
 * The arguments of `grub-mkimage` for one core image (grub-mkimage(1)).
 * @param from the directory with the platform's folder of modules
 * @param sbat a file for the section .sbat, for GRUBs that start with Secure Boot
 * @param starts what starts it then: firmware, which it asks about kernels, or shim
 */
export function mkimageArguments(
  platform: GrubPlatform,
  { check, layout }: Pick<GrubOptions, 'check' | 'layout'>,
  files: { readonly output: string; readonly memdisk: string; readonly publicKey: string | undefined },
  from: string = grubDirectory,
  sbat?: string,
  starts: 'firmware' | 'shim' = 'firmware',
): string[] {
  const { folder, format } = grubPlatforms[platform];
  return [
    ...['--directory', join(from, folder), '--format', format, '--output', files.output],
    ...['--prefix', '(memdisk)/boot/grub', '--memdisk', files.memdisk],
    ...(files.publicKey === undefined ? [] : ['--pubkey', files.publicKey]),
    ...(sbat === undefined ? [] : ['--sbat', sbat]),
    ...(sbat === undefined || starts === 'shim' ? [] : ['--disable-shim-lock']),
    ...grubModules(platform, check, { layout }),
  ];
}

/** The settings that the scripts begin with. */
export function grubSettings({ check, timeoutSeconds }: GrubOptions): string {
  return `set relive_check=${check}\nset relive_timeout=${timeoutSeconds}\n`;
}

/**
 * Makes a GRUB core image that starts from its own memory disk: for BIOS with the boot sector of a CD in front, for
 * UEFI a PE executable. Its scripts (runtime/grub/) sit in it, so they are as trustworthy as GRUB itself. The bytes
 * depend on GRUB's version and on `options` alone.
 * @param scratch a directory for what goes in
 * @param from the directory with the platform's folder of modules (see `findGrub`)
 * @param secure makes it one that firmware starts with Secure Boot; only for UEFI
 * @returns the path of the core image, in `scratch`
 * @throws ReliveError `tool-missing`, `tool-failed`
 */
export async function makeGrubImage(
  platform: GrubPlatform,
  options: GrubOptions,
  scratch: string,
  context: Context,
  from: string = grubDirectory,
  secure?: SecureGrub,
): Promise<string> {
  const { check, publicKey, layout } = options;
  if ((check === 'signature') !== (publicKey !== undefined)) {
    throw new TypeError('GRUB gets a key to check signatures with, and for nothing else');
  }
  await requireGrub(platform, from);
  // On ARM the screen is rarely where somebody looks, and GRUB cannot drive the serial line by itself.
  const graphic = grubModules(platform, check).includes('gfxmenu');
  const files = [...grubScripts, ...(graphic ? themeFiles.map((name) => `theme/${name}`) : [])];
  const parts = await Promise.all(
    files.map(async (name) => ({
      path: `boot/grub/${name}`,
      content: await readFile(join(home, 'runtime/grub', name)),
    })),
  );
  if (layout !== undefined && readsKeyboard(platform, options))
    parts.push({ path: 'boot/grub/layout.gkb', content: Buffer.from(layout) });
  const memdisk = join(scratch, `${platform}.tar`);
  await writeFile(
    memdisk,
    tarOf([...parts, { path: 'boot/grub/settings.cfg', content: grubSettings(options) }]),
  );
  const keyFile = publicKey === undefined ? undefined : join(scratch, `${platform}.gpg`);
  if (keyFile !== undefined) await writeFile(keyFile, publicKey ?? '');
  const output = join(scratch, `${platform}.img`);
  const sbat = secure === undefined ? undefined : join(scratch, `${platform}.sbat`);
  if (secure !== undefined && sbat !== undefined) await writeFile(sbat, await sbatOf(platform, secure.whole));
  const inside = { output, memdisk, publicKey: keyFile };
  const starts = secure?.shim === undefined ? 'firmware' : 'shim';
  await run('grub-mkimage', mkimageArguments(platform, options, inside, from, sbat, starts), {
    signal: context.signal,
  });
  if (secure !== undefined)
    await writeFile(output, await signProgram(await readFile(output), output, secure.signer));
  return output;
}

/**
 * The text of the section .sbat (github.com/rhboot/shim, SBAT.md), by which shim refuses GRUBs with known faults: that of
 * the whole GRUB which Debian makes of the same modules.
 * @param from the directory with the platform's folder, in it monolithic/
 * @throws ReliveError `corrupt`
 */
async function sbatOf(platform: GrubPlatform, from: string): Promise<Uint8Array> {
  const directory = join(from, grubPlatforms[platform].folder, 'monolithic');
  const names = await readdir(directory);
  for (const name of names.toSorted()) {
    const text = programSection(await readFile(join(directory, name)), '.sbat');
    if (text !== undefined) return text;
  }
  throw new ReliveError('corrupt', `no GRUB in ${directory} says its SBAT generation`);
}

/** Whether a directory has a platform's modules. */
export async function hasGrub(platform: GrubPlatform, from: string): Promise<boolean> {
  return await exists(join(from, grubPlatforms[platform].folder, 'kernel.img'));
}

async function requireGrub(platform: GrubPlatform, from: string): Promise<void> {
  if (await hasGrub(platform, from)) return;
  const { folder, brings } = grubPlatforms[platform];
  throw new ReliveError('tool-missing', `GRUB's ${folder} modules are not installed`, {
    hint: `apt-get install ${brings} (relive doctor lists all that is missing)`,
  });
}

/**
 * The file with the sector that BIOS reads from a disk or USB stick; xorriso writes into its copy of it where the core
 * image begins.
 */
export async function hybridBootSector(): Promise<string> {
  await requireGrub('pc', grubDirectory);
  return join(grubDirectory, grubPlatforms.pc.folder, 'boot_hybrid.img');
}
