import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists } from '../host/files.ts';
import { run } from '../host/process.ts';
import { parseImageName } from '../image/name.ts';
import { listImages } from '../image/store.ts';
import { chooseNewest, chooseOnce, readEnvironment } from '../medium/environment.ts';
import { type Mount, mountAt } from './mounts.ts';
import { type LivePlaces, livePlaces } from './running.ts';

/** The file system that a store is the top of, which GRUB and the initramfs find; undefined for any other place. */
export async function fileSystemOf(store: string, places: LivePlaces): Promise<Mount | undefined> {
  const mount = await mountAt(store, places);
  return mount?.device.startsWith('/dev/') === true ? mount : undefined;
}

/** Runs `work` while the file system of a store can be written. */
export async function whileWritable(
  mount: Mount,
  context: Context,
  work: () => Promise<void>,
): Promise<void> {
  const { signal } = context;
  if (mount.options.includes('rw')) return await work();
  await run('mount', ['-o', 'remount,rw', mount.target], { signal, mayOutlive: true });
  try {
    await work();
  } finally {
    const { signal: fresh } = new AbortController();
    await run('mount', ['-o', 'remount,ro', mount.target], { signal: fresh, mayOutlive: true });
  }
}

/** The newest image of a profile in a store. */
async function newestOf(store: string, profile: string | undefined): Promise<string | undefined> {
  return (await listImages(store)).find((image) => image.profile === profile)?.name;
}

/**
 * Says no where the menu would not start an image by itself.
 * @throws ReliveError `usage`; `corrupt` for a block that GRUB does not read
 */
export async function requireDefault(
  store: string,
  image: string,
  places: LivePlaces = livePlaces,
): Promise<void> {
  if ((await fileSystemOf(store, places)) === undefined) {
    throw new ReliveError('usage', `${image} in ${store} would not be found at the next start`, {
      hint: 'its store must be a whole file system of a disk: relive live pull into the medium',
    });
  }
  const profile = parseImageName(image)?.profile;
  const newest = await newestOf(store, profile);
  if (newest !== image) {
    throw new ReliveError('usage', `the menu starts ${newest ?? 'none of this profile'} by itself`, {
      hint: `the newest image is the default: remove those that follow ${image} from the medium, or choose it in the menu`,
    });
  }
  const environment = await readEnvironment(store);
  if (environment === 'damaged') return await chooseNewest(store, image);
  const good = parseImageName(environment?.relive_good ?? '');
  if (good !== undefined && good.profile !== profile) {
    throw new ReliveError('usage', `the menu starts the images of ${good.profile} by itself`, {
      hint: 'an image becomes the default one of all profiles when it is chosen in the menu and comes up',
    });
  }
}

/**
 * Makes the image that was applied what the menu starts by itself: the newest one of its profile, with its trials.
 * @throws ReliveError as `requireDefault`, `tool-failed`
 */
export async function makeDefault(
  store: string,
  image: string,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<void> {
  await requireDefault(store, image, places);
  const mount = await fileSystemOf(store, places);
  // Without a block nothing is remembered: the newest is started.
  if (mount === undefined || (await readEnvironment(store)) === undefined) return;
  await whileWritable(mount, context, async () => await chooseNewest(store, image));
}

/**
 * Has the next start be into the image that was booted, whichever newer ones are beside it: what was applied is taken
 * back by a restart. What somebody has chosen for the next start stays.
 * @returns the image that the next start is into
 */
export async function keepBooted(
  store: string,
  booted: string,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<string> {
  const mount = (await exists(store)) ? await fileSystemOf(store, places) : undefined;
  // What is in RAM is gone then.
  if (mount === undefined) return booted;
  const newest = await newestOf(store, parseImageName(booted)?.profile);
  const here = (await listImages(store)).some(({ name }) => name === booted);
  if (newest === undefined || newest === booted || !here) return booted;
  const environment = await readEnvironment(store);
  if (environment === undefined || environment === 'damaged') return newest;
  if (environment.relive_next !== undefined) return environment.relive_next;
  try {
    await whileWritable(mount, context, async () => await chooseOnce(store, booted));
    return booted;
  } catch (error) {
    if (!isReliveError(error, 'tool-failed')) throw error;
    context.emit({
      event: 'warning',
      message: `${store} cannot be written: the next start is into ${newest}`,
    });
    return newest;
  }
}
