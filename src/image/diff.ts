import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { compareVersions } from '../debian/version.ts';
import { digestFile, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { findTool } from '../host/tools.ts';
import { compareTrees, type TreeDifference } from '../rootfs/compare.ts';
import type { Manifest } from './manifest.ts';
import { storedLayers, withStack } from './mount.ts';
import { readManifest, type StoredImage } from './store.ts';

/** A package that is another one, or in another version. */
export interface PackageDifference {
  readonly name: string;
  readonly architecture: string;
  readonly kind: 'added' | 'removed' | 'upgraded' | 'downgraded' | 'replaced';
  readonly from: string | undefined;
  readonly to: string | undefined;
}

/** Something that manifests say, in words. */
export interface FactDifference {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

/** All at which two images differ. */
export interface ImageDifference {
  readonly from: string;
  readonly to: string;
  readonly facts: readonly FactDifference[];
  readonly packages: readonly PackageDifference[];
  /** Units of systemd that are there, or enabled, on one side only; by path. */
  readonly units: readonly { readonly path: string; readonly kind: TreeDifference['kind'] }[];
  readonly files: readonly TreeDifference[];
  /** What is in the initrd; undefined where it is the same, or this host cannot open it. */
  readonly initrd: readonly TreeDifference[] | undefined;
}

/** The facts of a manifest by which images are told apart, apart from their names. */
function factsOf(manifest: Manifest): Readonly<Record<string, string>> {
  const { profile, kernel, initrd, boot, layers } = manifest;
  const layer = (role: string): string =>
    layers.flatMap((each) => (each.role === role ? [`${each.digest} (${each.compression})`] : [])).join(', ');
  return {
    kind: manifest.kind,
    profile: profile.name,
    'profile version': String(profile.version),
    'profile digest': profile.digest,
    suite: manifest.suite,
    architecture: manifest.architecture,
    host: manifest.host,
    kernel: kernel?.version ?? '',
    'kernel file': kernel?.digest ?? '',
    initrd: initrd?.digest ?? '',
    'base layer': layer('base'),
    'kernel layer': layer('kernel'),
    deltas: layer('delta'),
    parent: manifest.parent?.image ?? '',
    size: String(layers.reduce((sum, { size }) => sum + size, 0)),
    tree: manifest.tree,
    'boot parameters': boot?.parameters.join(' ') ?? '',
    'boot check': boot?.verify ?? '',
    lock: manifest.lock,
    'time of the newest package': new Date(manifest.sourceDateEpoch * 1000).toISOString(),
    relive: manifest.relive,
  };
}

function compareFacts(from: Manifest, to: Manifest): FactDifference[] {
  const after = factsOf(to);
  return Object.entries(factsOf(from))
    .map(([name, value]) => ({ name, from: value, to: after[name] ?? '' }))
    .filter((fact) => fact.from !== fact.to);
}

type Package = Manifest['packages'][number];

function key({ name, architecture }: Pick<Package, 'name' | 'architecture'>): string {
  return `${name}:${architecture}`;
}

function packageDifference(from: Package, to: Package): PackageDifference | undefined {
  const { name, architecture } = to;
  const versions = { from: from.version, to: to.version };
  const order = compareVersions(from.version, to.version);
  if (order !== 0) return { name, architecture, kind: order < 0 ? 'upgraded' : 'downgraded', ...versions };
  // The same version from another place may be another package.
  return from.sha256 === to.sha256 ? undefined : { name, architecture, kind: 'replaced', ...versions };
}

/** The packages that differ between two manifests, by name. */
export function comparePackages(from: Manifest, to: Manifest): PackageDifference[] {
  const before = new Map(from.packages.map((each) => [key(each), each]));
  const differences: PackageDifference[] = [];
  for (const each of to.packages) {
    const old = before.get(key(each));
    before.delete(key(each));
    const { name, architecture, version } = each;
    const difference =
      old === undefined
        ? ({ name, architecture, kind: 'added', from: undefined, to: version } as const)
        : packageDifference(old, each);
    if (difference !== undefined) differences.push(difference);
  }
  for (const { name, architecture, version } of before.values())
    differences.push({ name, architecture, kind: 'removed', from: version, to: undefined });
  return differences.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** systemd.unit(5): where units lie and where they are enabled. */
const unitPath =
  /^(?:usr\/lib|etc)\/systemd\/(?:system|user)\/.+\.(?:service|socket|timer|target|mount|automount|path|slice|swap|scope)$/;

function unitsOf(files: readonly TreeDifference[]): ImageDifference['units'] {
  return files
    .filter(
      ({ path, aspects, kind }) => unitPath.test(path) && (kind !== 'changed' || aspects.includes('content')),
    )
    .map(({ path, kind }) => ({ path, kind }));
}

/** Mounts the tree of an image once its layers are those of the manifest: a damaged one is not for the kernel to read. */
async function withTree<T>(
  store: string,
  image: StoredImage,
  manifest: Manifest,
  scratch: string,
  context: Context,
  use: (root: string) => Promise<T>,
): Promise<T> {
  const files = storedLayers(store, manifest);
  for (const { file, digest } of files) {
    if ((await digestFile(file, 'sha256', context.signal)).digest !== digest) {
      throw new ReliveError('corrupt', `${file} is not the layer that ${image.name} was made with`, {
        hint: `relive image verify ${image.name} names all that is damaged`,
      });
    }
  }
  return await withStack(files, scratch, context, use);
}

/** What is in two initrds, by unmkinitramfs(8). */
async function compareInitrds(
  images: readonly [StoredImage, StoredImage],
  scratch: string,
  context: Context,
): Promise<TreeDifference[] | undefined> {
  if (findTool('unmkinitramfs') === undefined) {
    context.emit({
      event: 'warning',
      message: 'the initrds differ; what is in them cannot be compared: unmkinitramfs is not installed',
      hint: 'apt-get install initramfs-tools-core',
    });
    return undefined;
  }
  const unpack = async ({ directory }: StoredImage, name: string): Promise<string> => {
    const target = join(scratch, name);
    await makeDirectories(target);
    await run('unmkinitramfs', [join(directory, 'initrd.img'), target], context);
    return target;
  };
  return await compareTrees(await unpack(images[0], 'from'), await unpack(images[1], 'to'), context);
}

/**
 * Compares two images of a store: what their manifests say, their packages, and every entry of their trees.
 * @param scratch an empty directory
 * @throws ReliveError `corrupt`
 */
export async function diffImages(
  store: string,
  images: readonly [StoredImage, StoredImage],
  scratch: string,
  context: Context,
): Promise<ImageDifference> {
  const [from, to] = images;
  const [before, after] = [await readManifest(from), await readManifest(to)];
  const files =
    JSON.stringify(before.layers) === JSON.stringify(after.layers)
      ? []
      : await inStage(
          context,
          'compare',
          async () =>
            await withTree(
              store,
              from,
              before,
              join(scratch, 'a'),
              context,
              async (a) =>
                await withTree(
                  store,
                  to,
                  after,
                  join(scratch, 'b'),
                  context,
                  async (b) => await compareTrees(a, b, context),
                ),
            ),
        );
  const initrd =
    before.initrd === null || after.initrd === null || before.initrd.digest === after.initrd.digest
      ? undefined
      : await compareInitrds(images, join(scratch, 'initrd'), context);
  return {
    from: from.name,
    to: to.name,
    facts: compareFacts(before, after),
    packages: comparePackages(before, after),
    units: unitsOf(files),
    files,
    initrd,
  };
}
