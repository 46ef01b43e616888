import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { directoryNames, ifThere, makeDirectories, syncDirectory } from '../host/files.ts';
import { listChannels } from './channel.ts';
import { bytesOf, findImage, lockStore, removeOrphans, type StoredImage, storePaths } from './store.ts';

/** What was removed from a store. */
export interface Removed {
  readonly images: readonly string[];
  /** Layers that no other image needed. */
  readonly layers: number;
  /** Bytes of all that. */
  readonly bytes: number;
}

/** The names of the images that nobody may remove. */
export async function pinnedImages(store: string): Promise<ReadonlySet<string>> {
  return new Set(await directoryNames(storePaths.pins(store)));
}

/**
 * Pins an image, or takes its pin away: a pinned one is not removed.
 * @param wanted an image, or a profile for its newest one
 * @throws ReliveError `not-found`
 */
export async function pinImage(store: string, wanted: string, pin: boolean): Promise<StoredImage> {
  const image = await findImage(store, wanted);
  const file = storePaths.pin(store, image.name);
  if (pin) {
    await makeDirectories(join(file, '..'));
    await writeFile(file, '');
    await syncDirectory(join(file, '..'));
  } else await rm(file, { force: true });
  return image;
}

/** The image that this machine was started from, as its kernel command line says; undefined on any other machine. */
export async function bootedImage(): Promise<string | undefined> {
  const line = await ifThere(readFile('/proc/cmdline', 'utf8'));
  return /(?:^| )relive\.image=([a-z0-9.-]+)(?: |$)/.exec(line?.trim() ?? '')?.[1];
}

/**
 * The image that came up last, by the block which GRUB's menu of a store keeps (docs/booting.md): the menu goes back to it. Also out
 * of a block that GRUB itself would not read; undefined where nothing is remembered.
 */
export async function lastGoodImage(store: string): Promise<string | undefined> {
  const text = await ifThere(readFile(join(store, 'grubenv'), 'latin1'));
  return /^relive_good=([a-z0-9.-]+)$/m.exec(text ?? '')?.[1];
}

/**
 * Removes images: each one's directory first, by one rename, so that it is there whole or not at all; then its ISO, and
 * the layers that no other image names. Cut off at any point, the next run that writes to the store removes the rest.
 * @throws ReliveError `configuration` for one that is pinned, in a channel, the last good one or running here, before anything is removed; `locked`
 */
export async function removeImages(
  store: string,
  images: readonly StoredImage[],
  context: Context,
): Promise<Removed> {
  const [pinned, booted] = [await pinnedImages(store), await bootedImage()];
  const good = await lastGoodImage(store);
  const channels = await listChannels(store);
  for (const { name } of images) {
    const channel = channels.find(({ image }) => image === name);
    if (channel !== undefined) {
      throw new ReliveError('configuration', `${name} is what the channel ${channel.channel} names`, {
        hint: `relive channel set ${channel.channel} with another image, or relive channel remove ${channel.channel} ${channel.profile}`,
      });
    }
    if (pinned.has(name)) {
      throw new ReliveError('configuration', `${name} is pinned`, { hint: `relive image unpin ${name}` });
    }
    if (name === booted) {
      throw new ReliveError('configuration', `this machine runs ${name}`, {
        hint: 'boot another image first',
      });
    }
    if (name === good) {
      throw new ReliveError('configuration', `${name} is the last good image, to which the menu goes back`, {
        hint: 'boot another image first; once that has come up, it is the last good one',
      });
    }
  }
  const lock = await lockStore(store, context);
  try {
    const trash = storePaths.temporary(store);
    await makeDirectories(trash, 0o700);
    let bytes = 0;
    for (const image of images) {
      context.signal.throwIfAborted();
      await rename(image.directory, join(trash, image.name));
      await syncDirectory(join(image.directory, '..'));
      // Kernel and initrd may be another image's, too.
      bytes += await bytesOf(join(trash, image.name), 1);
      await rm(join(trash, image.name), { recursive: true });
      const iso = join(storePaths.isos(store), `${image.name}.iso`);
      bytes += await bytesOf(iso);
      await rm(iso, { force: true });
    }
    const orphans = await removeOrphans(store);
    if (orphans.unsure !== undefined) {
      context.emit({
        event: 'warning',
        message: `no layer was removed: ${orphans.unsure} is damaged, so that nobody knows whose they are`,
        hint: `relive image verify ${orphans.unsure} names the damage`,
      });
    }
    return { images: images.map(({ name }) => name), layers: orphans.layers, bytes: bytes + orphans.bytes };
  } finally {
    await lock.release();
  }
}
