import { readdirSync } from 'node:fs';
import { readFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { directoryNames, ifThere } from '../host/files.ts';
import type { Manifest, ManifestLayer } from '../image/manifest.ts';
import { readManifest } from '../image/store.ts';
import { directoryType, identityOf, linkType } from '../rootfs/delta.ts';
import { bytesOfPath, entryStatus, readSome, type TreeEntry } from '../rootfs/tree.ts';
import { snapshotOf } from './changes.ts';
import { type Demand, type Disturbance, greatest, kernelDemands, packageDemands } from './disturbance.ts';
import { type Interruption, interruptions } from './interruption.ts';
import { currentManifest, type KeptJournal, readJournals } from './journal.ts';
import {
  bootTime,
  type LivePlaces,
  livePlaces,
  newerImages,
  type RunningImage,
  runningImage,
  storeAtHand,
} from './running.ts';
import { treeOrder } from './stack-difference.ts';
import { missingLayers } from './target.ts';

/** Something in RAM that the image has not, or has otherwise. */
export interface OwnEntry {
  readonly path: string;
  readonly kind: 'added' | 'changed' | 'removed';
  /** In bytes. */
  readonly size: number;
}

/** An image that could be applied. */
export interface NewerImage {
  readonly image: string;
  /** Of layers that are not here yet, in bytes. */
  readonly read: number;
  /** By what the manifests say; `relive live plan` compares the trees. */
  readonly disturbance: Disturbance;
  readonly demands: readonly Demand[];
}

export interface VolumeState {
  readonly name: string;
  /** `ok`, or why it is not in use. */
  readonly state: string;
}

export interface LiveStatus {
  readonly image: string;
  readonly parent: string | null;
  /** When the machine was started. */
  readonly booted: string;
  /** When all of user space was made new last, and which image a restart goes back to. */
  readonly switched: { readonly at: string; readonly booted: string } | null;
  /** The image that the system was brought to since, when, and whether that was cut off. */
  readonly applied: { readonly image: string; readonly at: string; readonly complete: boolean } | null;
  readonly ram: RunningImage['ram'];
  readonly layers: readonly Pick<ManifestLayer, 'role' | 'digest' | 'size'>[];
  readonly memory: {
    /** What was written since the boot, in bytes. */
    readonly written: number;
    /** What may still be written. */
    readonly free: number;
    /** What the image itself takes in RAM. */
    readonly image: number;
  };
  /** What was changed by hand, largest first. */
  readonly entries: readonly OwnEntry[];
  /** What programs write in the course of their work: how many files, how many bytes. */
  readonly work: { readonly files: number; readonly bytes: number };
  readonly volumes: readonly VolumeState[];
  readonly store: string | null;
  readonly newer: readonly NewerImage[];
  /** How long relive live switch and reboot have interrupted this machine, oldest first. */
  readonly interruptions: readonly Interruption[];
  /** Why a restart is wanted. */
  readonly restart: readonly string[];
}

/** Where programs write in the course of their work. */
const work =
  /^(run|tmp|var\/(log|tmp|cache|spool)|var\/lib\/(systemd|dhcp|dhcpcd|NetworkManager|dbus|private|urandom|apt\/lists)|root\/\.cache)(\/|$)/;
/** What each boot makes: nobody has changed it by hand. */
const ofBoot =
  /^(etc|var)\/\.updated$|^etc\/(machine-id|resolv\.conf|\.pwd\.lock|ld\.so\.cache|mtab|adjtime)$|^etc\/ssh\/ssh_host_[^/]+$/;

/** Every entry of the directory that takes what is written, relative to it; no directories that only lead there. */
function written(upper: string): string[] {
  const found: string[] = [];
  const walk = (path: string): void => {
    for (const name of readdirSorted(upper, path)) {
      const inside = path === '' ? name : `${path}/${name}`;
      found.push(inside);
      if (entryStatus(upper, inside)?.isDirectory() === true) walk(inside);
    }
  };
  walk('');
  return found;
}

function readdirSorted(root: string, path: string): string[] {
  return readdirSync(bytesOfPath(root, path), 'latin1').toSorted();
}

/** The entry that the layers show at a path; layers bottom first. */
function layerOf(path: string, layers: RunningImage['layers']): string | undefined {
  for (const { directory } of layers.toReversed()) {
    const status = entryStatus(directory, path);
    if (status === undefined) continue;
    return status.isCharacterDevice() && status.rdev === 0 ? undefined : directory;
  }
  return undefined;
}

interface Differences {
  readonly entries: readonly OwnEntry[];
  readonly work: LiveStatus['work'];
}

/** What in RAM differs from the image, and from what was applied. */
async function readDifferences(
  running: RunningImage,
  journals: readonly KeptJournal[],
  context: Context,
): Promise<Differences> {
  const { upper, layers } = running;
  const all = written(upper);
  const paths = all.filter((path) => !work.test(path));
  const noise = all.filter((path) => work.test(path)).map((path) => entryStatus(upper, path));
  const now = snapshotOf(await readSome(upper, treeOrder(paths), context)).entries;
  const below = new Map<string, TreeEntry>();
  for (const { directory } of layers) {
    const inLayer = paths.filter((path) => layerOf(path, layers) === directory);
    const { entries: shown } = snapshotOf(await readSome(directory, treeOrder(inLayer), context));
    for (const [path, entry] of shown) below.set(path, entry);
  }
  const applied = new Map(
    journals.flatMap(({ journal }) => journal.changes.map((change) => [change.path, change.after] as const)),
  );
  const entries: OwnEntry[] = [];
  for (const [path, entry] of now) {
    if (ofBoot.test(path)) continue;
    // Debian's systemd-tmpfiles makes the link; a file there is somebody's own.
    if (path === 'etc/default/locale' && entry.type === linkType) continue;
    const deleted = entry.type === 0o020000 && entry.content[0] === 0;
    const old = below.get(path);
    const wanted = applied.get(path);
    if (wanted !== undefined && (deleted ? wanted === null : wanted !== null && isSame(wanted, entry)))
      continue;
    if (deleted ? old === undefined : old !== undefined && isSame(old, entry)) continue;
    // What leads to an entry is in RAM, too: its mode and owner are what may differ.
    if (entry.type === directoryType && old?.type === directoryType && old.mode === entry.mode) {
      if (old.uid === entry.uid && old.gid === entry.gid) continue;
    }
    const kind = deleted ? 'removed' : old === undefined ? 'added' : 'changed';
    entries.push({ path: `/${Buffer.from(path, 'latin1').toString('utf8')}`, kind, size: entry.size });
  }
  const files = noise.filter((status) => status?.isFile() === true);
  return {
    entries: entries.toSorted((a, b) => b.size - a.size || (a.path < b.path ? -1 : 1)),
    work: { files: files.length, bytes: files.reduce((sum, status) => sum + (status?.size ?? 0), 0) },
  };
}

function isSame(a: TreeEntry, b: TreeEntry): boolean {
  return identityOf(a) === identityOf(b);
}

/** When the running system was switched to, by what runtime/live/relive-switched leaves. */
async function lastSwitch({ booted }: RunningImage, { home }: LivePlaces): Promise<LiveStatus['switched']> {
  const status = await ifThere(stat(join(home, 'image')));
  return status === undefined ? null : { at: status.mtime.toISOString(), booted };
}

async function readVolumes({ home }: LivePlaces): Promise<VolumeState[]> {
  const directory = join(home, 'volumes');
  const names = await directoryNames(directory);
  return await Promise.all(
    names
      .toSorted((a, b) => (a < b ? -1 : 1))
      .map(async (name) => ({ name, state: (await readFile(join(directory, name), 'utf8')).trim() })),
  );
}

/** @param current the manifest of what was booted, or applied last */
async function readNewer(
  store: string | undefined,
  running: RunningImage,
  current: Manifest,
): Promise<NewerImage[]> {
  if (store === undefined) return [];
  const newer: NewerImage[] = [];
  for (const image of await newerImages(store, current)) {
    try {
      const manifest = await readManifest(image);
      const demands = [...kernelDemands(running.manifest, manifest), ...packageDemands(current, manifest)];
      newer.push({
        image: image.name,
        read: missingLayers(manifest, running).reduce((sum, { size }) => sum + size, 0),
        disturbance: greatest(demands),
        demands,
      });
    } catch (error) {
      // An image that is damaged is none that could be applied; relive image verify says what is wrong with it.
      if (!isReliveError(error, 'corrupt')) throw error;
    }
  }
  return newer;
}

/**
 * How the running system stands to its image.
 * @param given the store to look for newer images in; the one at hand unless given
 * @throws ReliveError `host-unable` where no image runs; `not-found` for what is no store
 */
export async function liveStatus(
  given: string | undefined,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<LiveStatus> {
  const running = await runningImage(places);
  const { manifest, upper } = running;
  const journals = await readJournals(upper);
  const last = journals.at(-1)?.journal;
  const differences = await readDifferences(running, journals, context);
  const { blocks, bavail, bfree, bsize } = await statfs(upper);
  const store = await storeAtHand(given, places);
  const size = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  const applied =
    last === undefined
      ? null
      : { image: last.to, at: last.finished ?? last.started, complete: last.state === 'done' };
  return {
    image: manifest.image,
    parent: manifest.parent?.image ?? null,
    booted: (await bootTime()).toISOString(),
    switched: await lastSwitch(running, places),
    applied,
    ram: running.ram,
    layers: manifest.layers.map(({ role, digest, size: bytes }) => ({ role, digest, size: bytes })),
    memory: {
      written: (blocks - bfree) * bsize,
      free: bavail * bsize,
      image: running.ram === 'none' ? 0 : running.ram === 'layers' ? size : manifest.unpacked,
    },
    ...differences,
    volumes: await readVolumes(places),
    store: store ?? null,
    newer: await readNewer(store, running, currentManifest(running, journals)),
    interruptions: await interruptions(places),
    restart: restartReasons(last, manifest.image),
  };
}

/** Why a restart is wanted after what was applied. */
function restartReasons(last: KeptJournal['journal'] | undefined, image: string): string[] {
  if (last === undefined) return [];
  const kernel = last.left.filter(({ why }) => why.startsWith('it belongs to the kernel'));
  return [
    ...(last.state === 'done'
      ? []
      : [`the apply of ${last.to} was cut off: relive live apply or undo; a restart goes back to ${image}`]),
    ...(kernel.length > 0 ? [`${kernel.length} files of the kernel of ${last.to} are not in force`] : []),
    ...last.units.leave.map(({ unit, why }) => `${unit}: ${why}`),
  ];
}
