import { createHash } from 'node:crypto';
import { ReliveError } from '../core/error.ts';
import { sha256 } from '../host/files.ts';
import type { BootManifest } from './manifest.ts';

/** The first serial line of a machine, which the reports go to. */
const serialLines: Readonly<Record<string, string>> = { arm64: 'ttyAMA0', armhf: 'ttyAMA0' };

/** The consoles of a profile that names none: the screen and the serial line. */
function consolesOf(architecture: string): readonly string[] {
  return ['console=tty0', `console=${serialLines[architecture] ?? 'ttyS0'},115200n8`];
}

/**
 * The kernel command line of an image: live-boot's, relive's own (runtime/initramfs/relive), the profile's. Whoever
 * starts the kernel adds where it runs from (relive.ram).
 */
export function kernelCommandLine(manifest: BootManifest, manifestText: string): string[] {
  const { parameters, http } = manifest.boot;
  return [
    'boot=live',
    // live-boot reads the stack from /live/IMAGE.module.
    `module=${manifest.image}`,
    `relive.image=${manifest.image}`,
    `relive.manifest=sha256:${sha256(manifestText)}`,
    ...(http === undefined ? [] : [`relive.http=${http}`]),
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
 * boot.cfg: what the menu says of an image, and how it is started. A GRUB script of one command, `relive_image IMAGE
 * DESCRIPTION RAM PARAMETER...`, which the GRUB of the medium defines (runtime/grub/functions.cfg): that makes of it as
 * many entries as it offers ways to start, and knows which file it is that cannot be loaded. IMAGE must be the name
 * that the directory has, so that an older boot.cfg, signed as well, is not taken for that of a newer image. The
 * parameters hold the manifest's digest: whoever checked this file's signature can trust it. RAM is where the system
 * runs from unless another way is chosen: `none`, `layers`, `unpacked`.
 */
export function bootConfiguration(manifest: BootManifest, manifestText: string): string {
  const words = [
    manifest.image,
    describe(manifest),
    manifest.boot.ram,
    ...kernelCommandLine(manifest, manifestText),
  ];
  return `relive_image ${words.map(quote).join(' ')}\n`;
}

/** The day, the kind and the size of an image, for its line in a menu. */
function describe({ version, suite, architecture, kind, layers }: BootManifest): string {
  const day = version.replace(/^(\d{4})(\d{2})(\d{2}).*$/, '$1-$2-$3');
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  return `${day}, ${kind}, ${Math.ceil(size / 1e6)} MB, ${suite} ${architecture}`;
}

/** The name of the list of checksums that GRUB goes by, out of a manifest. */
export function bootSumsFile({ checksum }: Pick<BootManifest['boot'], 'checksum'>): string {
  return `boot.${checksum ?? 'sha256'}`;
}

/**
 * boot.sha256 or boot.sha512: the checksums of what GRUB loads, and of the manifest, in the order in which GRUB's hashsum
 * checks them where no key is wanted. SHA256SUMS would not do: it names the layers, too, which the initramfs checks.
 */
export function bootChecksums(manifest: BootManifest, manifestText: string): string {
  const algorithm = manifest.boot.checksum ?? 'sha256';
  const hash = (text: string): string => createHash(algorithm).update(text).digest('hex');
  const digestOf = (file: 'kernel' | 'initrd'): string => {
    const { digest, sha512 } = manifest[file];
    if (algorithm === 'sha256') return digest;
    if (sha512 !== undefined) return sha512;
    throw new ReliveError('corrupt', `the manifest of ${manifest.image} has no SHA-512 of its ${file}`);
  };
  const files = {
    'boot.cfg': hash(bootConfiguration(manifest, manifestText)),
    'manifest.json': hash(manifestText),
    vmlinuz: digestOf('kernel'),
    'initrd.img': digestOf('initrd'),
  };
  return Object.entries(files)
    .map(([name, digest]) => `${digest}  ${name}\n`)
    .join('');
}

/**
 * boot/grub/loopback.cfg of an ISO with one image: the menu for another's GRUB, which has opened the ISO as `$root` and
 * says in `$iso_path` where it lies (the convention of loopback.cfg).
 */
export function loopbackConfiguration(
  manifest: BootManifest,
  manifestText: string,
  directory: string,
): string {
  const entry = (title: string, ram: string): string[] => {
    const words = [
      ...kernelCommandLine(manifest, manifestText),
      ...(ram === 'none' ? [] : [`relive.ram=${ram}`]),
    ];
    return [
      `menuentry ${quote(title)} --unrestricted {`,
      `  linux ${quote(`${directory}/vmlinuz`)} ${words.map(quote).join(' ')} findiso="$iso_path"`,
      `  initrd ${quote(`${directory}/initrd.img`)}`,
      '}',
    ];
  };
  const { image, boot } = manifest;
  return [
    ...entry(`${image}: ${describe(manifest)}`, boot.ram),
    ...(boot.ram === 'none' ? entry(`${image}, copied to RAM`, 'layers') : []),
    '',
  ].join('\n');
}
