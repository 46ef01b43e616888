import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists } from '../host/files.ts';
import { compareLocks, type LockChanges } from '../site/lock.ts';
import type { Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import { type BuildResult, buildImage, planWork } from './build.ts';
import type { CandidateTest } from './candidate.ts';
import { trustedKeys } from './keys.ts';
import { lockProfile, packageFile } from './lock.ts';
import type { Manifest } from './manifest.ts';
import { packFull, packOnto } from './packing.ts';
import { type SecurityChange, securityChanges } from './security.ts';
import { imageSize, overlaysSize } from './space.ts';
import { findImage, newestImage, readManifest, type StoredImage } from './store.ts';
import { requireIntact } from './verify.ts';

export interface UpdateOptions {
  /** Use what the mirror has, and no network. */
  readonly offline: boolean;
  /** A full image, whatever it has in common with the newest one. */
  readonly full: boolean;
  /** The image to build upon; the newest unless given. */
  readonly from: string | undefined;
  /** Boots what was made before it is published; published at once without. */
  readonly test?: CandidateTest | undefined;
}

/**
 * Makes the next image of a profile: resolves its packages anew, builds the system, and packs what differs from an image
 * that is there. Where nothing differs none is made. Must run inside the private namespaces.
 * @throws ReliveError `guest-failed` for one that does not pass its test; `corrupt` for an image to build upon that is damaged; `usage` for one of another profile; as `buildImage`
 */
export async function updateImage(
  site: Site,
  profile: Profile,
  { offline, full, from, test }: UpdateOptions,
  context: Context,
): Promise<BuildResult> {
  const parent = await parentOf(site, profile, from);
  if (parent !== undefined && !full) {
    // Whatever is wrong with an image would be wrong with all that are made on it.
    const hint = `relive update ${parent.profile} --full makes an image that needs nothing of it; --from builds upon another one`;
    await requireIntact(site.store, parent, await trustedKeys(site), hint, context);
  }
  const chosen = from === undefined ? undefined : parent;
  const pack = full ? packFull : packOnto(site.store, chosen);
  const serves: (newest: BuildResult['manifest']) => boolean = ({ kind }) => !full || kind === 'full';
  const options = { offline, locked: false, renew: true, upgrade: !full, test };
  return await buildImage(site, profile, options, context, {
    pack,
    serves,
    upon: (newest) => (full ? undefined : (chosen ?? newest)),
  });
}

export interface UpdatePlan {
  /** The image that would be built upon. */
  readonly parent: string | undefined;
  readonly packages: LockChanges<Manifest['packages'][number]>;
  /** How far a running machine is disturbed, by the packages alone (docs/design.md): services start anew, all of user space, the machine. */
  readonly disturbance: 'nothing' | 'services' | 'switch' | 'reboot';
  /** Whether the profile is another one than that of the parent. */
  readonly profileChanged: boolean;
  /** Nothing differs from the newest image: none would be made. */
  readonly unchanged: boolean;
  /** The stages that would be run, and not taken from the cache; undefined where packages change, which decides about most of them. */
  readonly stages: readonly string[] | undefined;
  /** What changed packages bring for security. */
  readonly security: readonly SecurityChange[];
  readonly size: {
    /** About so many bytes the image takes in the store, rather more than less. */
    readonly image: number;
    /** Whether it would be a delta on the parent. */
    readonly incremental: boolean;
    /** Bytes of packages that the mirror does not have yet. */
    readonly download: number;
  };
}

/** Packages that a running machine takes over by starting its kernel, or all of user space, anew. */
const kernelPackages =
  /^(linux-image-|firmware-|initramfs-tools|live-boot|(intel|amd64)-microcode|busybox|dmsetup|udev$|kmod$)/;
const userSpacePackages = /^(libc6|systemd|dbus|libsystemd0|libpam)/;

/** Tells what an update would bring, without making it. @throws ReliveError as `updateImage` */
export async function planUpdate(
  site: Site,
  profile: Profile,
  { offline, from }: Pick<UpdateOptions, 'offline' | 'from'>,
  scratch: string,
  context: Context,
): Promise<UpdatePlan> {
  const parent = await parentOf(site, profile, from);
  const manifest = parent === undefined ? undefined : await readManifest(parent);
  const { lock } = await lockProfile(site, profile, { offline, scratch, keep: true }, context);
  const packages = compareLocks(manifest, lock);
  let download = 0;
  for (const { to } of [...packages.added.map((each) => ({ to: each })), ...packages.changed])
    if (!(await exists(packageFile(site, to)))) download += to.size;
  const count = packages.added.length + packages.removed.length + packages.changed.length;
  const all = await Promise.all(lock.packages.map(async (each) => await exists(packageFile(site, each))));
  const work =
    manifest === undefined || count > 0 || all.includes(false)
      ? undefined
      : await planWork(site, profile, lock, scratch, context);
  const newest = from === undefined ? parent : await newestImage(site.store, profile.name);
  const unchanged =
    work !== undefined && newest !== undefined && (await readManifest(newest)).inputs === work.inputs;
  const { bytes, incremental } = imageSize(lock, manifest, unchanged ? 0 : await overlaysSize(profile));
  const names = [...packages.added, ...packages.removed, ...packages.changed.map(({ to }) => to)].map(
    ({ name }) => name,
  );
  const some = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  const running = some(userSpacePackages) ? 'switch' : 'services';
  const disturbance = some(kernelPackages) ? 'reboot' : running;
  return {
    parent: parent?.name,
    packages,
    disturbance: names.length === 0 ? 'nothing' : disturbance,
    profileChanged: manifest?.profile.digest !== profile.digest,
    unchanged,
    stages: work?.stages,
    security: await securityChanges(site, profile, packages, context),
    size: { image: bytes, incremental, download },
  };
}

async function parentOf(
  site: Site,
  profile: Profile,
  from: string | undefined,
): Promise<StoredImage | undefined> {
  if (from === undefined) return await newestImage(site.store, profile.name);
  const image = await findImage(site.store, from);
  if (image.profile === profile.name) return image;
  throw new ReliveError('usage', `${image.name} is an image of ${image.profile}, not of ${profile.name}`, {
    hint: `relive image list shows those of ${profile.name}`,
  });
}
