import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { profilePattern, versionPattern } from './name.ts';

const digest = z.string().regex(/^[0-9a-f]{64}$/);
const sha512 = z.string().regex(/^[0-9a-f]{128}$/);
const size = z.int().nonnegative();
const word = z.string().regex(/^[\x21-\x2e\x30-\x7e]+$/);

const layerSchema = z.strictObject({
  /** A delta is what differs from the layers below, deletions included. */
  role: z.enum(['base', 'kernel', 'delta']),
  /** SHA-256 of the SquashFS file. */
  digest,
  size,
  compression: z.string(),
  /** Its hash tree for dm-verity, whose salt is `digest`: the root hash, then SHA-256 and size of the tree's file. */
  verity: z.strictObject({ root: digest, digest, size }),
});

/** manifest.json (docs/design.md, "Store"): what an image consists of. Its signature carries all the rest. */
export const manifestSchema = z.strictObject({
  schema: z.literal(1),
  image: word,
  kind: z.enum(['full', 'incremental']),
  /** The image that an incremental one was made on; the digest is that of its manifest. */
  parent: z.nullable(z.strictObject({ image: word, manifest: digest })),
  version: z.string().regex(versionPattern),
  serial: z.int().positive(),
  profile: z.strictObject({
    name: z.string().regex(profilePattern),
    version: z.int().positive(),
    digest,
    /** The commit of the site's git repository, with `-dirty` where files differed from it. */
    commit: z.nullable(z.string()),
  }),
  suite: word,
  architecture: word,
  host: word,
  /** The stack, bottom first. */
  layers: z.array(layerSchema).min(1),
  /** The digest of the whole tree that the stack shows. */
  tree: digest,
  /** What the files of the tree take unpacked, in bytes. */
  unpacked: size,
  /** Null in a container, like the two below: nothing boots it. */
  kernel: z.nullable(z.strictObject({ version: word, digest, size, sha512: sha512.optional() })),
  initrd: z.nullable(z.strictObject({ digest, size, sha512: sha512.optional() })),
  boot: z.nullable(
    z.strictObject({
      verify: z.enum(['signature', 'checksum', 'none']),
      /** Whether GRUB's list of checksums is boot.sha512 instead of boot.sha256; kernel and initrd have their SHA-512 then. */
      checksum: z.literal('sha512').optional(),
      ram: z.enum(['none', 'layers', 'unpacked']),
      /** Where the store is served that the image is fetched from. */
      http: z.string().optional(),
      /** Whether the kernel is signed for Secure Boot, and what starts it is to be; behind shim, where so. */
      secureBoot: z.union([z.literal(true), z.literal('shim'), z.literal('debian')]).optional(),
      parameters: z.array(z.string()),
    }),
  ),
  /** SHA-256 of the lock that the packages are from. */
  lock: digest,
  /** What the repositories said of themselves when the packages were resolved. */
  repositories: z.array(
    z.strictObject({ name: word, suite: z.string(), date: z.iso.datetime(), release: digest }),
  ),
  packages: z.array(
    z.strictObject({ name: word, version: word, architecture: word, repository: word, sha256: digest }),
  ),
  /** Changes when anything that goes into the image changes, apart from its version. */
  inputs: digest,
  sourceDateEpoch: z.int().nonnegative(),
  relive: z.string(),
});

export type Manifest = z.infer<typeof manifestSchema>;
/** The manifest of an image that boots: one for a machine. */
export type BootManifest = Omit<Manifest, 'kernel' | 'initrd' | 'boot'> & {
  readonly [Key in 'kernel' | 'initrd' | 'boot']: NonNullable<Manifest[Key]>;
};

export function boots(manifest: Manifest): manifest is BootManifest {
  return manifest.kernel !== null && manifest.initrd !== null && manifest.boot !== null;
}

export type ManifestLayer = Manifest['layers'][number];

/** The text of a manifest: two spaces, one line an entry, so that it can be read and compared. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify(manifest, undefined, 2)}\n`;
}

/**
 * Reads a manifest, checking all of it.
 * @throws ReliveError `corrupt`
 */
export function parseManifest(text: string, file: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ReliveError('corrupt', `${file} is not JSON`, { cause: error });
  }
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `  ${path.join('.')}: ${message}`);
    throw new ReliveError('corrupt', `${file} is not a manifest of this relive:\n${problems.join('\n')}`);
  }
  return parsed.data;
}

/** The name of a layer's file in the store, without the directory. */
export function layerFile({ digest: value }: Pick<ManifestLayer, 'digest'>): string {
  return `${value.slice(0, 16)}.squashfs`;
}

/** The text of IMAGE.module: the files of the stack, bottom first, a line each, as live-boot reads it. */
export function stackText(layers: readonly Pick<ManifestLayer, 'digest'>[]): string {
  return layers.map((layer) => `${layerFile(layer)}\n`).join('');
}

/** The name of the file with a layer's hash tree, beside the layer. */
export function verityFile({ digest: value }: Pick<ManifestLayer, 'digest'>): string {
  return `${value.slice(0, 16)}.verity`;
}

/** The files of an image directory that it shares with images of the same kernel: links in a store, and a bundle may leave them out. */
export const sharedFiles = ['vmlinuz', 'initrd.img'] as const;
export type SharedFile = (typeof sharedFiles)[number];

/** What the manifest says of them. */
export function sharedFileOf(
  { kernel, initrd }: Pick<Manifest, 'kernel' | 'initrd'>,
  name: SharedFile,
): { readonly size: number; readonly digest: string } | null {
  return name === 'vmlinuz' ? kernel : initrd;
}

/** Such a file of an image. */
export interface SharedPart {
  readonly name: SharedFile;
  /** In bytes. */
  readonly size: number;
  /** SHA-256. */
  readonly digest: string;
}

/** Those that an image has; a container has none. */
export function sharedPartsOf(manifest: Pick<Manifest, 'kernel' | 'initrd'>): SharedPart[] {
  return sharedFiles.flatMap((name) => {
    const meant = sharedFileOf(manifest, name);
    return meant === null ? [] : [{ name, size: meant.size, digest: meant.digest }];
  });
}

export function isShared(name: string): name is SharedFile {
  return name === 'vmlinuz' || name === 'initrd.img';
}
