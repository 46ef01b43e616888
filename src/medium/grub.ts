import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists } from '../host/files.ts';
import { run } from '../host/process.ts';
import { tarOf } from './tar.ts';

/** `pc`: BIOS, from a CD or the first sectors of a disk. `efi`: UEFI on x86-64. The others: UEFI on ARM. */
export type GrubPlatform = 'pc' | 'efi' | 'arm64-efi' | 'arm-efi';

/** What the GRUB of a medium is made for. */
export interface GrubOptions {
  /** The directories of the images in the menu, as paths on the medium; the first is started. */
  readonly images: readonly { readonly title: string; readonly directory: string }[];
  /** The label of the medium's file system, by which GRUB finds it. */
  readonly label: string;
  /** A binary OpenPGP public key; every file that GRUB reads must then be signed by it. */
  readonly publicKey: Uint8Array | undefined;
  /** Seconds which the menu waits before it starts the first image. */
  readonly timeoutSeconds: number;
}

/** Where Debian's grub-pc-bin, grub-efi-amd64-bin, ... put what core images are made of. */
export const grubDirectory = '/usr/lib/grub';

/** The menu, inside GRUB. */
const menuFile = '(memdisk)/boot/grub/menu.cfg';

/** Names by platform: the folder of modules, the format of `grub-mkimage`, the package that brings them. */
export const grubPlatforms = {
  pc: { folder: 'i386-pc', format: 'i386-pc-eltorito', brings: 'grub-pc-bin' },
  efi: { folder: 'x86_64-efi', format: 'x86_64-efi', brings: 'grub-efi-amd64-bin' },
  'arm64-efi': { folder: 'arm64-efi', format: 'arm64-efi', brings: 'grub-efi-arm64-bin' },
  'arm-efi': { folder: 'arm-efi', format: 'arm-efi', brings: 'grub-efi-arm-bin' },
} as const;

/**
 * The names in EFI/BOOT of what firmware starts from removable media (UEFI specification, 3.5.1.1).
 */
export const efiPrograms = {
  efi: 'BOOTX64.EFI',
  'arm64-efi': 'BOOTAA64.EFI',
  'arm-efi': 'BOOTARM.EFI',
} as const satisfies Partial<Record<GrubPlatform, string>>;

/** The platforms of UEFI. */
export type EfiPlatform = keyof typeof efiPrograms;

const commonModules = [
  ...['memdisk', 'tar', 'normal', 'configfile', 'test', 'true', 'echo', 'sleep', 'terminal', 'serial'],
  ...[
    'part_msdos',
    'part_gpt',
    'iso9660',
    'ext2',
    'exfat',
    'search',
    'search_label',
    'linux',
    'reboot',
    'halt',
  ],
];
// Without efi_gop the kernel gets no frame buffer and the screen stays black.
const efiModules: readonly string[] = ['efi_gop', 'efifwsetup'];
const platformModules: Readonly<Record<GrubPlatform, readonly string[]>> = {
  pc: ['biosdisk'],
  efi: efiModules,
  'arm64-efi': efiModules,
  'arm-efi': efiModules,
};
/** gpg signs with SHA-512 or, by preference of the key, SHA-256. */
const signatureModules = ['pgp', 'gcry_rsa', 'gcry_sha256', 'gcry_sha512'];

/** The modules of a core image: all that it will ever have, since a medium carries no loose ones. */
export function grubModules(platform: GrubPlatform, signed: boolean): readonly string[] {
  return [...commonModules, ...platformModules[platform], ...(signed ? signatureModules : [])];
}

/**
 * Text as one word of a GRUB script (GRUB manual, "Quoting": between single quotes nothing is special).
 * @throws ReliveError `unsafe-path` for what no name of ours has: quotes and control characters
 */
