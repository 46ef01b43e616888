import { constants, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { version as reliveVersion } from '../core/version.ts';
import { requirePrograms } from '../host/emulation.ts';
import { digestFile, explainDiskFull, sha256 } from '../host/files.ts';
import { type OwnPackage, ownPackage } from '../host/own-package.ts';
import {
  canonicalJson,
  type Layer,
  pendingStages,
  pruneLayers,
  runStages,
  type Stage,
  shareCache,
} from '../rootfs/layers.ts';
import { mountStack, unmount } from '../rootfs/stack.ts';
import { initrdName, kernelName, liveName } from '../rootfs/stages/live.ts';
import { packagesName } from '../rootfs/stages/packages.ts';
import { upgradeName } from '../rootfs/stages/upgrade.ts';
import { formatLock, type Lock } from '../site/lock.ts';
import type { Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import { type Signer, signProgram } from './authenticode.ts';
import {
  type Candidate,
  type CandidateTest,
  dropCandidate,
  keepFailed,
  lockCandidates,
  makeCandidate,
  newestCandidate,
  publishCandidate,
  removeCutOff,
  removeFailed,
  untestable,
} from './candidate.ts';
import { siteCommit } from './commit.ts';
import { refusePrivateKeys } from './factory.ts';
import { gatherIngredients, type Ingredients, ingredientsOf } from './ingredients.ts';
import { keysHome, signingKey } from './keys.ts';
import type { Manifest } from './manifest.ts';
import { type ImageName, imageName, nextVersion, serialOf } from './name.ts';
import { type Pack, type PackedSystem, packFull } from './packing.ts';
import { sealSystem } from './publish.ts';
import { secureBootSigner } from './secure-boot-keys.ts';
import { cacheNeed, imageSize, type Need, overlaysSize, requireSpace } from './space.ts';
import { requireMountable } from './stack-limits.ts';
import { type BuildKey, type StageOptions, stagesOf } from './stages.ts';
import {
  lockStore,
  newestImage,
  publishImage,
  readManifest,
  type StoredImage,
  stagingDirectory,
} from './store.ts';

/** Changed when an image is put together otherwise than before, so that a build does not call it unchanged. */
const generation = 6;

export interface BuildOptions {
  readonly offline: boolean;
  /** Insist on a lock that answers what the profile asks. */
  readonly locked: boolean;
  /** Resolve the packages anew, whatever the lock says. */
  readonly renew?: boolean;
  /** Where packages only have other versions than in a system whose layers are cached, install those upon it. */
  readonly upgrade?: boolean;
  /** Publish only what passes this; what nobody can boot is published with a warning. */
  readonly test?: CandidateTest | undefined;
}

export interface BuildResult {
  readonly image: StoredImage;
  readonly manifest: Manifest;
  /** Nothing differs from the newest image, so none was made: `image` is the newest. */
  readonly unchanged: boolean;
}

/** An image that is done, and where it is not published yet the candidate that it is. */
interface Made extends BuildResult {
  readonly candidate?: Candidate;
}

/** How an image is made of a system. */
export interface Packing {
  readonly pack: Pack;
  /** Makes an image although nothing differs from the newest one, unless this says of its manifest that it will do. */
  readonly serves: (newest: Manifest) => boolean;
  /** The image that it would be packed upon; undefined for a full one. */
  readonly upon: (newest: StoredImage | undefined) => StoredImage | undefined;
}

/** A full image, but where the newest image, of whichever kind, is the same system. */
const fullImage: Packing = { pack: packFull, serves: () => true, upon: () => undefined };

/**
 * Builds an image of a profile and publishes it in the site's store. Must run inside the private namespaces.
 * What was finished before an interruption is taken from the cache.
 */
export async function buildImage(
  site: Site,
  profile: Profile,
  options: BuildOptions,
  context: Context,
  packing = fullImage,
): Promise<BuildResult> {
  // The caller's would be in every file that no program sets the mode of.
  process.umask(0o022);
  try {
    return await build(site, profile, options, packing, context);
  } catch (error) {
    throw explainDiskFull(error, pathOf(error) ?? site.cache);
  }
}

async function build(
  site: Site,
  profile: Profile,
  options: BuildOptions,
  packing: Packing,
  context: Context,
): Promise<BuildResult> {
  const { test } = options;
  if (test === undefined) {
    await removeCutOff(site.store, profile.name, context);
    return await make(site, profile, options, packing, context);
  }
  const held = await lockCandidates(site.store, profile.name, context);
  try {
    const made = await make(site, profile, options, packing, context);
    if (made.candidate === undefined) return made;
    const image = await judge(site, made.candidate, made.manifest, test, context);
    return { ...made, image };
  } finally {
    await held.release();
  }
}

async function make(
  site: Site,
  profile: Profile,
  options: BuildOptions,
  packing: Packing,
  context: Context,
): Promise<Made> {
  const work = async (built: Built): Promise<Made> => {
    const store = await lockStore(site.store, context);
    try {
      return await publish(built, packing, options.test !== undefined, context);
    } finally {
      await store.release();
    }
  };
  const room = async (lock: Lock): Promise<Need[]> =>
    await storeNeeds(site, profile, lock, packing, options.test !== undefined, context);
  return await withLayers(site, profile, options, context, work, room);
}

/** What an image will take in the store, and the ISO that it is tested from. */
async function storeNeeds(
  site: Site,
  profile: Profile,
  lock: Lock,
  { upon }: Packing,
  tested: boolean,
  context: Context,
): Promise<Need[]> {
  const image = upon(await newestImage(site.store, profile.name));
  // Whether it is damaged is told elsewhere.
  const quiet = { ...context, emit: () => undefined };
  const parent = image === undefined ? undefined : await comparable(image, quiet);
  const { bytes, incremental } = imageSize(lock, parent, await overlaysSize(profile));
  const stack = incremental ? (parent?.layers ?? []).reduce((sum, { size }) => sum + size, 0) : 0;
  const path = site.store;
  return [
    { path, bytes, purpose: incremental ? 'the image, as a delta' : 'the image, a full one' },
    ...(tested && profile.host !== 'container'
      ? [{ path, bytes: stack + bytes, purpose: 'the ISO that it is tested from' }]
      : []),
  ];
}

/**
 * Publishes a candidate that passes its test; another one stays for reading.
 * @throws ReliveError `guest-failed`
 */
async function judge(
  site: Site,
  candidate: Candidate,
  manifest: Manifest,
  test: CandidateTest,
  context: Context,
): Promise<StoredImage> {
  let kept = false;
  try {
    const { passed, summary } = await test(candidate, context);
    if (passed) return await publishCandidate(site.store, candidate, manifest, context);
    await keepFailed(candidate, summary);
    kept = true;
    throw new ReliveError(
      'guest-failed',
      `${candidate.image.name} failed its test and was not published: ${summary}`,
      {
        hint: `it stays in ${candidate.store} until an update succeeds; relive image list --candidates`,
      },
    );
  } finally {
    if (!kept) await dropCandidate(candidate);
  }
}

/**
 * Runs the stages of a profile, or takes their layers from the cache, and `work` with them. Other builds may
 * use the cache at the same time. Must run inside the private namespaces.
 * @param room what `work` will take, which must be free before a stage is run
 */
export async function withLayers<T>(
  site: Site,
  profile: Profile,
  options: BuildOptions,
  context: Context,
  work: (built: Built) => Promise<T>,
  room: (lock: Lock) => Promise<Need[]> = async () => await Promise.resolve([]),
): Promise<T> {
  const key = { ...(await signingKey(site, context)), home: keysHome(site) };
  const signer = await kernelSigner(site, profile, context);
  const { cache, scratch, release } = await shareCache(site.cache, context);
  let done: T;
  try {
    await requirePrograms(profile.architecture, scratch, context);
    const own = await findOwnPackage(site, profile, context);
    const ingredients = await gatherIngredients(site, profile, { ...options, scratch }, context);
    const upgrade = options.upgrade === true;
    const made = await buildLayers(
      { site, profile, ingredients, own, key, cache, scratch, upgrade },
      room,
      context,
    );
    done = await work({ site, profile, ingredients, ...made, key, signer, scratch });
  } finally {
    await release();
  }
  await pruneLayers(site.cache, context);
  return done;
}

/** Does work that fills a disk; where that gets full the error says which, since programs seldom do. */
async function tellingOfDisk<T>(place: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const known = explainDiskFull(error, pathOf(error) ?? place);
    if (!isReliveError(known, 'disk-full')) throw error;
    throw new ReliveError('disk-full', `no space left in ${place}\n${known.message}`, {
      hint: 'make room there and start again: what was finished is kept',
      cause: error,
    });
  }
}

/** The path that a system call was about when it failed. */
function pathOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('dest' in error && typeof error.dest === 'string') return error.dest;
  return 'path' in error && typeof error.path === 'string' ? error.path : undefined;
}

