import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { digestFile, exists, ifThere, isRight } from '../host/files.ts';
import { type BundledLayer, headFiles } from './bundle.ts';
import type { Head, ImportOptions } from './bundle-head.ts';
import {
  layerFile,
  type Manifest,
  type ManifestLayer,
  type SharedPart,
  sharedPartsOf,
  stackText,
  verityFile,
} from './manifest.ts';
import { imageName } from './name.ts';
import { findSharedParts, newestImage, type StoredImage, storePaths } from './store.ts';
import { verifySealed } from './verify.ts';

/** Where an image of the same name in the store stands. */
type Standing = 'new' | 'there' | 'damaged';

/** Where the bytes of a layer come from. */
export interface LayerPlan {
  readonly digest: string;
  readonly role: ManifestLayer['role'];
  readonly size: number;
  /** In the store already; received by an import that was cut off; to be received, as itself or as a patch. */
  readonly from: 'store' | 'received' | 'bundle' | 'patch';
}

/** What an import would do. */
export interface ImportPlan {
  readonly image: string;
  readonly kind: Manifest['kind'];
  readonly standing: Standing;
  /** The newest image of the profile, where it is newer than this one. */
  readonly newer: string | undefined;
  readonly layers: readonly LayerPlan[];
  /** What the store grows by, in bytes. */
  readonly bytes: number;
}

/** Where an import keeps what it has received. Whatever else writes to the store removes it. */
export function receivedDirectory(store: string): string {
  return join(storePaths.temporary(store), 'import');
}

/** What is known of a layer before anything is received. */
export interface KnownLayer {
  readonly layer: ManifestLayer;
  readonly bundled: BundledLayer | undefined;
  /** Which of its two files are right in the store, and which were received before. */
  readonly stored: { readonly layer: boolean; readonly verity: boolean };
  readonly received: { readonly layer: boolean; readonly verity: boolean };
  /** Of a patch: whether what it is applied to is in the store. */
  readonly patchable: boolean;
}

async function lookAtLayers(store: string, head: Head, context: Context): Promise<KnownLayer[]> {
  const known: KnownLayer[] = [];
  const received = receivedDirectory(store);
  for (const layer of head.manifest.layers) {
    const bundled = head.index.layers.find((one) => one.layer === layer);
    const [stored, before] = [
      {
        layer: await isRight(storePaths.layer(store, layer), layer, context.signal),
        verity: await isRight(storePaths.verity(store, layer), layer.verity, context.signal),
      },
      {
        layer: await isRight(join(received, layerFile(layer)), layer, context.signal),
        verity: await isRight(join(received, verityFile(layer)), layer.verity, context.signal),
      },
    ];
    const from = bundled?.content.from;
    known.push({
      ...{ layer, bundled, stored, received: before },
      patchable:
        from === undefined ||
        stored.layer ||
        before.layer ||
        (await digestOrNothing(storePaths.layer(store, { digest: from }), context)) === from,
    });
  }
  return known;
}

async function digestOrNothing(path: string, { signal }: Context): Promise<string | undefined> {
  return (await ifThere(digestFile(path, 'sha256', signal)))?.digest;
}

function isThere({ stored, received }: KnownLayer): boolean {
  return (stored.layer || received.layer) && (stored.verity || received.verity);
}

/** A file of the image directory that is not in the bundle, and where it is. */
interface KnownFile extends SharedPart {
  /** In another image of the store; undefined where none has it. */
  readonly source: string | undefined;
}

/** Finds kernel and initrd, where the bundle leaves them out, in images of the store. */
async function lookForFiles(store: string, head: Head, context: Context): Promise<KnownFile[]> {
  const left = sharedPartsOf(head.manifest).filter(
    ({ name }) => !head.index.files.some(({ path }) => path === name),
  );
  const found = await findSharedParts(store, left, context.signal);
  return left.map((part) => ({ ...part, source: found.get(part.name) }));
}

