import { open, rename, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { exists, explainDiskFull, freeBytes, syncDirectory } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { run } from '../host/process.ts';
import type { Manifest } from '../image/manifest.ts';
import { bootedImage, lastGoodImage, pinnedImages } from '../image/remove.ts';
import { type Retention, retentionOf } from '../image/retention.ts';
import { listImages, type StoredImage } from '../image/store.ts';
import type { Site } from '../site/site.ts';
import { type DiskBytes, diskBytes } from './bytes.ts';
import { grubStage } from './create.ts';
import { installGrub, mediumGrub, mediumKeys, storeManifests } from './disk-grub.ts';
import {
  type FillPlan,
  fillStore,
  planFill,
  removeImages,
  type Settle,
  settled,
  surplusImages,
  sweepStore,
  type WantedImage,
  wantedImages,
} from './fill.ts';
import { writeTable } from './gpt.ts';
import { storeLabel } from './layout.ts';
import { giveToRoot, makeExt4, readOutStore, storeState, withMountedStore } from './store-files.ts';
import {
  findTarget,
  isRoot,
  type OpenMedium,
  onlyMedium,
  requireRootFor,
  withMedium,
  withMediumScratch,
} from './target.ts';

export interface SyncOptions {
  /** Images, or profiles for their newest ones; none: the newest of each profile. */
  readonly images: readonly string[];
  /** So many images of each profile stay, the newest; undefined: all. */
  readonly keep: number | undefined;
  /** Read every layer on the medium, too, and replace damaged ones. */
  readonly check: boolean;
}

export interface SyncedMedium {
  readonly target: string;
  /** Images that were brought, or made whole. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** All that are on the medium now. */
  readonly images: readonly string[];
  readonly copiedBytes: number;
  /** Layers and hash trees of the images that were there already. */
  readonly presentFiles: number;
  readonly freeBytes: number;
  /** What of GRUB was made anew. */
  readonly grub: readonly string[];
  readonly mended: readonly string[];
}

interface Work {
  readonly site: Site;
  readonly wanted: readonly WantedImage[];
  readonly options: SyncOptions;
  readonly keys: string | undefined;
  readonly context: Context;
}

interface Filled {
  readonly plan: FillPlan;
  /** What stays. */
  readonly images: readonly StoredImage[];
  readonly manifests: readonly Manifest[];
  readonly surplus: readonly StoredImage[];
  readonly removed: readonly string[];
}

const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;

/** @throws ReliveError `not-authentic` where an image on the medium is by another key: GRUB could not start it any more */
async function refuseStrangers(
  root: string,
  keys: string,
  wanted: readonly WantedImage[],
  context: Context,
): Promise<void> {
  for (const { directory, name } of await listImages(root)) {
    // Those are replaced when they are not what the site has.
    if (wanted.some(({ image }) => image.name === name)) continue;
    const manifest = join(directory, 'manifest.json');
    if (!(await exists(manifest)) || !(await exists(`${manifest}.sig`))) continue;
    await verifyDetached(manifest, `${manifest}.sig`, keys, context);
  }
}

/** By profile of what is there and of what is wanted, how many of its images stay: as the command says, else as the profile does. */
async function policiesFor(
  root: string,
  { site, wanted, options }: Work,
): Promise<ReadonlyMap<string, Retention | undefined>> {
  const images = [...(await listImages(root)), ...wanted.map(({ image }) => image)];
  const profiles = [...new Set(images.map(({ profile }) => profile))];
  const { keep } = options;
  return new Map(
    await Promise.all(
      profiles.map(
        async (name) => [name, keep === undefined ? await retentionOf(site, name) : { keep }] as const,
      ),
    ),
  );
}

/**
 * Brings what is wanted into the store of a medium, and removes before it what retention lets go where else there is
 * no room; the newest image of each profile stays in any case.
 */
async function fill(root: string, free: () => Promise<number>, settle: Settle, work: Work): Promise<Filled> {
  const { site, wanted, options, keys, context } = work;
  if (keys !== undefined) await refuseStrangers(root, keys, wanted, context);
  const plan = await planFill(site.store, wanted, root, options.check);
  // What the menu goes back to stays, what this machine runs, and what is pinned in the site or on the medium.
  const names = [
    ...wanted.map(({ image }) => image.name),
    ...[await lastGoodImage(root), await bootedImage()].filter((name) => name !== undefined),
    ...(await pinnedImages(site.store)),
    ...(await pinnedImages(root)),
  ];
  const removed: string[] = [];
  const policies = await policiesFor(root, work);
  if ((await free()) < plan.bytes) {
    const there = await listImages(root);
    const all = [
      ...there,
      ...plan.images.map(({ image }) => image).filter(({ name }) => there.every((one) => one.name !== name)),
    ];
    const going = surplusImages(all, policies, names).filter(
      (image) => there.find(({ profile }) => profile === image.profile)?.name !== image.name,
    );
    await removeImages(going, root, settle);
    removed.push(...going.map(({ name }) => name));
  }
  if ((await free()) < plan.bytes) await sweepStore(root, wanted);
  // What they took is written to now: nothing that GRUB sees may be there any more.
  await settle();
  const room = await free();
  if (room < plan.bytes) {
    throw new ReliveError(
      'disk-full',
      `${plan.images.map(({ image }) => image.name).join(', ')}: ${megabytes(plan.bytes)} are to be copied, but the medium has room for ${megabytes(room)}`,
      {
        hint:
          options.keep === undefined
            ? '--keep N removes all but the N newest images of each profile, "retention" in a profile says more'
            : 'use a larger medium, or name fewer images',
      },
    );
  }
  if (plan.bytes > 0) {
    const files = plan.live.length + plan.present;
    context.emit({
      event: 'note',
      message: `${megabytes(plan.bytes)} to copy, room for ${megabytes(room)}; of ${files} layers and hash trees ${plan.present} are there already`,
    });
    await fillStore(plan, root, settle, context);
  }
  await sweepStore(root);
  const all = await listImages(root);
  const surplus = surplusImages(all, policies, names);
  const images = all.filter((image) => !surplus.includes(image));
  return { plan, surplus, removed, images, manifests: await storeManifests(images) };
}

async function mendTable({ found }: OpenMedium, disk: DiskBytes): Promise<readonly string[]> {
  if (found.faults.length > 0) await writeTable(disk, found.table);
  return found.faults;
}

async function updateGrub(
  medium: OpenMedium,
  disk: DiskBytes,
  { manifests }: Filled,
  scratch: string,
  work: Work,
): Promise<readonly string[]> {
  return await inStage(work.context, grubStage, async () => {
    return await installGrub(
      disk,
      medium.layout,
      await mediumGrub(work.site, manifests, scratch, work.context),
    );
  });
}

interface Changed extends Filled {
  readonly grub: readonly string[];
  readonly mended: readonly string[];
  readonly free: number;
}

/** As root: in place. The kernel's journal and renames keep the store whole, GRUB comes when it is unmounted. */
async function syncInPlace(medium: OpenMedium, scratch: string, work: Work): Promise<Changed> {
  const { context, site } = work;
  const store = {
    path: medium.path,
    layout: medium.layout,
    mode: 'write',
    mountPoint: join(site.cache, 'medium'),
  } as const;
  const mended = await mendTable(medium, medium.disk);
  let free = 0;
  const filled = await withMountedStore(store, context, async (root, settle) => {
    const result = await fill(root, async () => await freeBytes(root), settle, work);
    free = await freeBytes(root);
    return result;
  });
  const grub = await updateGrub(medium, medium.disk, filled, scratch, work);
  if (filled.surplus.length > 0) {
    await withMountedStore(store, context, async (root, settle) => {
      await removeImages(filled.surplus, root, settle);
      await sweepStore(root);
      free = await freeBytes(root);
    });
  }
  await medium.disk.sync();
  return { ...filled, grub, mended, free };
}

/** What files take on ext4, in bytes. */
async function usedBytes(root: string, { signal }: Context): Promise<number> {
  const { stdout } = await run('du', ['--summarize', '--block-size=1', '--', root], { signal });
  return Number(/^\d+/.exec(stdout)?.[0] ?? 0);
}

/**
 * Without root: the store of a disk file is read out, filled, and made anew in a copy of the file, which replaces it.
 */
async function syncCopy(medium: OpenMedium, scratch: string, work: Work): Promise<Changed> {
  const { context } = work;
  const { path, layout } = medium;
  const tree = join(scratch, 'store');
  const copy = join(scratch, basename(path));
  const state = await storeState(medium.disk, layout.store);
  if (state?.type === 'exfat') requireRootFor(`the store of ${path} is exFAT: changing it`);
  if (state?.unclean === true) {
    throw new ReliveError(
      'not-root',
      `the store of ${path} was not unmounted: its journal has to be replayed, which needs root`,
      {
        hint: 'sudo relive medium sync ...',
      },
    );
  }
  try {
    await readOutStore(path, layout.store, tree, context);
    // Inodes, journal and directories take about this part.
    const free = async (): Promise<number> =>
      Math.floor(layout.store.bytes * 0.93) - (await usedBytes(tree, context));
    const filled = await fill(tree, free, settled, work);
    await removeImages(filled.surplus, tree, settled);
    await sweepStore(tree);
    await run('cp', ['--sparse=always', '--reflink=auto', '--', path, copy], { signal: context.signal });
    await makeExt4(copy, layout.store, storeLabel, tree, context);
    await giveToRoot(copy, layout.store, tree, context);
    const handle = await open(copy, 'r+');
    try {
      const disk = diskBytes(handle);
      const mended = await mendTable(medium, disk);
      const grub = await updateGrub(medium, disk, filled, scratch, work);
      await handle.chmod((await stat(path)).mode & 0o7777);
      await disk.sync();
      await rename(copy, path);
      await syncDirectory(dirname(path));
      return { ...filled, grub, mended, free: await free() };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw explainDiskFull(error, scratch);
  }
}

/**
 * Brings a site's images to a medium, makes its GRUB anew where that is to change, and removes images that retention
 * lets go. Interrupted at any point the medium boots, and the next sync finishes.
 * @param given the medium; undefined: the only one of this host
 * @throws ReliveError `not-found`, `locked`, `disk-full`, `not-authentic`, `corrupt`
 */
export async function syncMedium(
  site: Site,
  given: string | undefined,
  options: SyncOptions,
  context: Context,
): Promise<SyncedMedium> {
  const target = await findTarget(given ?? (await onlyMedium(context)), false, context);
  const keys = await mediumKeys(site);
  const wanted = await wantedImages(site.store, options.images, keys, context);
  const work: Work = { site, wanted, options, keys, context };
  const changed = await withMediumScratch(target, context, async (scratch) => {
    return await withMedium(target, 'write', async (medium) => {
      return isRoot() ? await syncInPlace(medium, scratch, work) : await syncCopy(medium, scratch, work);
    });
  });
  return {
    target: target.path,
    added: changed.plan.images.map(({ image }) => image.name),
    removed: [...changed.removed, ...changed.surplus.map(({ name }) => name)],
    images: changed.images.map(({ name }) => name),
    copiedBytes: changed.plan.bytes,
    presentFiles: changed.plan.present,
    freeBytes: changed.free,
    grub: changed.grub,
    mended: changed.mended,
  };
}