async function buildLayers(
  options: StageOptions,
  room: (lock: Lock) => Promise<Need[]>,
  context: Context,
): Promise<Pick<Built, 'layers' | 'keys'>> {
  const { site, profile, ingredients, cache } = options;
  const { lock } = ingredients;
  const { stages, instead, keys } = await stagesOf(options, context);
  const pending = await pendingStages(cache, stages);
  const need = cacheNeed(cache, pending, lock, await overlaysSize(profile));
  // Where no stage is run the image is probably the one that is there.
  if (need !== undefined)
    await requireSpace(`making an image of ${profile.name}`, [need, ...(await room(lock))]);
  const layers = await tellingOfDisk(
    `the cache ${site.cache}`,
    async () => await runStagesOr(instead, cache, stages, context),
  );
  return { layers, keys };
}

const installing: ReadonlySet<string> = new Set([packagesName, upgradeName]);

/** Runs stages; where newer packages cannot be installed upon the system that is cached, those that make it out of nothing. */
async function runStagesOr(
  instead: readonly Stage[] | undefined,
  cache: string,
  stages: readonly Stage[],
  context: Context,
): Promise<Layer[]> {
  try {
    return await runStages(cache, stages, context);
  } catch (error) {
    const [failed] = await pendingStages(cache, stages);
    if (instead === undefined || !installing.has(failed ?? '') || !isReliveError(error, 'tool-failed'))
      throw error;
    const message = `the newer packages cannot be installed upon the system of before: all are installed anew (${error.message.split('\n')[0]})`;
    context.emit({ event: 'warning', message, ...(error.hint === undefined ? {} : { hint: error.hint }) });
    return await runStages(cache, instead, context);
  }
}

