import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists } from '../host/files.ts';
import { publicKeysFile } from '../image/keys.ts';
import type { Manifest } from '../image/manifest.ts';
import { secureBootSigner } from '../image/secure-boot-keys.ts';
import { readManifest, type StoredImage } from '../image/store.ts';
import type { Site } from '../site/site.ts';
import { biosIsCurrent, installBios } from './bios.ts';
import type { DiskBytes } from './bytes.ts';
import { makeEfiFiles } from './efi.ts';
import { readFatFile, replaceFatFile } from './fat.ts';
import { type EfiPlatform, type GrubOptions, grubDirectory, makeGrubImage } from './grub.ts';
import { readGrubKey } from './grub-key.ts';
import { findGrub } from './grub-package.ts';
import { grubLayout } from './keyboard.ts';
import type { Layout } from './layout.ts';
import type { EfiFile } from './shim.ts';
import { rarerEfi, type Starter, starterOf } from './starters.ts';

/** What starts a medium. */
export interface MediumGrub {
  /** For BIOS: GRUB's boot.img, and the core image that it reads; undefined where no image is for PCs. */
  readonly bios: { readonly bootImage: Uint8Array; readonly core: Uint8Array } | undefined;
  /** For UEFI: the files of the EFI system partition, of each kind of machine what firmware starts last. */
  readonly efi: readonly EfiFile[];
}

/**
 * The public keys by which GRUB and the checks of a medium go, or undefined where a site has none: then GRUB goes
 * by checksums.
 */
export async function mediumKeys(site: Pick<Site, 'keys'>): Promise<string | undefined> {
  const file = publicKeysFile(site);
  return (await exists(file)) ? file : undefined;
}

/**
 * What UEFI starts on one kind of machine: signed for Secure Boot where one of its images wants that, and behind shim where
 * one wants that, which starts the others, too.
 */
async function efiGrub(
  site: Site,
  platform: EfiPlatform,
  images: readonly Manifest[],
  options: GrubOptions,
  scratch: string,
  context: Context,
): Promise<readonly EfiFile[]> {
  const wants = (secureBoot: true | 'shim' | 'debian'): Manifest | undefined =>
    images.find(({ boot }) => boot?.secureBoot === secureBoot);
  const example = wants('shim') ?? wants(true) ?? wants('debian') ?? images[0];
  // An empty medium.
  if (example === undefined)
    return await makeEfiFiles(platform, options, scratch, context, undefined, undefined);
  if (example.boot?.secureBoot === 'debian') refuseUnchecked(example, images);
  const { modules, whole, shim, debian } = await findGrub(platform, site, example, context);
  if (debian !== undefined) {
    context.emit({
      event: 'warning',
      message: `by UEFI the medium starts through Debian's own GRUB, as ${example.image} wants it: nothing but the kernel is sure to be what was signed`,
      hint: 'docs/secure-boot.md says what the other ways check',
    });
    return await makeEfiFiles(platform, options, scratch, context, undefined, debian);
  }
  const secure =
    whole === undefined ? undefined : { signer: await secureBootSigner(site, context), whole, shim };
  return await makeEfiFiles(platform, options, scratch, context, modules, secure);
}

/** @throws ReliveError `configuration` where an image would be started unchecked that asks for its signatures */
function refuseUnchecked(example: Manifest, images: readonly Manifest[]): void {
  const other = images.find(({ boot }) => boot?.verify === 'signature');
  if (other === undefined) return;
  throw new ReliveError(
    'configuration',
    `${example.image} wants Debian's own GRUB, which checks no signatures, and ${other.image} wants them checked`,
    { hint: 'put them on media of their own: --image names what a medium gets' },
  );
}

async function biosGrub(
  options: GrubOptions,
  scratch: string,
  context: Context,
): Promise<NonNullable<MediumGrub['bios']>> {
  const pc = await readFile(await makeGrubImage('pc', options, scratch, context));
  const directory = join(grubDirectory, 'i386-pc');
  // grub-mkimage's format for CDs is that for disks behind cdboot.img (GRUB, util/mkimage.c).
  const { size } = await stat(join(directory, 'cdboot.img'));
  const core = pc.subarray(size);
  const diskboot = await readFile(join(directory, 'diskboot.img'));
  if (!core.subarray(0, 64).equals(diskboot.subarray(0, 64))) {
    throw new ReliveError('bug', 'the core image of GRUB does not begin with diskboot.img');
  }
  return { bootImage: await readFile(join(directory, 'boot.img')), core };
}

