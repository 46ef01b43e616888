import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, messageOf, ReliveError } from '../core/error.ts';
import type { Context, Finding, FindingKind } from '../core/event.ts';
import { digestFile, exists, ifThere } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { bootChecksums, bootConfiguration, bootSumsFile } from './boot-entry.ts';
import { boots, type Manifest, parseManifest, stackText } from './manifest.ts';
import { bootFiles, parseSums, type Sealed, sealedFiles, signedFiles, sumFiles } from './seal.ts';
import { type StoredImage, storePaths } from './store.ts';

/** What a file must be, by the signed manifest. */
interface Expected {
  readonly path: string;
  readonly size: number;
  readonly digest: string;
}

/** What became of a check of an image's directory. */
export interface SealedCheck {
  readonly findings: readonly Finding[];
  /** Of an authentic manifest. */
  readonly manifest: Manifest | undefined;
}

/** Reports findings and keeps them. */
function collector(context: Context): { readonly findings: Finding[]; readonly find: Find } {
  const findings: Finding[] = [];
  return {
    findings,
    find: (kind, path, detail) => {
      const finding = { event: 'finding', kind, path, detail } as const;
      findings.push(finding);
      context.emit(finding);
    },
  };
}

/**
 * Checks the directory of an image, wherever it lies: signatures, lists, what follows from the manifest, kernel and initrd; not
 * the layers.
 * @param keyring as for `verifyImage`
 */
export async function verifySealed(
  image: StoredImage,
  keyring: string,
  context: Context,
): Promise<SealedCheck> {
  const { findings, find } = collector(context);
  const manifestFile = join(image.directory, 'manifest.json');
  // Nothing of a manifest is believed, not even for looking further, unless its signature is good.
  const authentic = await verifySignature(manifestFile, keyring, find, context);
  const text = authentic ? await readFile(manifestFile, 'utf8') : undefined;
  const manifest = text === undefined ? undefined : readAuthentic(text, manifestFile, find);
  const sealed = manifest ?? (await looksSealed(image));
  for (const name of signedFiles(sealed)) {
    const path = join(image.directory, name);
    if (path !== manifestFile) await verifySignature(path, keyring, find, context);
  }
  await checkSums(image, sealed, find);
  if (text === undefined || manifest === undefined) return { findings, manifest };
  if (manifest.image !== image.name) {
    find(
      'inconsistent',
      manifestFile,
      `is the manifest of ${manifest.image}, but lies where ${image.name} belongs`,
    );
  }
  if (boots(manifest)) {
    await checkText(join(image.directory, 'boot.cfg'), bootConfiguration(manifest, text), find);
    await checkText(join(image.directory, bootSumsFile(manifest.boot)), bootChecksums(manifest, text), find);
    await checkFile({ path: join(image.directory, 'vmlinuz'), ...manifest.kernel }, find, context);
    await checkFile({ path: join(image.directory, 'initrd.img'), ...manifest.initrd }, find, context);
  }
  await checkStrangers(image, sealed, find);
  return { findings, manifest };
}

/**
 * Checks an image from the signatures down to every layer, and reports each fault as a finding.
 * @param keyring the public keys that are trusted: armoured text or the path of a keyring
 * @param read what layers have been found to be, by path: with one map for several images each layer is read once
 * @returns the findings; none means that the image is what its signer made
 */
export async function verifyImage(
  store: string,
  image: StoredImage,
  keyring: string,
  context: Context,
  read: Map<string, string> = new Map(),
): Promise<readonly Finding[]> {
  const { findings: ofDirectory, manifest } = await verifySealed(image, keyring, context);
  if (manifest === undefined) return ofDirectory;
  const { findings, find } = collector(context);
  await checkText(storePaths.stack(store, image.name), stackText(manifest.layers), find);
  const files = expectedLayers(store, manifest);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const file of files) {
    await checkFile(file, find, context, read);
    done += file.size;
    context.emit({
      event: 'progress',
      stage: verifyStage(image),
      done,
      total,
      unit: 'bytes',
      item: file.path,
    });
  }
  return [...ofDirectory, ...findings];
}

/** The layers of an image and their hash trees, as they must be in a store. */
function expectedLayers(store: string, { layers }: Manifest): Expected[] {
  return layers.flatMap((layer) => [
    { path: storePaths.layer(store, layer), size: layer.size, digest: layer.digest },
    { path: storePaths.verity(store, layer), size: layer.verity.size, digest: layer.verity.digest },
  ]);
}