/** What a system that builds images takes along, looked for before the work begins. */
async function findOwnPackage(
  site: Site,
  profile: Profile,
  context: Context,
): Promise<OwnPackage | undefined> {
  if (!profile.factory) return undefined;
  await refusePrivateKeys(site);
  return await ownPackage(context);
}

/** A system whose stages are done. */
export interface Built {
  readonly site: Site;
  readonly profile: Profile;
  readonly ingredients: Ingredients;
  readonly layers: readonly Layer[];
  /** What the manifest's digest of all that goes in is made from (`ProfileStages` in stages.ts). */
  readonly keys: readonly string[];
  readonly key: BuildKey;
  /** Who signs the kernel for Secure Boot, where the profile wants that. */
  readonly signer: Signer | undefined;
  readonly scratch: string;
}

/** The digest of all that goes into an image but its version. */
function inputsOf({
  keys: layers,
  profile,
  commit,
  key,
  signer,
  sourceDateEpoch,
}: Pick<Built, 'keys' | 'profile' | 'key' | 'signer'> &
  Pick<Ingredients, 'sourceDateEpoch'> & {
    readonly commit: string | null;
  }): string {
  return sha256(
    canonicalJson({
      generation,
      layers,
      profile: [profile.name, profile.version, profile.digest, commit],
      relive: reliveVersion,
      // Another key is another seal.
      key: key.fingerprint,
      ...(signer === undefined ? {} : { secureBoot: signer.certificate.fingerprint256 }),
      sourceDateEpoch,
    }),
  );
}

/** What making an image out of a lock would take, as far as it can be told without doing it. */
export interface PlannedWork {
  /** As in the manifest of the image: the same ones make no image. */
  readonly inputs: string;
  /** The stages that are not in the cache. */
  readonly stages: readonly string[];
}

