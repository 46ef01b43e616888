import { readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { takeNameAway, withScratchDirectory } from '../host/anonymous.ts';
import { exists, ifThere, makeDirectories } from '../host/files.ts';
import { loopbackConfiguration } from '../image/boot-entry.ts';
import { publicKeysFile } from '../image/keys.ts';
import { boots, layerFile, verityFile } from '../image/manifest.ts';
import { secureBootSigner } from '../image/secure-boot-keys.ts';
import { findImage, readManifest, type StoredImage, storePaths } from '../image/store.ts';
import type { Site } from '../site/site.ts';
import { findGrub, type PackageSource } from './grub-package.ts';
import { type IsoOptions, isoStage, placeOf, volumeIdOf, writeIso, writeIsoInto } from './iso.ts';
import { rarerEfi, startedArchitectures, starterOf } from './starters.ts';

/**
 * Where the images and the public keys of a site are; absolute paths. What is not on this host (GRUB for another
 * processor) comes from its repositories.
 */
export type ImageSource = Pick<Site, 'store' | 'keys'> & Partial<PackageSource & Pick<Site, 'menu'>>;

/** @throws ReliveError `usage` for an image that no ISO can start, `not-found` for an image that wants its signatures checked, and no keys; `corrupt` */
async function isoOptions(site: ImageSource, image: StoredImage, context: Context): Promise<IsoOptions> {
  const manifest = await readManifest(image);
  if (!boots(manifest)) {
    throw new ReliveError('usage', `${image.name} is a container: it has no kernel that an ISO could start`, {
      hint: `relive image export ${image.name} --oci FILE`,
    });
  }
  const starter = starterOf(manifest.architecture);
  if (starter === undefined) {
    throw new ReliveError(
      'usage',
      `${image.name} is for ${manifest.architecture}; ISOs start ${startedArchitectures.join(', ')} only`,
      {
        hint: `kernel, initrd and boot.cfg are in ${image.directory}, the layers in ${storePaths.layers(site.store)}`,
      },
    );
  }
  const text = await readFile(join(image.directory, 'manifest.json'), 'utf8');
  const keys = publicKeysFile(site);
  const signed = manifest.boot.verify === 'signature';
  if (signed && !(await exists(keys))) {
    throw new ReliveError('not-found', `no public keys for GRUB to check ${image.name} with: ${keys}`, {
      hint: 'copy the public keys of the site that made the image there',
    });
  }
  const grub = await findGrub(starter.efi, site, manifest, context);
  const rarer = await rarerEfi(starter);
  return {
    store: site.store,
    image,
    layers: manifest.layers.flatMap((layer) => [layerFile(layer), verityFile(layer)]),
    check: manifest.boot.verify,
    publicKey: signed ? keys : undefined,
    loopback: loopbackConfiguration(manifest, text, placeOf(image)),
    volumeId: volumeIdOf(image.name),
    sourceDateEpoch: manifest.sourceDateEpoch,
    bios: starter.bios,
    efi: starter.efi,
    rarerEfi: rarer,
    efiModules: grub.modules,
    menu: site.menu,
    secure:
      grub.whole === undefined
        ? grub.debian
        : { signer: await secureBootSigner(site, context), whole: grub.whole, shim: grub.shim },
  };
}

export interface ExportedIso {
  readonly image: string;
  readonly file: string;
  readonly bytes: number;
}

/** Where an image's ISO is in a store. */
function isoFileOf(store: string, image: string): string {
  return join(storePaths.isos(store), `${image}.iso`);
}

/**
 * Writes the ISO of an image.
 * @param name an image, or a profile for its newest one
 * @param output the file; STORE/isos/IMAGE.iso where undefined
 * @throws ReliveError `not-found`, and as `writeIso`
 */
export async function exportIso(
  source: ImageSource,
  name: string,
  output: string | undefined,
  context: Context,
): Promise<ExportedIso> {
  const image = await findImage(source.store, name);
  const options = await isoOptions(source, image, context);
  const file = output === undefined ? isoFileOf(source.store, image.name) : resolve(output);
  if (output === undefined) await makeDirectories(dirname(file));
  else await requireDirectory(dirname(file));
  const { bytes } = await inStage(context, isoStage, async () => {
    return await writeIso({ ...options, output: file }, context);
  });
  return { image: image.name, file, bytes };
}

async function requireDirectory(directory: string): Promise<void> {
  if (await exists(directory)) return;
  throw new ReliveError('usage', `there is no directory ${directory} to write the ISO into`);
}

async function modified(path: string): Promise<number | undefined> {
  return (await ifThere(stat(path)))?.mtimeMs;
}

/** An ISO, and what is known of the image in it. */
export interface BootableIso {
  readonly file: string;
  readonly image: string | undefined;
  readonly architecture: string | undefined;
}

/**
 * Runs `work` with a bootable ISO: the file itself where `target` names one; for an image its ISO in the store when
 * that is newer than the image, else one made for the occasion that has no name and leaves nothing behind.
 * @param source is asked for an image only: an ISO needs no site
 * @param target FILE.iso, the file of a disk, an image, or a profile for its newest image
 * @throws ReliveError `not-found`, and as `writeIso`
 */
export async function withBootableIso<T>(
  source: () => Promise<ImageSource>,
  target: string,
  context: Context,
  work: (iso: BootableIso) => Promise<T>,
): Promise<T> {
  if (/\/|\.(?:iso|img|raw)$/.test(target)) {
    if (await exists(target)) {
      return await work({ file: resolve(target), image: undefined, architecture: undefined });
    }
    throw new ReliveError('not-found', `there is no file ${target}`, {
      hint: 'relive image export IMAGE --iso writes one; relive vm takes the name of an image, too',
    });
  }
  const site = await source();
  const image = await findImage(site.store, target);
  const { architecture } = await readManifest(image);
  const file = isoFileOf(site.store, image.name);
  const [isoTime, imageTime] = [await modified(file), await modified(join(image.directory, 'manifest.json'))];
  if (isoTime !== undefined && imageTime !== undefined && isoTime > imageTime) {
    return await work({ file, image: image.name, architecture });
  }
  const options = await isoOptions(site, image, context);
  await makeDirectories(dirname(file));
  const nameless = await inStage(context, isoStage, async () => {
    return await withScratchDirectory(dirname(file), async (scratch) => {
      const made = join(scratch, 'medium.iso');
      await writeIsoInto(made, scratch, options, context);
      return await takeNameAway(made);
    });
  });
  try {
    return await work({ file: nameless.path, image: image.name, architecture });
  } finally {
    await nameless.close();
  }
}
