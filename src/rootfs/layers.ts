import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { isReliveError, ReliveError, systemCode } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { unescapeOctal } from '../core/octal.ts';
import { directoryNames, exists, ifThere, makeDirectories, sha256, writeFileAtomic } from '../host/files.ts';
import { takeLock, tryLock } from '../host/lock.ts';
import { removeAccessLists } from './acl.ts';
import { type Chroot, enterChroot } from './chroot.ts';
import { plainPath } from './plain-path.ts';
import { scrub } from './scrub.ts';
import { mountStack, unmount } from './stack.ts';

/** Changed when a stage does its work otherwise than before, so that no layer of an older relive is taken for it. */
const generation = 6;
/** A layer that no build has used for so long is removed from the cache. */
const keepDays = 7;

/** What a finished stage left: one layer, a plain directory in the cache. */
export interface Layer {
  readonly stage: string;
  /** The hash of all that went into it and into the layers below. */
  readonly key: string;
  readonly directory: string;
  /** Files which the stage made beside the tree: kernel and initrd. */
  readonly output: string;
}

/** One step of a build. */
export interface Stage {
  readonly name: string;
  /** All that decides what the stage makes; plain data, hashed as JSON. */
  readonly inputs: unknown;
  /** Does the work: in `place.root` is the system so far, changes there become the layer. */
  readonly work: (place: StagePlace, context: Context) => Promise<void>;
}

export interface StagePlace {
  readonly root: string;
  /** For files beside the tree. */
  readonly output: string;
  /** Runs programs in the system; made ready on first use. */
  readonly chroot: () => Promise<Chroot>;
}

function stagesHome(cache: string): string {
  return join(cache, 'stages');
}

/** JSON with sorted keys, so that equal values give equal text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}

/** Held together by all builds that use a cache, alone by whoever removes what is left in it. */
function cacheLock(cache: string): string {
  return join(cache, '.lock');
}

/** What stages printed that failed, for reading: STAGE-KEY.log. */
function logsHome(cache: string): string {
  return join(cache, 'logs');
}

/** So many lines of a stage are kept for its log, the last ones. */
const loggedLines = 100_000;

/** One for each layer that a build makes; removed when nobody uses the cache. */
function stageLocks(cache: string): string {
  return join(cache, 'stage-locks');
}

/** A part of a cache for one build. */
export interface CacheShare {
  /** The cache, by a path that all tools can write. */
  readonly cache: string;
  /** An empty directory for what is needed meanwhile. */
  readonly scratch: string;
  readonly release: () => Promise<void>;
}

/** What the names of such directories begin with. */
const scratchPrefix = 'scratch-';

/**
 * Lets a build use a cache, beside other builds. Whoever is the first removes what builds that were cut off have left
 * there: it may be the room it takes that is missing. Call it inside the private namespaces only.
 */
