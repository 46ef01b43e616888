import { appendFile, lstat, mkdtemp, readFile, realpath, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { home as ownHome } from '../core/home.ts';
import { exists, ifThere, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import {
  formatPersistLine,
  lockedVolumes,
  type PersistEntry,
  parsePersistLine,
  persistConfiguration,
} from '../site/persistent.ts';
import { volumeDirectory } from '../site/volume.ts';
import { mountAt } from './mounts.ts';
import { type LivePlaces, livePlaces } from './running.ts';

/** A path whose data are on a volume, or should be. */
export interface KeptPath extends PersistEntry {
  /** Kept because the image says so, or since `relive live persist add`, until the next start. */
  readonly since: 'image' | 'added';
  /** Whether the volume is encrypted. */
  readonly encrypted: boolean;
  /** Why it is not kept, or what is wrong with the volume all the same; `ok` where nothing is. */
  readonly state: string;
  /** Of the volume, in bytes; null where it is not in use. */
  readonly space: { readonly size: number; readonly free: number } | null;
}

/** What `add` has brought, in relive's directory in RAM; of the same form. */
const addedName = 'persist.conf';
/** The script, which an image has only where its profile keeps anything. */
const script = join(ownHome, 'runtime/persist/relive-persist');

async function linesOf(file: string): Promise<string[]> {
  return ((await ifThere(readFile(file, 'utf8'))) ?? '').split('\n').filter((line) => line !== '');
}

async function stateOf(volume: string, { home }: LivePlaces): Promise<string> {
  const [state = 'it was never looked for'] = await linesOf(join(home, 'volumes', volumeDirectory(volume)));
  return state;
}

async function spaceOf(volume: string, places: LivePlaces): Promise<KeptPath['space']> {
  const place = `/volumes/${volumeDirectory(volume)}`;
  if ((await mountAt(place, places)) === undefined) return null;
  const { blocks, bavail, bsize } = await statfs(join(places.root, place));
  return { size: blocks * bsize, free: bavail * bsize };
}

/**
 * What this machine keeps on volumes: by its image, and since by `addPersistent`.
 * @returns in the order of the profile, then what was added
 */
export async function keptPaths(places: LivePlaces = livePlaces): Promise<KeptPath[]> {
  const locked = await linesOf(join(places.root, lockedVolumes));
  const encrypted = new Set(locked.map((line) => line.split('\t')[0]));
  const listed = async (file: string, since: KeptPath['since']): Promise<KeptPath[]> =>
    await Promise.all(
      (await linesOf(file)).map(async (line) => {
        const entry = parsePersistLine(line);
        const { volume } = entry;
        return {
          ...entry,
          since,
          encrypted: encrypted.has(volume),
          state: await stateOf(volume, places),
          space: await spaceOf(volume, places),
        };
      }),
    );
  return [
    ...(await listed(join(places.root, persistConfiguration), 'image')),
    ...(await listed(join(places.home, addedName), 'added')),
  ];
}

/** An item of `persist` of a profile, with what is not as it would be unless given. */
export function profileLine({ path, volume, how, owner, mode, seed, required, grow }: PersistEntry): string {
  const value = {
    ...{ path, volume },
    ...(how === 'link' ? {} : { how }),
    ...(owner === undefined ? {} : { owner }),
    ...(mode === undefined ? {} : { mode }),
    ...(seed ? {} : { seed }),
    ...(required ? { required } : {}),
    ...(grow ? { grow } : {}),
  };
  return `- ${stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trim()}`;
}

/** What the script says when it fails, in one line. */
async function runScript(args: readonly string[], context: Context): Promise<string | undefined> {
  const { status, stdout, stderr } = await run('dash', [script, ...args], {
    signal: context.signal,
    accept: [0, 1],
  });
  if (status === 0) return undefined;
  return (stdout.trim() || stderr.trim()).replaceAll(/^relive: /gm, '').replaceAll('\n', '; ');
}

/**
 * Keeps a path on a volume from now on, until the next start: what is there now is copied to the volume, unless that has
 * something for the path already, and the volume's is put over it by a bind mount, whatever the profile is to say.
 * @throws ReliveError `usage` for a path that cannot be kept, `exists` where it is, `host-unable` where the volume cannot be had
 */
export async function addPersistent(
  entry: PersistEntry,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<void> {
  const { path, volume } = entry;
  const other = (await keptPaths(places)).find(
    (kept) => `${path}/`.startsWith(`${kept.path}/`) || kept.path.startsWith(`${path}/`),
  );
  if (other !== undefined) {
    throw new ReliveError('exists', `${other.path} is kept already, on the volume ${other.volume}`, {
      hint: 'relive live persist list shows what is kept',
    });
  }
  if (!(await exists(path))) await makeDirectories(path);
  if ((await lstat(path)).isSymbolicLink()) {
    throw new ReliveError('usage', `${path} is a symbolic link to ${await realpath(path)}`, {
      hint: 'name the directory or file itself',
    });
  }
  if ((await mountAt(path, places)) !== undefined) {
    throw new ReliveError('exists', `something is mounted at ${path} already`);
  }
  const scratch = await mkdtemp(join(tmpdir(), 'relive-persist-'));
  try {
    const file = join(scratch, addedName);
    // In the way that can be put over what programs have open, and not without the volume.
    await writeFile(file, formatPersistLine({ ...entry, how: 'bind', required: true }));
    const failed = await runScript(['add', file], context);
    if (failed !== undefined) {
      const state = await stateOf(volume, places);
      throw new ReliveError(
        'host-unable',
        state === 'ok' ? failed : `${path} cannot be kept: the volume ${volume}: ${state}`,
        { hint: `a volume is a file system with that label: mkfs.ext4 -L ${volumeDirectory(volume)} DEVICE` },
      );
    }
    await appendFile(join(places.home, addedName), formatPersistLine(entry));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/**
 * Gives the file system of a volume that is in use all of its disk or partition, through LUKS where it is encrypted.
 * @returns its size before and after, in bytes
 * @throws ReliveError `not-found` where it is not in use; `host-unable` where it does not grow
 */
export async function growVolume(
  volume: string,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<{ readonly before: number; readonly after: number }> {
  const before = await spaceOf(volume, places);
  if (before === null) {
    throw new ReliveError('not-found', `no volume ${volume} is in use`, {
      hint: 'relive live persist list names them',
    });
  }
  const failed = await runScript(['grow', volume], context);
  if (failed !== undefined) {
    throw new ReliveError('host-unable', `the volume ${volume} could not grow: ${failed}`);
  }
  return { before: before.size, after: (await spaceOf(volume, places))?.size ?? before.size };
}
