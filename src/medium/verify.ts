import { join } from 'node:path';
import { isReliveError, messageOf } from '../core/error.ts';
import { type Context, type Finding, type FindingKind, inStage } from '../core/event.ts';
import { forgetCache } from '../host/disk.ts';
import { run } from '../host/process.ts';
import { trustedKeys } from '../image/keys.ts';
import { listImages, type StoredImage } from '../image/store.ts';
import { verifyImage, verifyStage } from '../image/verify.ts';
import type { Site } from '../site/site.ts';
import { grubStage } from './create.ts';
import { mediumGrub, outdatedGrub, storeManifests } from './disk-grub.ts';
import { checkExfat, withPart } from './exfat.ts';
import { unneededFiles } from './fill.ts';
import { sectorSizeOf, storeLabel } from './layout.ts';
import { readOutStore, storeState, withMountedStore } from './store-files.ts';
import {
  findTarget,
  isRoot,
  type OpenMedium,
  requireRootFor,
  withMedium,
  withMediumScratch,
} from './target.ts';

export interface VerifiedMedium {
  readonly target: string;
  readonly findings: readonly Finding[];
  /** How many faults each image has. */
  readonly images: Readonly<Record<string, number>>;
}

const syncHint = 'relive medium sync mends it';
const createHint = 'relive medium create makes the medium anew';

/** The stage of the partition table and the file system. */
const diskStage = 'disk';

/**
 * Checks a medium: both partition tables, the file system of its store, GRUB as this site would make it, and every
 * image from its signatures to its layers. Changes nothing.
 * @throws ReliveError `not-found` for what is no medium, or a site without public keys; `locked`
 */
export async function verifyMedium(site: Site, given: string, context: Context): Promise<VerifiedMedium> {
  const target = await findTarget(given, false, context);
  const keys = await trustedKeys(site);
  const findings: Finding[] = [];
  const find = (kind: FindingKind, path: string, detail: string, hint: string): void => {
    const finding = { event: 'finding', kind, path, detail, hint } as const;
    findings.push(finding);
    context.emit(finding);
  };
  // So that the medium itself is read, not what the kernel still has in memory.
  if (target.device !== undefined) await forgetCache(target.path, context);
  const images: Record<string, number> = {};
  await withMediumScratch(target, context, async (scratch) => {
    await withMedium(target, 'read', async (medium) => {
      const usable = await inStage(context, diskStage, async () => await checkDisk(medium, find, context));
      if (!usable) return;
      const inStore = async (root: string): Promise<void> => {
        for (const name of await unneededFiles(root)) {
          find('unreferenced', name, 'no image on the medium has it', 'relive medium sync removes it');
        }
        const there = await listImages(root);
        const read = new Map<string, string>();
        await inStage(
          context,
          grubStage,
          async () => await checkGrub(site, there, medium, scratch, find, context),
        );
        for (const image of there) {
          const found = await inStage(
            context,
            verifyStage(image),
            async () => await verifyImage(root, image, keys, onMedium(context, root), read),
          );
          images[image.name] = found.length;
          findings.push(
            ...found.map((finding) => ({ ...finding, path: finding.path.replace(`${root}/`, '') })),
          );
        }
      };
      if (isRoot()) {
        const { path, layout } = medium;
        const mountPoint = join(site.cache, 'medium');
        await withMountedStore({ path, layout, mode: 'read', mountPoint }, context, inStore);
      } else {
        const tree = join(scratch, 'store');
        await readOutStore(medium.path, medium.layout.store, tree, context);
        await inStore(tree);
      }
    });
  });
  return { target: target.path, findings, images };
}

/** Findings of images name files as the medium has them, not by where it is mounted just now. */
function onMedium(context: Context, root: string): Context {
  return {
    ...context,
    emit: (event) => {
      if (event.event !== 'finding') return context.emit(event);
      context.emit({
        ...event,
        path: event.path.replace(`${root}/`, ''),
        detail: event.detail.replaceAll(`${root}/`, ''),
        hint: 'relive medium sync --check mends what the site has',
      });
    },
  };
}

type Find = (kind: FindingKind, path: string, detail: string, hint: string) => void;

/** @returns whether the store can be looked into */
async function checkDisk(
  { path, disk, found, layout }: OpenMedium,
  find: Find,
  context: Context,
): Promise<boolean> {
  for (const fault of found.faults) find('corrupt', path, fault, syncHint);
  const state = await storeState(disk, layout.store);
  if (state === undefined) {
    find('corrupt', path, 'its store has no file system of a medium', createHint);
    return false;
  }
  if (state.label !== storeLabel) {
    find(
      'inconsistent',
      path,
      `its store has the label "${state.label}" instead of ${storeLabel}`,
      `${state.type === 'exfat' ? 'exfatlabel' : 'e2label'} gives it the right one`,
    );
  }
  if (state.type === 'ext4' && state.bytes < layout.store.bytes) {
    find('inconsistent', path, 'its store does not fill its partition', 'relive medium grow goes on with it');
  }
  if (state.type === 'exfat') {
    requireRootFor(`the store of ${path} is exFAT: looking into it`);
    const options = { sectorSize: sectorSizeOf(layout), readOnly: true };
    const lines = await withPart(path, layout.store, options, context, async (device) => {
      return await checkExfat(device, false, context);
    });
    if (lines.length > 0 || state.unclean) {
      const detail = lines.length > 0 ? `is damaged: ${lines.slice(0, 3).join('; ')}` : 'was not unmounted';
      find('inconsistent', path, `the file system of its store ${detail}`, syncHint);
    }
    return true;
  }
  if (state.unclean) {
    // Without its journal a file system may contradict itself, and a check changes nothing.
    find(
      'inconsistent',
      path,
      'its store was not unmounted: its journal has to be replayed before images can be looked at',
      syncHint,
    );
    return false;
  }
  // 4: errors left, since nothing may be written (e2fsck(8)).
  const { status, stdout } = await run('e2fsck', ['-f', '-n', `${path}?offset=${layout.store.offset}`], {
    signal: context.signal,
    accept: [0, 4],
  });
  if (status === 0) return true;
  const lines = stdout.split('\n').filter((line) => line !== '' && !/^Pass \d/.test(line));
  find(
    'corrupt',
    path,
    `the file system of its store is damaged: ${lines.slice(0, 3).join('; ')}`,
    createHint,
  );
  return true;
}

async function checkGrub(
  site: Site,
  images: readonly StoredImage[],
  medium: OpenMedium,
  scratch: string,
  find: Find,
  context: Context,
): Promise<void> {
  const grub = await mediumGrub(site, await storeManifests(images), scratch, context);
  try {
    for (const part of await outdatedGrub(medium.disk, medium.layout, grub)) {
      find(
        'inconsistent',
        part === 'BIOS' ? 'GRUB for BIOS' : part,
        'is not what this site, relive and GRUB make for it',
        'relive medium sync makes it anew',
      );
    }
  } catch (error) {
    if (!isReliveError(error, 'corrupt')) throw error;
    find('corrupt', medium.path, messageOf(error), createHint);
  }
}
