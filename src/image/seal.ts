import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { digestFile } from '../host/files.ts';
import { type SecretKey, signDetached } from '../host/gpg.ts';
import { bootSumsFile } from './boot-entry.ts';
import { layerFile, type Manifest, type ManifestLayer } from './manifest.ts';

/** The part of a manifest that tells which files an image directory has. */
export interface Sealed {
  readonly boot: Pick<NonNullable<Manifest['boot']>, 'checksum'> | null;
}

/** The files of an image directory that the lists of checksums name, beside the layers; a container has no boot files. */
export function sealedFiles({ boot }: Sealed): readonly string[] {
  return ['manifest.json', ...(boot === null ? [] : [...bootFiles, bootSumsFile(boot)])];
}

/** What every image directory has for booting. */
export const bootFiles = ['boot.cfg', 'vmlinuz', 'initrd.img'] as const;
/** The lists of checksums, each with its digest. */
export const sumFiles = { SHA256SUMS: 'sha256', SHA512SUMS: 'sha512' } as const;
/** Every file of an image directory that has a signature beside it. */
export function signedFiles(manifest: Sealed): readonly string[] {
  return [...sealedFiles(manifest), 'SHA256SUMS', 'SHA512SUMS'];
}

/** A layer as an image directory sees it, in a store and on a medium alike. */
export function layerFromImage(layer: Pick<ManifestLayer, 'digest'>): string {
  return `../../../live/${layerFile(layer)}`;
}

/**
 * Seals an image directory: writes SHA256SUMS and SHA512SUMS (as sha256sum(1) reads them) and signs each file that
 * GRUB or a user reads. The layers are named where the image will see them.
 * @param layers each layer with the place where its file is now
 * @param sourceDateEpoch the time of the signatures, or the key's own if it is younger
 */
export async function sealImage(
  directory: string,
  layers: readonly { readonly layer: ManifestLayer; readonly file: string }[],
  manifest: Sealed,
  key: SecretKey & { readonly home: string },
  sourceDateEpoch: number,
  context: Context,
): Promise<void> {
  for (const [name, algorithm] of Object.entries(sumFiles)) {
    const lines: string[] = [];
    for (const file of sealedFiles(manifest)) {
      lines.push(`${(await digestFile(join(directory, file), algorithm, context.signal)).digest}  ${file}\n`);
    }
    for (const { layer, file } of layers) {
      const digest =
        algorithm === 'sha256' ? layer.digest : (await digestFile(file, algorithm, context.signal)).digest;
      lines.push(`${digest}  ${layerFromImage(layer)}\n`);
    }
    await writeFile(join(directory, name), lines.join(''));
  }
  const files = signedFiles(manifest).map((name) => join(directory, name));
  // gpg calls a signature that is older than its key invalid.
  await signDetached(key.home, key.fingerprint, files, Math.max(sourceDateEpoch, key.created), context);
}

/** Reads a list of checksums: the digest of each file, by name. Lines that are none are left out. */
export function parseSums(text: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, digest, name] = /^([0-9a-f]+) [ *](.+)$/.exec(line) ?? [];
    if (digest !== undefined && name !== undefined) sums.set(name, digest);
  }
  return sums;
}
