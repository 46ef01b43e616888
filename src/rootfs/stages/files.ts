import { chmod, copyFile, lchown, lstat, lutimes, mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../../core/error.ts';
import type { Stage } from '../layers.ts';
import { placeInside, throughLinks } from '../links.ts';
import { type OverlayEntry, readOverlay } from '../overlay.ts';

export interface FilesOptions {
  /** Directories whose contents are copied onto the root, in this order. */
  readonly overlays: readonly string[];
  readonly sourceDateEpoch: number;
  /** The name of the stage; `files` unless given. */
  readonly name?: string;
}

/**
 * The entries of overlays, parents before what is in them.
 * @throws ReliveError `configuration` for what cannot be a file of an overlay
 */
export async function overlayEntries(overlays: readonly string[]): Promise<OverlayEntry[]> {
  const read = await Promise.all(overlays.map(async (overlay) => await readOverlay(overlay)));
  const faults = read.flatMap((each) => each.faults);
  if (faults.length === 0) return read.flatMap((each) => each.entries);
  throw new ReliveError(
    'configuration',
    faults.map(({ source, detail }) => `${source}: ${detail}`).join('\n'),
    { hint: [...new Set(faults.map(({ hint }) => hint))].join('; ') },
  );
}

/**
 * Copies the overlays into the system. Owners become root, times the build's; modes are kept, as far as git keeps them.
 * @throws as `overlayEntries`
 */
export async function filesStage({
  overlays,
  sourceDateEpoch,
  name = 'files',
}: FilesOptions): Promise<Stage> {
  const entries = await overlayEntries(overlays);
  return {
    name,
    inputs: {
      entries: entryInputs(entries),
      sourceDateEpoch,
    },
    work: async ({ root }) => {
      for (const entry of entries) await place(entry, root, sourceDateEpoch);
    },
  };
}

/** What of entries decides a stage: not where they were read from. */
export function entryInputs(entries: readonly OverlayEntry[]): unknown {
  return entries.map(({ path, mode, kind, content }) => [path, mode, kind, content]);
}

/** Puts one entry into the system. No link of the system is followed on the way. */
export async function place(entry: OverlayEntry, root: string, sourceDateEpoch: number): Promise<void> {
  const target = join(root, await throughLinks(root, entry.path));
  const there = await lstat(target).catch(() => undefined);
  if (entry.kind === 'directory') {
    // A directory that the system has keeps its mode and owner, also one behind a link: /lib, where /usr is merged.
    const behind = await lstat(await placeInside(root, entry.path)).catch(() => undefined);
    if (behind?.isDirectory() === true) return;
    if (there !== undefined) await rm(target);
    await mkdir(target);
    await chmod(target, entry.mode);
  } else {
    if (there?.isDirectory() === true) {
      throw new ReliveError(
        'configuration',
        `${entry.source}: the system has a directory there, /${entry.path}`,
        {
          hint: 'give the file another name, or make it a directory in the overlay too',
        },
      );
    }
    if (there !== undefined) await rm(target);
    if (entry.kind === 'link') await symlink(entry.content, target);
    else {
      await copyFile(entry.source, target);
      await chmod(target, entry.mode);
    }
  }
  await lchown(target, 0, 0);
  await lutimes(target, sourceDateEpoch, sourceDateEpoch);
}