/**
 * Refuses an image that is damaged.
 * @param hint what to do instead of using it
 * @throws ReliveError `corrupt`, naming the first fault
 */
export async function requireIntact(
  store: string,
  image: StoredImage,
  keyring: string,
  hint: string,
  context: Context,
): Promise<void> {
  const [first] = await verifyImage(store, image, keyring, context);
  if (first === undefined) return;
  throw new ReliveError('corrupt', `${image.name} is damaged: ${first.path}: ${first.detail}`, { hint });
}

/** What the reports call the verification of an image. */
export function verifyStage({ name }: StoredImage): string {
  return `verify ${name}`;
}

type Find = (kind: FindingKind, path: string, detail: string) => void;

function readAuthentic(text: string, file: string, find: Find): Manifest | undefined {
  try {
    return parseManifest(text, file);
  } catch (error) {
    if (!isReliveError(error, 'corrupt')) throw error;
    find('corrupt', file, messageOf(error));
    return undefined;
  }
}

/** What kind of image it looks like where its manifest cannot tell. */
async function looksSealed({ directory }: StoredImage): Promise<Sealed> {
  const has = async (name: string): Promise<boolean> => await exists(join(directory, name));
  if (await has('boot.sha512')) return { boot: { checksum: 'sha512' } };
  const there = await Promise.all([...bootFiles, 'boot.sha256'].map(has));
  return { boot: there.includes(true) ? {} : null };
}

async function verifySignature(
  path: string,
  keyring: string,
  find: Find,
  context: Context,
): Promise<boolean> {
  if (!(await exists(path))) {
    find('missing', path, 'the file is not there');
    return false;
  }
  if (!(await exists(`${path}.sig`))) {
    find('unsigned', path, `its signature ${path}.sig is not there`);
    return false;
  }
  try {
    await verifyDetached(path, `${path}.sig`, keyring, context);
    return true;
  } catch (error) {
    if (!isReliveError(error, 'not-authentic')) throw error;
    find('corrupt', path, messageOf(error));
    return false;
  }
}

async function checkText(path: string, expected: string, find: Find): Promise<void> {
  const text = await ifThere(readFile(path, 'utf8'));
  if (text === undefined) find('missing', path, 'the file is not there');
  else if (text !== expected) find('inconsistent', path, 'is not what follows from the signed manifest');
}

async function checkFile(
  { path, size, digest }: Expected,
  find: Find,
  context: Context,
  read?: Map<string, string>,
): Promise<void> {
  const found = await ifThere(stat(path));
  if (found === undefined) return find('missing', path, 'the file is not there');
  if (found.size < size) return find('truncated', path, `has ${found.size} bytes of ${size}`);
  if (found.size > size) return find('corrupt', path, `has ${found.size} bytes instead of ${size}`);
  const actual = read?.get(path) ?? (await digestFile(path, 'sha256', context.signal)).digest;
  read?.set(path, actual);
  if (actual !== digest) find('corrupt', path, `its SHA-256 is ${actual}, not ${digest}`);
}

/** Lists of checksums must say the same of each file as the others. */
async function checkSums(image: StoredImage, sealed: Sealed, find: Find): Promise<void> {
  for (const [name, algorithm] of Object.entries(sumFiles)) {
    const path = join(image.directory, name);
    if (!(await exists(path))) continue;
    const sums = parseSums(await readFile(path, 'utf8'));
    for (const file of sealedFiles(sealed)) {
      const stated = sums.get(file);
      if (stated === undefined) {
        find('inconsistent', path, `does not name ${file}`);
        continue;
      }
      if (!(await exists(join(image.directory, file)))) continue;
      const { digest } = await digestFile(join(image.directory, file), algorithm);
      if (digest !== stated) find('inconsistent', path, `names another digest for ${file} than the file has`);
    }
  }
}

/** Files that no image has do not belong beside signed ones. */
async function checkStrangers(image: StoredImage, sealed: Sealed, find: Find): Promise<void> {
  const known = new Set(signedFiles(sealed).flatMap((name) => [name, `${name}.sig`]));
  for (const name of await readdir(image.directory)) {
    if (!known.has(name)) find('unreferenced', join(image.directory, name), 'does not belong to the image');
  }
}