/** The manifests of a store, as far as they can be read: what else is there, no GRUB is made for. */
export async function storeManifests(images: readonly StoredImage[]): Promise<readonly Manifest[]> {
  const manifests: Manifest[] = [];
  for (const image of images) {
    try {
      manifests.push(await readManifest(image));
    } catch (error) {
      if (!isReliveError(error, 'corrupt')) throw error;
    }
  }
  return manifests;
}

/**
 * Makes GRUB for a medium, for each kind of machine that an image on it is for; for PCs where it has none. Equal images, keys
 * and versions of GRUB give equal bytes.
 * @param images the manifests of all images on the medium
 * @param scratch a directory for what goes in
 * @throws ReliveError `configuration` for a key that GRUB cannot use; `not-found` for an image that wants Secure Boot and no
 *   key for it; `tool-missing`, `tool-failed`, and as `findGrub`
 */
export async function mediumGrub(
  site: Site,
  images: readonly Manifest[],
  scratch: string,
  context: Context,
): Promise<MediumGrub> {
  const keys = await mediumKeys(site);
  const options = {
    check: keys === undefined ? ('checksum' as const) : ('signature' as const),
    publicKey: keys === undefined ? undefined : await readGrubKey(keys),
    timeoutSeconds: site.menu.timeoutSeconds,
    layout:
      site.menu.keyboard === undefined ? undefined : await grubLayout(site.menu.keyboard, scratch, context),
  };
  const machines = new Map<Starter['efi'], Starter & { readonly images: Manifest[] }>();
  for (const architecture of images.length === 0 ? ['amd64'] : images.map((image) => image.architecture)) {
    const starter = starterOf(architecture);
    if (starter !== undefined) machines.set(starter.efi, { ...starter, images: [] });
  }
  for (const image of images) machines.get(starterOf(image.architecture)?.efi ?? 'efi')?.images.push(image);
  const efi = new Map<string, EfiFile>();
  for (const [platform, machine] of [...machines].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    for (const file of await efiGrub(site, platform, machine.images, options, scratch, context))
      efi.set(file.path, file);
    // Not for Secure Boot: firmware of 32 bits with it would not take this one.
    const rarer = await rarerEfi(machine);
    if (rarer === undefined) continue;
    for (const file of await makeEfiFiles(rarer, options, scratch, context, undefined, undefined))
      efi.set(file.path, file);
  }
  const bios = [...machines.values()].some((machine) => machine.bios);
  return {
    bios: bios ? await biosGrub(options, scratch, context) : undefined,
    efi: [...efi.values()],
  };
}

/** The parts of a medium whose GRUB is not `grub`: `BIOS`, or a path in the EFI system partition. */
export async function outdatedGrub(
  disk: DiskBytes,
  layout: Layout,
  grub: MediumGrub,
): Promise<readonly string[]> {
  const outdated: string[] = [];
  if (layout.bios !== undefined && grub.bios !== undefined) {
    const partition = { first: layout.bios.offset / layout.table.sectorSize };
    if (!(await biosIsCurrent(disk, partition, grub.bios.bootImage, grub.bios.core))) outdated.push('BIOS');
  }
  for (const { path, content } of grub.efi) {
    const there = await readFatFile(disk, layout.efi.offset, layout.efi.bytes, path);
    if (there?.equals(content) !== true) outdated.push(path);
  }
  return outdated;
}

/**
 * Brings a medium's GRUB to `grub`, where it differs. Whenever the power fails, each part is the old or the new one.
 * @returns what was changed, as `outdatedGrub`
 */
export async function installGrub(
  disk: DiskBytes,
  layout: Layout,
  grub: MediumGrub,
): Promise<readonly string[]> {
  const outdated = await outdatedGrub(disk, layout, grub);
  for (const { path, content } of grub.efi) {
    if (outdated.includes(path)) {
      await replaceFatFile(disk, layout.efi.offset, layout.efi.bytes, path, content);
    }
  }
  if (layout.bios !== undefined && grub.bios !== undefined && outdated.includes('BIOS')) {
    const partition = { first: layout.bios.offset / layout.table.sectorSize };
    await installBios(disk, partition, grub.bios.bootImage, grub.bios.core);
  }
  return outdated;
}
