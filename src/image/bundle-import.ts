import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { explainDiskFull, freeBytes } from '../host/files.ts';
import { TarReader } from '../host/tar.ts';
import { type BundleSource, type ImportOptions, readHead } from './bundle-head.ts';
import { type ImportPlan, prepare, receivedDirectory } from './bundle-plan.ts';
import { receive, removeUnfinished } from './bundle-receive.ts';
import { lockStore } from './store.ts';

/** Besides the files: directories, and the room that a file system wants for itself. */
const slackBytes = 4 * 1024 * 1024;

export interface Imported extends ImportPlan {
  readonly directory: string;
  /** The image was there, whole: nothing was done. */
  readonly unchanged: boolean;
}

/**
 * Tells what an import would do, and reads no more of the bundle than its head.
 * @throws ReliveError as `importBundle`
 */
export async function planImport(
  store: string,
  source: BundleSource,
  options: ImportOptions,
  context: Context,
): Promise<ImportPlan> {
  const head = await readHead(new TarReader(source.stream, source.name), source.name, options, context);
  return (await prepare(store, head, options, context)).plan;
}

/**
 * Brings the image of a bundle into a store, reading the bundle once. Everything is proven before the image appears, by one
 * rename: the manifest by its signature before anything else is read, each layer by its digest in the manifest while it is
 * received. Layers that the store has are not written again, nor those which an import that was cut off has received.
 * @throws ReliveError `not-authentic`, `corrupt`; `not-found` naming all layers that are missing; `exists` for another image of
 *   that name; `disk-full`
 */
export async function importBundle(
  store: string,
  source: BundleSource,
  options: ImportOptions,
  context: Context,
): Promise<Imported> {
  const reader = new TarReader(source.stream, source.name);
  const head = await readHead(reader, source.name, options, context);
  const lock = await lockStore(store, context);
  try {
    const prepared = await prepare(store, head, options, context);
    const { plan, image } = prepared;
    const { directory } = image;
    if (plan.standing === 'there') return { ...plan, directory, unchanged: true };
    await requireRoom(store, plan.bytes);
    try {
      await receive(store, reader, source.name, prepared, options, context);
    } catch (error) {
      await removeUnfinished(receivedDirectory(store));
      throw explainDiskFull(error, store);
    }
    return { ...plan, directory, unchanged: false };
  } finally {
    await lock.release();
  }
}

/** @throws ReliveError `disk-full` with the sum, before anything is written */
async function requireRoom(store: string, bytes: number): Promise<void> {
  const free = await freeBytes(store);
  if (free >= bytes + slackBytes) return;
  throw new ReliveError(
    'disk-full',
    `the import needs ${bytes + slackBytes} bytes in ${store}, which has ${free}`,
    {
      hint: 'make room there: relive image prune removes images that nobody needs',
    },
  );
}
