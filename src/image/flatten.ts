import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { version as reliveVersion } from '../core/version.ts';
import { explainDiskFull } from '../host/files.ts';
import { loadProfile, type Profile } from '../site/profile.ts';
import { algorithms } from '../site/schema.ts';
import type { Site } from '../site/site.ts';
import { newestCandidate } from './candidate.ts';
import { keysHome, signingKey, trustedKeys } from './keys.ts';
import { type Manifest, parseManifest } from './manifest.ts';
import { storedLayers, withStack } from './mount.ts';
import { imageName, nextVersion, serialOf } from './name.ts';
import { packFull } from './packing.ts';
import { sealAndPublish } from './publish.ts';
import { flatSize, requireSpace } from './space.ts';
import { findImage, lockStore, newestImage, type StoredImage, stagingDirectory } from './store.ts';
import { requireIntact } from './verify.ts';

type Compression = Profile['image']['compression'];

export interface Flattened {
  readonly image: StoredImage;
  readonly manifest: Manifest;
  /** It has no deltas: nothing was made. */
  readonly unchanged: boolean;
}

/**
 * Makes the next image of a profile out of its newest one: the same tree, kernel, initrd and packages, in a base and a kernel layer.
 * The tree is proven to be the same before the image is published. Must run inside the private namespaces.
 * @param wanted an image, or a profile for its newest one
 * @throws ReliveError `not-found`; `usage` for an image that is not the newest; `corrupt` for one that is damaged; `disk-full`
 */
export async function flattenImage(site: Site, wanted: string, context: Context): Promise<Flattened> {
  process.umask(0o022);
  const key = { ...(await signingKey(site, context)), home: keysHome(site) };
  const lock = await lockStore(site.store, context);
  try {
    const image = await findImage(site.store, wanted);
    const newest = await newestImage(site.store, image.profile);
    if (newest !== undefined && newest.name !== image.name) {
      throw new ReliveError('usage', `${image.name} is not the newest image of ${image.profile}`, {
        hint: `flattened it would come after ${newest.name} and lead machines back: remove the newer images first, or flatten ${newest.name}`,
      });
    }
    await requireIntact(
      ...[site.store, image, await trustedKeys(site)],
      `relive update ${image.profile} --full makes an image that needs nothing of it`,
      context,
    );
    const file = join(image.directory, 'manifest.json');
    const manifest = parseManifest(await readFile(file, 'utf8'), file);
    if (!manifest.layers.some(({ role }) => role === 'delta')) return { image, manifest, unchanged: true };
    const need = { path: site.store, bytes: flatSize(manifest), purpose: 'the image, a full one' };
    await requireSpace(`flattening ${image.name}`, [need]);
    return await flatten(site, image, manifest, key, context);
  } catch (error) {
    throw explainDiskFull(error, site.store);
  } finally {
    await lock.release();
  }
}

async function flatten(
  site: Site,
  image: StoredImage,
  manifest: Manifest,
  key: Parameters<typeof sealAndPublish>[1]['key'],
  context: Context,
): Promise<Flattened> {
  const staging = await stagingDirectory(site.store);
  try {
    const scratch = join(staging, 'scratch');
    await mkdir(scratch);
    const compression = await compressionOf(site, manifest);
    const profile = { host: manifest.host, image: { compression } };
    const { sourceDateEpoch } = manifest;
    const packed = await withStack(
      storedLayers(site.store, manifest),
      join(scratch, 'stack'),
      context,
      async (merged) => {
        const system = {
          profile,
          merged,
          kernel: manifest.kernel?.version,
          sourceDateEpoch,
          staging,
          scratch,
        };
        return await packFull(system, undefined, context);
      },
    );
    if (packed.tree.digest !== manifest.tree) {
      throw new ReliveError('corrupt', `the layers of ${image.name} do not show the tree of its manifest`, {
        hint: 'no image was made; this is a fault of the tools or of the memory: try again, then report it',
      });
    }
    // A number that was told of once means no other image later.
    const last = [image.version, (await newestCandidate(site.store, image.profile)) ?? ''].toSorted().at(-1);
    const name = { profile: image.profile, version: nextVersion(last, new Date()) };
    const flat: Manifest = {
      ...manifest,
      image: imageName(name),
      version: name.version,
      serial: serialOf(name.version),
      kind: 'full',
      parent: null,
      layers: [...packed.stack],
      relive: reliveVersion,
    };
    const boot = manifest.kernel === null ? undefined : image.directory;
    const made = await sealAndPublish(site.store, { manifest: flat, boot, packed, key, staging }, context);
    return { image: made, manifest: flat, unchanged: false };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** That of the base; with the level of the profile where the site has it and it packs in the same way. */
async function compressionOf(site: Site, { layers, profile }: Manifest): Promise<Compression> {
  const algorithm = layers[0]?.compression;
  try {
    const { compression } = (await loadProfile(site, profile.name)).image;
    if (compression.algorithm === algorithm) return compression;
  } catch (error) {
    if (!isReliveError(error, 'not-found')) throw error;
  }
  const known = algorithms.find((one) => one === algorithm);
  if (known !== undefined) return { algorithm: known };
  throw new ReliveError(
    'corrupt',
    `the base is packed in a way that this relive does not know: ${algorithm}`,
  );
}