function quoted(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are the characters to refuse
  if (/['\u0000-\u001f\u007f]/.test(text)) {
    throw new ReliveError('unsafe-path', `a name for GRUB holds a quote or control character: ${text}`);
  }
  return `'${text}'`;
}

/**
 * The scripts that run inside GRUB: they sit in the core image, so they are as trustworthy as GRUB itself. The first
 * one runs once, the menu again after each refusal.
 *
 * What it gives each image's boot.cfg, which it sources in turn:
 * - `$relive_root` and `$relive_dir`: the device ("(cd0)") and the image's directory on it, while it is sourced;
 * - `relive_boot ROOT DIR PARAMETER...`: loads DIR/vmlinuz and DIR/initrd.img and starts them. It never comes back:
 *   GRUB would start a kernel whose initrd it has just refused, as an entry that has printed errors is "booted"
 *   all the same when a kernel is loaded (grub-core/normal/menu.c), so a refusal ends in a new menu.
 *
 * With a key the command line and the editing of entries are closed: `check_signatures=no` or `init=/bin/sh` typed
 * there would undo the signatures. Entries need `--unrestricted` then.
 */
export function grubScripts(options: GrubOptions): { readonly start: string; readonly menu: string } {
  const signed = options.publicKey !== undefined;
  // Not `search --file`: that checks the file's signature and calls a bad one "no such device".
  const label = quoted(options.label);
  const start = `# Made by relive.
if serial --unit=0 --speed=115200; then
  terminal_input --append serial
  terminal_output --append serial
fi
${signed ? 'set superusers=""\nexport superusers\n' : ''}
function relive_refused {
  echo
  echo "relive: refused: $1"
  echo "It is missing, damaged or not signed with the key of this medium."
  set relive_last="$1"
  set relive_stop=1
  export relive_last
  export relive_stop
  echo "The menu follows in 10 s, or at once with Esc."
  sleep --interruptible 10
}

function relive_boot {
  set relive_at="$1$2"
  set relive_name="$2"
  shift
  shift
  echo "relive: loading $relive_name/vmlinuz"
  if linux "$relive_at/vmlinuz" "$@"; then
    echo "relive: loading $relive_name/initrd.img"
    if initrd "$relive_at/initrd.img"; then
      boot
      relive_refused "$relive_name/vmlinuz"
    else
      relive_refused "$relive_name/initrd.img"
    fi
  else
    relive_refused "$relive_name/vmlinuz"
  fi
  while true; do
    configfile ${menuFile}
  done
}

if search --no-floppy --set=relive_found --label ${label}; then
  set relive_root="($relive_found)"
else
  # A slow stick.
  sleep 3
  if search --no-floppy --set=relive_found --label ${label}; then
    set relive_root="($relive_found)"
  else
    echo "relive: no medium has the label "${label}
    relive_refused ${label}
  fi
fi
export relive_root
source ${menuFile}
`;
  const menu = `# Made by relive.
${options.images.map((image) => imageScript(image, signed)).join('\n')}
if [ -n "$relive_last" ]; then
  menuentry "Refused: $relive_last" --unrestricted "$relive_last" {
    relive_refused "$2"
  }
fi
menuentry 'Restart' --unrestricted {
  reboot
}
menuentry 'Power off' --unrestricted {
  halt
}
if [ "$grub_platform" = efi ]; then
  menuentry 'Firmware settings' --unrestricted {
    fwsetup
  }
fi

set default=0
if [ "$relive_stop" = 1 ]; then
  set timeout=-1
else
  set timeout=${options.timeoutSeconds}
fi
`;
  return { start, menu };
}

/** `source` says nothing of its success, so the file is tried first; sourcing checks the signature itself again. */
function imageScript({ title, directory }: GrubOptions['images'][number], signed: boolean): string {
  const file = '"$relive_root$relive_dir/boot.cfg"';
  const readable = signed
    ? `verify_detached ${file} "$relive_root$relive_dir/boot.cfg.sig"`
    : `[ -s ${file} ]`;
  return `set relive_dir=${quoted(directory)}
if [ -n "$relive_root" ]; then
  if ${readable}; then
    source ${file}
  else
    relive_refused "$relive_dir/boot.cfg"
    menuentry ${quoted(`${title}: refused`)} --unrestricted "$relive_dir/boot.cfg" {
      relive_refused "$2"
    }
  fi
fi
`;
}

/**
 * The arguments of `grub-mkimage` for one core image (grub-mkimage(1)).
 * @param from the directory with the platform's folder of modules
 */
export function mkimageArguments(
  platform: GrubPlatform,
  files: { readonly output: string; readonly memdisk: string; readonly publicKey: string | undefined },
  from: string = grubDirectory,
): string[] {
  const { folder, format } = grubPlatforms[platform];
  return [
    ...['--directory', join(from, folder), '--format', format, '--output', files.output],
    ...['--prefix', '(memdisk)/boot/grub', '--memdisk', files.memdisk],
    ...(files.publicKey === undefined ? [] : ['--pubkey', files.publicKey]),
    ...grubModules(platform, files.publicKey !== undefined),
  ];
}

/**
 * Makes a GRUB core image that starts from its own memory disk: for BIOS with the boot sector of a CD in front, for
 * UEFI a PE executable. The bytes depend on GRUB's version and on `options` alone.
 * @param scratch a directory for what goes in
 * @param from the directory with the platform's folder of modules (see `findGrub`)
 * @returns the path of the core image, in `scratch`
 * @throws ReliveError `tool-missing`, `tool-failed`
 */
export async function makeGrubImage(
  platform: GrubPlatform,
  options: GrubOptions,
  scratch: string,
  context: Context,
  from: string = grubDirectory,
): Promise<string> {
  await requireGrub(platform, from);
  const memdisk = join(scratch, `${platform}.tar`);
  const { start, menu } = grubScripts(options);
  const scripts = [
    { path: 'boot/grub/grub.cfg', content: start },
    { path: 'boot/grub/menu.cfg', content: menu },
  ];
  await writeFile(memdisk, tarOf(scripts));
  const publicKey = options.publicKey === undefined ? undefined : join(scratch, `${platform}.gpg`);
  if (publicKey !== undefined) await writeFile(publicKey, options.publicKey ?? '');
  const output = join(scratch, `${platform}.img`);
  await run('grub-mkimage', mkimageArguments(platform, { output, memdisk, publicKey }, from), {
    signal: context.signal,
  });
  return output;
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