export async function shareCache(directory: string, context: Context): Promise<CacheShare> {
  const alone = await tryLock(cacheLock(directory), context);
  if (alone !== undefined) {
    try {
      await removeUnfinished(directory);
    } finally {
      await alone.release();
    }
  }
  const lock = await takeLock(cacheLock(directory), `the cache ${directory}`, context, { shared: true });
  try {
    const cache = await plainPath(directory, context);
    const scratch = await mkdtemp(join(cache, scratchPrefix));
    return {
      ...{ cache, scratch },
      release: async () => {
        await rm(scratch, { recursive: true, force: true });
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/**
 * Runs the stages in order, each on top of those before, or takes their layers from `cache` where the same inputs went
 * in. A layer appears there by one rename when its stage is done: a build that was cut off goes on from the last one.
 * Of several builds that want the same layer one makes it, and the others wait. The caller has a share of the cache and
 * is inside the private namespaces.
 * @returns the layers, bottom first
 */
export async function runStages(cache: string, stages: readonly Stage[], context: Context): Promise<Layer[]> {
  await makeDirectories(stagesHome(cache), 0o700);
  const layers: Layer[] = [];
  for (const { stage, key, place } of placesOf(cache, stages)) {
    const layer = { stage: stage.name, key, directory: join(place, 'tree'), output: join(place, 'output') };
    const made = !(await useLayer(place)) && (await makeLayer(cache, stage, layers, place, context));
    if (!made) context.emit({ event: 'stage', stage: stage.name, state: 'cached' });
    layers.push(layer);
  }
  return layers;
}

/** Whether a layer is there; its time then says that it was needed. */
async function useLayer(place: string): Promise<boolean> {
  if (!(await exists(place))) return false;
  const now = new Date();
  await utimes(place, now, now);
  return true;
}

/** Makes a layer. @returns false where another build was making it: then it is there now */
async function makeLayer(
  cache: string,
  stage: Stage,
  below: readonly Layer[],
  place: string,
  context: Context,
): Promise<boolean> {
  const lockFile = join(stageLocks(cache), basename(place));
  const lock = await takeLock(lockFile, `the stage ${stage.name}`, context);
  try {
    if (await useLayer(place)) return false;
    // Of a build that was cut off.
    await removeTree(`${place}.tmp`);
    const log = join(logsHome(cache), `${basename(place)}.log`);
    await inStage(context, stage.name, async () => {
      await keepingLog(log, context, async (logged) => await runStage(stage, below, place, logged));
    });
    return true;
  } catch (error) {
    // It may be the room it takes that is missing. What cannot be removed here the next run removes.
    await removeTree(`${place}.tmp`).catch(() => undefined);
    throw error;
  } finally {
    await lock.release();
  }
}

/** Does work, and where a program fails in it writes all that was printed to a file, which the error names. */
async function keepingLog(
  file: string,
  context: Context,
  work: (logged: Context) => Promise<void>,
): Promise<void> {
  const lines: string[] = [];
  const emit: Context['emit'] = (event) => {
    if (event.event === 'note') lines.push(event.message);
    if (lines.length > loggedLines) lines.splice(0, loggedLines / 10);
    context.emit(event);
  };
  try {
    await work({ ...context, emit });
    await rm(file, { force: true });
  } catch (error) {
    if (!isReliveError(error, 'tool-failed', 'timed-out') || lines.length === 0) throw error;
    await makeDirectories(dirname(file), 0o700);
    await writeFileAtomic(file, `${lines.join('\n')}\n\n${error.message}\n`);
    throw new ReliveError(error.code, error.message, {
      hint: [error.hint, `all that it printed is in ${file}`].filter((part) => part !== undefined).join('; '),
      cause: error,
    });
  }
}

/** Each stage with the key of its layer and the directory of that in the cache. */
function placesOf(
  cache: string,
  stages: readonly Stage[],
): { readonly stage: Stage; readonly key: string; readonly place: string }[] {
  let below = '';
  return stages.map((stage) => {
    below = keyOf(stage, below);
    return { stage, key: below, place: join(stagesHome(cache), `${stage.name}-${below}`) };
  });
}

/** The keys of the layers that stages make, in order. */
export function stageKeys(stages: readonly Stage[]): string[] {
  return placesOf('', stages).map(({ key }) => key);
}

/** The key of the layer that a stage makes upon the one with the key `below`. */
function keyOf({ name, inputs }: Pick<Stage, 'name' | 'inputs'>, below: string): string {
  return sha256(canonicalJson({ generation, stage: name, inputs, below })).slice(0, 32);
}

/** What is kept beside a layer in the cache. */
const stageFile = 'stage.json';
const stageSchema = z.object({ stage: z.string(), inputs: z.unknown() });

/** A layer that is in the cache, and what it was made of. */
export interface CachedLayer {
  readonly key: string;
  readonly directory: string;
  readonly inputs: unknown;
}

/**
 * The layers of a stage that are in the cache, of whatever build, sorted by their keys.
 * @param below the key of the layer that they lie upon; empty for the bottom
 */
export async function cachedLayers(cache: string, stage: string, below: string): Promise<CachedLayer[]> {
  const found: CachedLayer[] = [];
  for (const name of await directoryNames(stagesHome(cache))) {
    const place = join(stagesHome(cache), name);
    if (!name.startsWith(`${stage}-`) || name.endsWith('.tmp')) continue;
    const text = await ifThere(readFile(join(place, stageFile), 'utf8'));
    if (text === undefined) continue;
    const { inputs } = stageSchema.parse(JSON.parse(text));
    const key = keyOf({ name: stage, inputs }, below);
    // Else it lies upon another layer, or an older relive made it, otherwise than this one does.
    if (name === `${stage}-${key}`) found.push({ key, directory: join(place, 'tree'), inputs });
  }
  return found;
}

/** The names of the stages that `runStages` would run, since the cache does not have their layers. */
export async function pendingStages(cache: string, stages: readonly Stage[]): Promise<string[]> {
  const pending: string[] = [];
  for (const { stage, place } of placesOf(cache, stages))
    if (!(await exists(place))) pending.push(stage.name);
  return pending;
}

async function runStage(
  stage: Stage,
  below: readonly Layer[],
  place: string,
  context: Context,
): Promise<void> {
  const temporary = `${place}.tmp`;
  const tree = join(temporary, 'tree');
  const output = join(temporary, 'output');
  const merged = join(temporary, 'merged');
  await mkdir(temporary, { mode: 0o700 });
  await mkdir(tree, { mode: 0o755 });
  await mkdir(output);
  const stacked = below.length > 0;
  if (stacked) {
    const lower = below.map(({ directory }) => directory);
    await mountStack({ lower, upper: { directory: tree, work: join(temporary, 'work') } }, merged, context);
  }
  const root = stacked ? merged : tree;
  let chroot: Promise<Chroot> | undefined;
  try {
    const enter = async (): Promise<Chroot> => {
      chroot ??= enterChroot(root, context);
      return await chroot;
    };
    await stage.work({ root, output, chroot: enter }, context);
    await (await chroot)?.leave();
    await scrub(root);
  } finally {
    if (stacked) await unmount(merged, context);
    else await leaveMounts(root, context);
  }
  await removeAccessLists(tree, context);
  for (const name of ['merged', 'work']) await rm(join(temporary, name), { recursive: true, force: true });
  await writeFile(
    join(temporary, stageFile),
    `${JSON.stringify({ stage: stage.name, inputs: stage.inputs } satisfies z.infer<typeof stageSchema>)}\n`,
  );
  await rename(temporary, place);
}

/** Takes down what we, or a tool that was cut off, mounted below a root that is no mount itself. */
async function leaveMounts(root: string, context: Context): Promise<void> {
  const targets = (await readFile('/proc/self/mounts', 'utf8'))
    .split('\n')
    .map((line) => unescapeOctal(line.split(' ')[1] ?? ''))
    .filter((target) => target.startsWith(`${root}/`));
  const topmost = targets.filter((target) => !targets.some((other) => target.startsWith(`${other}/`)));
  for (const target of new Set(topmost)) await unmount(target, context);
}

/** Removes what builds that were cut off have left in a cache. Nobody else uses it. */
async function removeUnfinished(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (name.startsWith(scratchPrefix)) await rm(join(cache, name), { recursive: true, force: true });
  }
  await rm(stageLocks(cache), { recursive: true, force: true });
  const home = stagesHome(cache);
  if (!(await exists(home))) return;
  for (const name of await readdir(home)) {
    if (name.endsWith('.tmp')) await removeTree(join(home, name));
  }
}

async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (systemCode(error) !== 'EBUSY') throw error;
    throw new ReliveError(
      'host-unable',
      `${path} is left from an earlier build and something is mounted in it`,
      {
        hint: `umount --recursive ${path}/merged`,
        cause: error,
      },
    );
  }
}

/** Removes layers which no build used for a week, unless a build uses the cache just now. */
export async function pruneLayers(cache: string, context: Context): Promise<void> {
  const lock = await tryLock(cacheLock(cache), context);
  if (lock === undefined) return;
  try {
    const home = stagesHome(cache);
    const oldest = Date.now() - keepDays * 24 * 3600 * 1000;
    for (const name of await readdir(home)) {
      const place = join(home, name);
      if ((await stat(place)).mtimeMs < oldest) await removeTree(place);
    }
    for (const name of await directoryNames(logsHome(cache))) {
      const log = join(logsHome(cache), name);
      if ((await stat(log)).mtimeMs < oldest) await rm(log, { force: true });
    }
  } finally {
    await lock.release();
  }
}
