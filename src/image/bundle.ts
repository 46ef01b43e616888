import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { sha256 } from '../host/files.ts';
import { bootChecksums, bootConfiguration, bootSumsFile } from './boot-entry.ts';
import {
  boots,
  isShared,
  layerFile,
  type Manifest,
  type ManifestLayer,
  sharedFileOf,
  verityFile,
} from './manifest.ts';
import { imageName, serialOf } from './name.ts';
import { type Sealed, signedFiles } from './seal.ts';

/** The first three entries of a bundle, in this order (docs/bundles.md). */
export const headFiles = {
  manifest: 'manifest.json',
  signature: 'manifest.json.sig',
  index: 'bundle.json',
} as const;

/** What each of them may come to at most, and the small files of an image directory, in bytes. */
export const largest = {
  manifest: 32 * 1024 * 1024,
  signature: 64 * 1024,
  index: 1024 * 1024,
  sums: 1024 * 1024,
} as const;

const digest = z.string().regex(/^[0-9a-f]{64}$/);

const entrySchema = z.strictObject({
  path: z.string().max(99),
  size: z.int().nonnegative(),
  /** SHA-256 of the entry. */
  digest,
  /** Of a patch: SHA-256 of the layer that it is applied to. */
  from: digest.optional(),
});

const indexSchema = z.strictObject({
  bundle: z.literal(1),
  /** The image whose layers were left out, if there is one. */
  since: z.nullable(z.string().regex(/^[a-z0-9][a-z0-9-]*-\d{8}\.\d{2}$/)),
  /**
   * SHA-256 of the manifest's signature. A signature has bytes that it does not cover (RFC 9580, 5.2.3): gpgv takes it when
   * they are damaged, but GRUB, which looks for the key by them, would not.
   */
  signature: digest,
  /** What follows, in order. */
  entries: z.array(entrySchema),
});

/** bundle.json: what follows in a bundle. It is not signed: all that it says must agree with the signed manifest. */
export type BundleIndex = z.infer<typeof indexSchema>;
export type BundleEntry = BundleIndex['entries'][number];

export function formatIndex(index: BundleIndex): string {
  return `${JSON.stringify(index, undefined, 2)}\n`;
}

/** The name of a patch that makes a layer out of another one. */
export function patchFile(layer: Pick<ManifestLayer, 'digest'>): string {
  return `${layerFile(layer)}.patch`;
}

/** How the bytes of a layer come with a bundle. */
export interface BundledLayer {
  readonly layer: ManifestLayer;
  /** Either the layer itself, or a patch. */
  readonly content: BundleEntry;
  readonly verity: BundleEntry;
}

/** What a bundle holds behind its head. */
export interface BundleContents {
  /** Files of the image directory, the manifest and its signature not among them. */
  readonly files: readonly BundleEntry[];
  readonly layers: readonly BundledLayer[];
}

/** The files of an image directory that a bundle has behind its head, in order. */
export function bundledFiles(manifest: Sealed): readonly string[] {
  return signedFiles(manifest)
    .flatMap((name) => [name, `${name}.sig`])
    .filter((name) => name !== headFiles.manifest && name !== headFiles.signature);
}

function refuse(what: string, message: string): ReliveError {
  return new ReliveError('corrupt', `${what}: ${message}`, {
    hint: 'it was changed or damaged on its way, or another program wrote it: export it again',
  });
}

/**
 * What a signed manifest says of itself must hold together, since names of files are made of it.
 * @throws ReliveError `corrupt`
 */
export function requireSound(manifest: Manifest, what: string): void {
  const name = imageName({ profile: manifest.profile.name, version: manifest.version });
  if (manifest.image !== name || manifest.serial !== serialOf(manifest.version)) {
    throw refuse(what, `its manifest is of ${manifest.image}, but says that it is ${name}`);
  }
  if (new Set(manifest.layers.map(layerFile)).size !== manifest.layers.length) {
    throw refuse(what, 'two layers of its manifest have one name');
  }
}

function made(content: string): { readonly size: number; readonly digest: string } {
  return { size: Buffer.byteLength(content), digest: sha256(content) };
}

/** What the manifest says of a file of the image directory; undefined where only its own signature does. */
function stated(
  name: string,
  manifest: Manifest,
  text: string,
): { readonly size: number; readonly digest: string } | undefined {
  if (!boots(manifest)) return undefined;
  switch (name) {
    case 'vmlinuz':
    case 'initrd.img':
      return sharedFileOf(manifest, name) ?? undefined;
    case 'boot.cfg':
      return made(bootConfiguration(manifest, text));
    case bootSumsFile(manifest.boot):
      return made(bootChecksums(manifest, text));
    default:
      return undefined;
  }
}

/**
 * Reads the index of a bundle by the light of its manifest, which is authentic: only files that the image has, in the one
 * order that there is, none larger than the manifest says.
 * @param signed the manifest as it was signed, and its signature
 * @param what the bundle's name in errors
 * @throws ReliveError `corrupt`
 */
export function readIndex(
  text: string,
  manifest: Manifest,
  signed: { readonly text: string; readonly signature: Uint8Array },
  what: string,
): BundleIndex & BundleContents {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refuse(what, `${headFiles.index} is not JSON`);
  }
  const parsed = indexSchema.safeParse(value);
  // One text for one content: nothing of it can be changed without a change of what it says.
  if (!parsed.success || formatIndex(parsed.data) !== text) {
    throw refuse(what, `${headFiles.index} is not an index of this relive`);
  }
  if (parsed.data.signature !== sha256(signed.signature)) {
    throw refuse(what, `${headFiles.signature} is damaged`);
  }
  const entries = [...parsed.data.entries];
  const take = (path: string): BundleEntry | undefined => {
    if (entries[0]?.path !== path) return undefined;
    return entries.shift();
  };
  const files = bundledFiles(manifest).flatMap((name) => {
    const entry = take(name);
    if (entry === undefined && isShared(name)) return [];
    if (entry === undefined) throw refuse(what, `${headFiles.index} does not have ${name} where it belongs`);
    const known = stated(name, manifest, signed.text);
    const most = name.endsWith('.sig') ? largest.signature : largest.sums;
    const fits =
      entry.from === undefined &&
      (known === undefined ? entry.size <= most : entry.size === known.size && entry.digest === known.digest);
    if (!fits) throw refuse(what, `${name} is not what the signed manifest says`);
    return [entry];
  });
  const layers = manifest.layers.flatMap((layer) => {
    const whole = take(`live/${layerFile(layer)}`);
    const content = whole ?? take(`live/${patchFile(layer)}`);
    if (content === undefined) return [];
    const verity = take(`live/${verityFile(layer)}`);
    const fits =
      whole === undefined
        ? content.from !== undefined && content.size < layer.size
        : content.from === undefined && content.size === layer.size && content.digest === layer.digest;
    const { verity: tree } = layer;
    if (!fits || verity?.from !== undefined || verity?.size !== tree.size || verity.digest !== tree.digest) {
      throw refuse(what, `${layerFile(layer)} is not what the signed manifest says`);
    }
    return [{ layer, content, verity }];
  });
  const [stranger] = entries;
  if (stranger !== undefined) {
    throw refuse(what, `${JSON.stringify(stranger.path)} has no place in it, or not there`);
  }
  return { ...parsed.data, files, layers };
}
