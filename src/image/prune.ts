import type { Context } from '../core/event.ts';
import type { Site } from '../site/site.ts';
import { listChannels } from './channel.ts';
import { bootedImage, lastGoodImage, pinnedImages, type Removed, removeImages } from './remove.ts';
import { type Decision, decide, retentionOf } from './retention.ts';
import { listImages } from './store.ts';

/**
 * Decides about the images of a site's store, by the retention of their profiles.
 * @param profiles those whose images it is about; all where none is named
 * @throws ReliveError `configuration` for a profile with a fault
 */
export async function decideImages(site: Site, profiles: readonly string[]): Promise<Decision[]> {
  const images = (await listImages(site.store)).filter(
    ({ profile }) => profiles.length === 0 || profiles.includes(profile),
  );
  const untouchable = {
    pinned: await pinnedImages(site.store),
    channels: new Set((await listChannels(site.store)).map(({ image }) => image)),
    booted: await bootedImage(),
    good: await lastGoodImage(site.store),
  };
  const decisions: Decision[] = [];
  for (const profile of new Set(images.map((image) => image.profile))) {
    const own = images.filter((image) => image.profile === profile);
    decisions.push(...decide(own, await retentionOf(site, profile), untouchable));
  }
  return decisions;
}

/** Removes the images that are decided to go. @throws ReliveError as `removeImages` */
export async function removeDecided(
  site: Site,
  decisions: readonly Decision[],
  context: Context,
): Promise<Removed> {
  const going = decisions.filter(({ keeps }) => !keeps).map(({ image }) => image);
  return await removeImages(site.store, going, context);
}