/** @throws ReliveError `not-found`, naming every layer that neither the store nor the bundle has */
async function requireParts(
  store: string,
  { manifest, index }: Head,
  known: readonly KnownLayer[],
  files: readonly KnownFile[],
): Promise<void> {
  const lines = files
    .filter(({ source }) => source === undefined)
    .map(({ name, size }) => `    ${name} (${size} bytes)`);
  for (const each of known) {
    const { layer, bundled, patchable } = each;
    if (isThere(each) || (bundled !== undefined && patchable)) continue;
    const damaged = await exists(storePaths.layer(store, layer));
    const old = bundled?.content.from;
    lines.push(
      old === undefined
        ? `    ${layerFile(layer)} (${layer.role}, ${layer.size} bytes)${damaged ? ', which is damaged in the store' : ''}`
        : `    ${layerFile({ digest: old })}, which a patch of the bundle makes ${layerFile(layer)} (${layer.role}) of`,
    );
  }
  if (lines.length === 0) return;
  const parent = index.since ?? manifest.parent?.image;
  const from = parent === undefined ? '' : `import ${parent} first, or `;
  throw new ReliveError(
    'not-found',
    `${manifest.image} needs what neither the bundle nor the store has:\n${lines.join('\n')}`,
    { hint: `${from}get a bundle with all of it: relive image export ${manifest.image} --bundle FILE` },
  );
}

/** What stands in the store under the name of the image. @throws ReliveError `exists` for another image */
async function standingOf(
  store: string,
  image: StoredImage,
  head: Head,
  known: readonly KnownLayer[],
  { keyring }: ImportOptions,
  context: Context,
): Promise<Standing> {
  if (!(await exists(image.directory))) return 'new';
  const there = await ifThere(readFile(join(image.directory, headFiles.manifest)));
  // A damaged manifest is no image's: it may be replaced like other damage.
  const quiet = { emit: () => undefined, signal: context.signal };
  const { findings, manifest } = await verifySealed(image, keyring, quiet);
  if (manifest !== undefined && there?.equals(head.text) !== true) {
    throw new ReliveError('exists', `the store has another image of the name ${image.name}`, {
      hint: 'two sites have made images of one name: rename the profile of one of them',
    });
  }
  const stack = await readFile(storePaths.stack(store, image.name), 'utf8').catch(() => '');
  const whole =
    findings.length === 0 &&
    stack === stackText(head.manifest.layers) &&
    known.every(({ stored }) => stored.layer && stored.verity);
  return whole ? 'there' : 'damaged';
}

function sourceOf({ stored, received, bundled }: KnownLayer): LayerPlan['from'] {
  if (stored.layer) return 'store';
  if (received.layer) return 'received';
  return bundled?.content.from === undefined ? 'bundle' : 'patch';
}

/** What is known when the head was read and the store was looked at. */
export interface Prepared {
  readonly head: Head;
  readonly image: StoredImage;
  readonly known: readonly KnownLayer[];
  readonly files: readonly KnownFile[];
  readonly plan: ImportPlan;
}

export async function prepare(
  store: string,
  head: Head,
  options: ImportOptions,
  context: Context,
): Promise<Prepared> {
  const { manifest, index } = head;
  const name = { profile: manifest.profile.name, version: manifest.version };
  const image = { ...name, name: imageName(name), directory: storePaths.image(store, name) };
  const known = await inStage(context, 'compare', async () => await lookAtLayers(store, head, context));
  const standing = await standingOf(store, image, head, known, options, context);
  const files = standing === 'there' ? [] : await lookForFiles(store, head, context);
  if (standing !== 'there') await requireParts(store, head, known, files);
  const newest = await newestImage(store, name.profile);
  const lacking = known.filter((each) => !isThere(each));
  const sizes = [
    ...[...index.files, ...files].map(({ size }) => size),
    ...lacking.map(({ layer }) => layer.size + layer.verity.size),
  ];
  if (newest !== undefined && newest.version > name.version) {
    const message = `${image.name} is older than ${newest.name}, which stays the newest image of ${name.profile}`;
    context.emit({ event: 'warning', message });
  }
  const plan: ImportPlan = {
    ...{ image: image.name, kind: manifest.kind, standing },
    newer: newest !== undefined && newest.version > name.version ? newest.name : undefined,
    layers: known.map((each) => ({
      ...{ digest: each.layer.digest, role: each.layer.role, size: each.layer.size },
      from: sourceOf(each),
    })),
    bytes: standing === 'there' ? 0 : sizes.reduce((sum, size) => sum + size, head.text.length),
  };
  return { head, image, known, files, plan };
}
