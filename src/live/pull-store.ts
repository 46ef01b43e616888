import { freemem } from 'node:os';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { megabytes } from '../core/megabytes.ts';
import { freeBytes, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { mountAt } from './mounts.ts';
import { configuredStore, type LivePlaces, livePlaces, storeAtHand } from './running.ts';

/** The store that images are brought into, and how to leave it. */
export interface TargetStore {
  readonly store: string;
  /** Whether it is in RAM, and gone at the next start. */
  readonly inRam: boolean;
  /** Makes the medium read-only again, where it was. */
  readonly release: () => Promise<void>;
}

/** The file systems of media that are written while they hold a store. */
const writable = new Set(['ext4', 'vfat', 'btrfs', 'xfs', 'exfat']);
const nothing = async (): Promise<void> => undefined;

/** The medium's store, made writable, or undefined where it cannot be. */
async function mediumStore(places: LivePlaces, context: Context): Promise<TargetStore | undefined> {
  const { medium } = places;
  const elsewhere = { ...places, home: '/nonexistent', configuration: '/nonexistent' };
  if ((await storeAtHand(undefined, elsewhere)) !== medium) return undefined;
  const mount = await mountAt(medium, places);
  if (mount === undefined || !writable.has(mount.type)) return undefined;
  if (mount.options.includes('rw')) return { store: medium, inRam: false, release: nothing };
  try {
    await run('mount', ['-o', 'remount,rw', medium], { signal: context.signal });
  } catch (error) {
    if (!isReliveError(error, 'tool-failed')) throw error;
    return undefined;
  }
  return {
    store: medium,
    inRam: false,
    release: async () => {
      // Also after an interrupt.
      await run('mount', ['-o', 'remount,ro', medium], { signal: new AbortController().signal });
    },
  };
}

/** A store in RAM, in a file system of its own. */
async function ramStore(places: LivePlaces, context: Context): Promise<TargetStore> {
  const store = join(places.home, 'store');
  await makeDirectories(store, 0o755);
  if ((await mountAt(store, places)) === undefined) {
    await run('mount', ['-t', 'tmpfs', '-o', 'mode=755,size=95%', 'tmpfs', store], {
      signal: context.signal,
    });
  }
  return { store, inRam: true, release: nothing };
}

/**
 * Where fetched images go: the store that is named, that on the volume of the configuration, the medium's, or one in RAM
 * where nothing can be written.
 * @param given a directory on a volume, for example; made where it is not there
 */
export async function targetStore(
  given: string | undefined,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<TargetStore> {
  if (given !== undefined) {
    await makeDirectories(given);
    return { store: given, inRam: false, release: nothing };
  }
  const configured = await configuredStore(places);
  if (configured !== undefined) {
    await makeDirectories(configured);
    return { store: configured, inRam: false, release: nothing };
  }
  return (await mediumStore(places, context)) ?? (await ramStore(places, context));
}

/** Memory that programs need besides what is fetched. */
const reserveBytes = 128 * 1024 * 1024;

/**
 * Says no before anything is fetched that would not fit.
 * @throws ReliveError `disk-full`
 */
export async function requireRoom(
  { store, inRam }: Pick<TargetStore, 'store' | 'inRam'>,
  bytes: number,
): Promise<void> {
  const onDisk = await freeBytes(store);
  const free = inRam ? Math.min(onDisk, freemem() - reserveBytes) : onDisk;
  if (bytes <= free) return;
  throw new ReliveError(
    'disk-full',
    `there is no room for the image: it takes ${megabytes(bytes)} more, and ${inRam ? 'RAM' : store} has ${megabytes(free)}`,
    {
      hint: inRam
        ? 'name a store on a volume with --store; what is on the medium already is not fetched'
        : 'remove images there: relive image remove, or relive medium sync --keep on the site',
    },
  );
}
