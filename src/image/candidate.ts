import { link, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import {
  directoryNames,
  exists,
  ifThere,
  makeDirectories,
  syncDirectory,
  writeFileAtomic,
} from '../host/files.ts';
import { type Lock, takeLock, tryLock } from '../host/lock.ts';
import { boots, type Manifest, type ManifestLayer } from './manifest.ts';
import { type ImageName, imageName, parseImageName } from './name.ts';
import {
  lockStore,
  newestImage,
  type PackedLayer,
  publishImage,
  type StoredImage,
  storePaths,
} from './store.ts';

/**
 * An image that is sealed and waits for its test. It lies in a store of its own, STORE/candidates/IMAGE: whatever takes a
 * store boots it or looks at it, and nothing that looks into STORE sees it. Layers that images of STORE have, too, are hard links.
 */
export interface Candidate {
  readonly image: StoredImage;
  /** Its store; consoles of its test are kept there, too. */
  readonly store: string;
}

/** Says whether a candidate may be published; `summary` is what is told where it may not. */
export type CandidateTest = (
  candidate: Candidate,
  context: Context,
) => Promise<{ readonly passed: boolean; readonly summary: string }>;

/** Why an image cannot be booted for a test, or undefined where it can. */
export function untestable(manifest: Manifest): string | undefined {
  if (!boots(manifest)) return 'it is a container, which has no kernel';
  if (manifest.boot.http === undefined) return undefined;
  return `it is fetched from ${manifest.boot.http}, where it is only once it is published`;
}

/** The file in a candidate's store that says why it was not published. */
const verdictName = 'failed.txt';

/** An image that failed its test. */
export interface FailedCandidate {
  readonly name: string;
  readonly directory: string;
  /** Why. */
  readonly summary: string;
}

async function candidateNames(store: string, profile: string | undefined): Promise<string[]> {
  const names = await directoryNames(storePaths.candidates(store));
  return names.filter((name) => {
    const parsed = parseImageName(name);
    return parsed !== undefined && (profile === undefined || parsed.profile === profile);
  });
}

async function verdictOf(directory: string): Promise<string | undefined> {
  return (await ifThere(readFile(join(directory, verdictName), 'utf8')))?.trimEnd();
}

/** The candidates that failed their test, oldest first. */
export async function failedCandidates(store: string, profile?: string): Promise<FailedCandidate[]> {
  const failed: FailedCandidate[] = [];
  for (const name of await candidateNames(store, profile)) {
    const directory = join(storePaths.candidates(store), name);
    const summary = await verdictOf(directory);
    if (summary !== undefined) failed.push({ name, directory, summary });
  }
  return failed;
}

/** The newest version of a profile's candidates: a number that was told of once means no other image later. */
export async function newestCandidate(store: string, profile: string): Promise<string | undefined> {
  return parseImageName((await candidateNames(store, profile)).at(-1) ?? '')?.version;
}

function lockFile(store: string, profile: string): string {
  return join(storePaths.candidates(store), `.${profile}.lock`);
}

/** Removes candidates without a verdict. The caller holds the lock of the profile's candidates. */
async function removeUnjudged(store: string, profile: string): Promise<void> {
  for (const name of await candidateNames(store, profile)) {
    const directory = join(storePaths.candidates(store), name);
    if ((await verdictOf(directory)) === undefined) await rm(directory, { recursive: true });
  }
}

/**
 * Sees to it that one at a time makes a tested image of a profile, and removes candidates that an earlier run was cut off
 * with. The store itself is not locked while guests boot.
 */
export async function lockCandidates(store: string, profile: string, context: Context): Promise<Lock> {
  const lock = await takeLock(lockFile(store, profile), `making an image of ${profile}`, context);
  try {
    await removeUnjudged(store, profile);
  } catch (error) {
    await lock.release();
    throw error;
  }
  return lock;
}

/** Removes candidates of a profile that an earlier run was cut off with, unless one is being tested now. */
export async function removeCutOff(store: string, profile: string, context: Context): Promise<void> {
  if ((await candidateNames(store, profile)).length === 0) return;
  const lock = await tryLock(lockFile(store, profile), context);
  if (lock === undefined) return;
  try {
    await removeUnjudged(store, profile);
  } finally {
    await lock.release();
  }
}

/**
 * Makes a candidate of a sealed image. The caller holds the locks of the store and of the profile's candidates.
 * @param staged, stack, added as `publishImage`
 */
export async function makeCandidate(
  store: string,
  name: ImageName,
  staged: string,
  stack: readonly ManifestLayer[],
  added: readonly PackedLayer[],
): Promise<Candidate> {
  const making = join(storePaths.temporary(store), 'candidate');
  await makeDirectories(storePaths.layers(making));
  const fresh = new Set(added.map(({ layer }) => layer.digest));
  for (const layer of stack) {
    if (fresh.has(layer.digest)) continue;
    for (const path of [storePaths.layer, storePaths.verity])
      await link(path(store, layer), path(making, layer));
  }
  await publishImage(making, name, staged, stack, added);
  const own = join(storePaths.candidates(store), imageName(name));
  await makeDirectories(storePaths.candidates(store));
  await rename(making, own);
  await syncDirectory(storePaths.candidates(store));
  const directory = storePaths.image(own, name);
  return { store: own, image: { ...name, name: imageName(name), directory } };
}

/** Keeps a candidate that failed, for reading. */
export async function keepFailed({ store }: Candidate, summary: string): Promise<void> {
  await writeFileAtomic(join(store, verdictName), `${summary}\n`);
}

/**
 * Moves a candidate into the store and removes those of the profile that failed before. Its layers may have gone from
 * the store meanwhile: the candidate has them.
 * @throws ReliveError `locked` where a newer image of the profile has been published since
 */
export async function publishCandidate(
  store: string,
  candidate: Candidate,
  { layers }: Pick<Manifest, 'layers'>,
  context: Context,
): Promise<StoredImage> {
  const { image, store: own } = candidate;
  const lock = await lockStore(store, context);
  try {
    const newest = await newestImage(store, image.profile);
    if (newest !== undefined && newest.version > image.version) {
      throw new ReliveError('locked', `${newest.name} was published while ${image.name} was tested`, {
        hint: `relive update ${image.profile} makes the next one on it, if anything differs`,
      });
    }
    const added: PackedLayer[] = [];
    for (const layer of layers) {
      if (await exists(storePaths.layer(store, layer))) continue;
      const [file, tree] = [storePaths.layer(own, layer), storePaths.verity(own, layer)];
      added.push({ layer, file, tree });
    }
    const published = await publishImage(store, image, image.directory, layers, added);
    await rm(own, { recursive: true });
    await removeFailed(store, image.profile);
    return published;
  } finally {
    await lock.release();
  }
}

/** Removes a candidate that nobody is to read. */
export async function dropCandidate({ store }: Candidate): Promise<void> {
  await rm(store, { recursive: true, force: true });
}

/** Removes the candidates of a profile that failed their test. */
export async function removeFailed(store: string, profile: string): Promise<void> {
  for (const { directory } of await failedCandidates(store, profile))
    await rm(directory, { recursive: true });
}
