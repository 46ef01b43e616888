import { ReliveError } from '../core/error.ts';
import { sha256 } from '../host/files.ts';
import type { BootManifest } from './manifest.ts';

/** The first serial line of a machine, which the reports go to. */
const serialLines: Readonly<Record<string, string>> = { arm64: 'ttyAMA0', armhf: 'ttyAMA0' };

/** The consoles of a profile that names none: the screen and the serial line. */
function consolesOf(architecture: string): readonly string[] {
  return ['console=tty0', `console=${serialLines[architecture] ?? 'ttyS0'},115200n8`];
}

/** Where the layers are read from: the medium, or RAM, copied there as they are or unpacked. */
type Ram = BootManifest['boot']['ram'];

/** The kernel command line of an image: live-boot's, relive's own (runtime/initramfs/relive), the profile's. */
export function kernelCommandLine(
  manifest: BootManifest,
  manifestText: string,
  ram: Ram = manifest.boot.ram,
): string[] {
  const { parameters } = manifest.boot;
  return [
    'boot=live',
    // live-boot reads the stack from /live/IMAGE.module.
    `module=${manifest.image}`,
    `relive.image=${manifest.image}`,
    `relive.manifest=sha256:${sha256(manifestText)}`,
    ...(ram === 'none' ? [] : [`relive.ram=${ram}`]),
    ...(parameters.some((parameter) => parameter.startsWith('console='))
      ? []
      : consolesOf(manifest.architecture)),
    ...parameters,
  ];
}

/** A word in GRUB's single quotes, in which nothing is special but the quote itself. */
function quote(word: string): string {
  if (/['\n\r]/.test(word)) {
    throw new ReliveError(
      'configuration',
      `a kernel parameter cannot be written for GRUB: ${JSON.stringify(word)}`,
      {
        hint: 'remove quotes and line breaks from boot.parameters',
      },
    );
  }
  return `'${word}'`;
}

/**
 * boot.cfg: the menu entry of an image, a GRUB script to be sourced with relive_root (a device, `(cd0)`) and
 * relive_dir (the image's directory there) set. An entry's body runs long after, so both are handed on as its
 * arguments. Whoever may switch the machine on may boot it (--unrestricted); changing entries is not for everybody, and
 * is for the medium's own configuration to forbid. The command line in it holds the manifest's digest: whoever checked
 * this file's signature can trust it.
 *
 * Kernel and initrd are loaded by `relive_boot ROOT DIR PARAMETER...`, a function of the medium's GRUB: plain `linux`
 * and `initrd` would start the kernel alone when the initrd is refused, and say nothing of which file it was.
 */
export function bootConfiguration(manifest: BootManifest, manifestText: string): string {
  const title = `${manifest.image} (${manifest.suite} ${manifest.architecture}, ${manifest.kind})`;
  const entry = (text: string, id: string, ram: Ram): string[] => [
    `menuentry ${quote(text)} --unrestricted --id ${quote(id)} "$relive_root" "$relive_dir" {`,
    `  relive_boot "$2" "$3" ${kernelCommandLine(manifest, manifestText, ram).map(quote).join(' ')}`,
    '}',
  ];
  const { image, boot } = manifest;
  return [
    ...entry(title, image, boot.ram),
    // With it the medium can be taken out. A profile whose images run from RAM anyway needs no second entry.
    ...(boot.ram === 'none' ? entry(`${image}, copied to RAM`, `${image}-ram`, 'layers') : []),
    '',
  ].join('\n');
}