/**
 * Tells what making an image would take. The packages of the lock must be in the mirror.
 * @param scratch a directory for files that are needed meanwhile
 */
export async function planWork(
  site: Site,
  profile: Profile,
  lock: Lock,
  scratch: string,
  context: Context,
): Promise<PlannedWork> {
  // Modes of files are part of what goes in.
  process.umask(0o022);
  const key = { ...(await signingKey(site, context)), home: keysHome(site) };
  const signer = await kernelSigner(site, profile, context);
  const own = await findOwnPackage(site, profile, context);
  const ingredients = await ingredientsOf(site, profile, lock, scratch);
  // As an update does it.
  const places = { cache: site.cache, scratch, upgrade: true };
  const { stages, keys } = await stagesOf({ site, profile, ingredients, own, key, ...places }, context);
  const commit = await siteCommit(site.directory, context);
  const { sourceDateEpoch } = ingredients;
  return {
    inputs: inputsOf({ keys, profile, commit, key, signer, sourceDateEpoch }),
    stages: await pendingStages(site.cache, stages),
  };
}

/** @param tested what can be booted becomes a candidate, and the rest is up to its test */
async function publish(built: Built, packing: Packing, tested: boolean, context: Context): Promise<Made> {
  const { site, profile, ingredients, layers, key, scratch } = built;
  const { pack, serves } = packing;
  const commit = await siteCommit(site.directory, context);
  const inputs = inputsOf({ ...built, commit, sourceDateEpoch: ingredients.sourceDateEpoch });
  const newest = await newestImage(site.store, profile.name);
  const manifest = newest === undefined ? undefined : await comparable(newest, context);
  if (newest !== undefined && manifest?.inputs === inputs && serves(manifest))
    return { image: newest, manifest, unchanged: true };
  const needs = await storeNeeds(site, profile, ingredients.lock, packing, tested, context);
  await requireSpace(`making an image of ${profile.name}`, needs);
  const last = [newest?.version, await newestCandidate(site.store, profile.name)]
    .filter((version) => version !== undefined)
    .toSorted();
  const name = { profile: profile.name, version: nextVersion(last.at(-1), new Date()) };
  const staging = await stagingDirectory(site.store);
  const finish = async (): Promise<Made> => {
    // Scripts may come after it.
    const live = layers.find(({ stage }) => stage === liveName)?.output;
    const output = live === undefined ? undefined : await signedOutput(live, built.signer, scratch);
    const kernel = output === undefined ? undefined : await kernelOf(output);
    const packed = await packSystem(built, kernel, staging, pack, newest, context);
    requireMountable(imageName(name), packed.stack);
    const described = await describe(built, {
      name,
      commit,
      inputs,
      packed,
      output,
    });
    const sealing = { manifest: described, boot: output, packed, key, staging };
    const directory = await sealSystem(site.store, sealing, context);
    const done = { manifest: described, unchanged: false };
    const why = tested ? untestable(described) : undefined;
    if (tested && why === undefined) {
      const candidate = await makeCandidate(site.store, name, directory, packed.stack, packed.added);
      return { ...done, image: candidate.image, candidate };
    }
    if (why !== undefined) {
      context.emit({ event: 'warning', message: `${imageName(name)} is published without a test: ${why}` });
    }
    const image = await publishImage(site.store, name, directory, packed.stack, packed.added);
    await removeFailed(site.store, profile.name);
    return { ...done, image };
  };
  try {
    // What differs is gathered in the cache before it is packed in the store.
    return await tellingOfDisk(`the store ${site.store} or the cache ${site.cache}`, finish);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** The manifest of the newest image; a damaged one does not hinder the next image, which replaces it. */
async function comparable(image: StoredImage, context: Context): Promise<Manifest | undefined> {
  try {
    return await readManifest(image);
  } catch (error) {
    if (!isReliveError(error, 'corrupt')) throw error;
    const hint = `relive image verify ${image.name} names the damage`;
    context.emit({ event: 'warning', message: `${image.name} is damaged: ${error.message}`, hint });
    return undefined;
  }
}

/** Packs the merged view of the layers. */
async function packSystem(
  { profile, ingredients, layers, scratch }: Built,
  kernel: string | undefined,
  staging: string,
  pack: Pack,
  newest: StoredImage | undefined,
  context: Context,
): Promise<PackedSystem> {
  const merged = join(scratch, 'merged');
  await mountStack({ lower: layers.map(({ directory }) => directory) }, merged, context);
  try {
    const { sourceDateEpoch } = ingredients;
    return await pack({ profile, merged, kernel, sourceDateEpoch, staging, scratch }, newest, context);
  } finally {
    await unmount(merged, context);
  }
}

/** The version of the kernel that the live stage left beside the tree. */
async function kernelOf(output: string): Promise<string> {
  return (await readFile(join(output, 'kernel-version'), 'utf8')).trim();
}

async function describe(
  { profile, ingredients }: Built,
  made: {
    readonly name: ImageName;
    readonly commit: string | null;
    readonly inputs: string;
    readonly packed: PackedSystem;
    /** The directory with kernel and initrd; a container has none. */
    readonly output: string | undefined;
  },
): Promise<Manifest> {
  return {
    schema: 1,
    image: imageName(made.name),
    kind: made.packed.parent === null ? 'full' : 'incremental',
    parent: made.packed.parent,
    version: made.name.version,
    serial: serialOf(made.name.version),
    profile: { name: profile.name, version: profile.version, digest: profile.digest, commit: made.commit },
    suite: profile.suite,
    architecture: profile.architecture,
    host: profile.host,
    layers: [...made.packed.stack],
    tree: made.packed.tree.digest,
    unpacked: made.packed.tree.bytes,
    ...(await describeBoot(profile, made.output)),
    lock: sha256(formatLock(ingredients.lock)),
    repositories: ingredients.lock.repositories,
    packages: ingredients.lock.packages.map((each) => ({
      name: each.name,
      version: each.version,
      architecture: each.architecture,
      repository: each.repository,
      sha256: each.sha256,
    })),
    inputs: made.inputs,
    sourceDateEpoch: ingredients.sourceDateEpoch,
    relive: reliveVersion,
  };
}

/** What signs the kernels of a profile; undefined where no key of the site does. */
async function kernelSigner(
  site: Site,
  { boot }: Pick<Profile, 'boot'>,
  context: Context,
): Promise<Signer | undefined> {
  const own = boot.secureBoot === true || boot.secureBoot === 'shim';
  return own ? await secureBootSigner(site, context) : undefined;
}

/** What the live stage made, with a kernel that firmware lets start. */
async function signedOutput(output: string, signer: Signer | undefined, scratch: string): Promise<string> {
  if (signer === undefined) return output;
  const directory = join(scratch, 'signed');
  await mkdir(directory);
  for (const name of [initrdName, 'kernel-version'])
    await copyFile(join(output, name), join(directory, name), constants.COPYFILE_FICLONE);
  const kernel = await signProgram(await readFile(join(output, kernelName)), kernelName, signer, 'first');
  await writeFile(join(directory, kernelName), kernel);
  return directory;
}

async function describeBoot(
  { boot }: Profile,
  output: string | undefined,
): Promise<Pick<Manifest, 'kernel' | 'initrd' | 'boot'>> {
  if (output === undefined) return { kernel: null, initrd: null, boot: null };
  const describeFile = async (name: string) => {
    const file = join(output, name);
    const more = boot.checksum === 'sha512' ? { sha512: (await digestFile(file, 'sha512')).digest } : {};
    return { ...(await digestFile(file, 'sha256')), ...more };
  };
  return {
    kernel: { version: await kernelOf(output), ...(await describeFile(kernelName)) },
    initrd: await describeFile(initrdName),
    boot: {
      verify: boot.verify,
      ...(boot.checksum === 'sha512' ? { checksum: boot.checksum } : {}),
      ram: boot.ram,
      ...(boot.http === undefined ? {} : { http: boot.http }),
      ...(boot.secureBoot === false ? {} : { secureBoot: boot.secureBoot }),
      parameters: [...boot.parameters],
    },
  };
}
