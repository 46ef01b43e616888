import { chmod, copyFile, lstat, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { basename, join } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { digestFile, directoryNames, exists, ifThere } from '../host/files.ts';
import { run } from '../host/process.ts';
import { layerFile, type ManifestLayer } from '../image/manifest.ts';
import { storePaths } from '../image/store.ts';
import { leaveStart } from './interruption.ts';
import { mountAt } from './mounts.ts';
import { keepBooted, makeDefault, requireDefault } from './next-start.ts';
import { requireRoom } from './pull-store.ts';
import { type LivePlaces, livePlaces, type RunningImage } from './running.ts';
import { type Target, verifyLayers } from './target.ts';

/** Where systemd looks for the root to go into (systemd-soft-reboot.service(8)). */
const nextRoot = '/run/nextroot';
/** In the next root: what is mounted below /run now, which does not go along by itself. */
const carriedHome = '/var/lib/relive/carried';
/** In the next root: what mounts it below /run again, and frees what is not needed any more. */
const arrival = '/usr/lib/relive/switched';
/** mount(2) cuts off what is longer than a page. */
const longestOptions = 4000;

/** What is undone, last first, when a switch does not come to pass. */
type Undo = (() => Promise<unknown>)[];

/** One switch in the making. */
interface Making {
  readonly verified: Target;
  readonly running: RunningImage;
  readonly places: LivePlaces;
  /** In RAM: mounts of the new layers, the file system for what is written, and what the next root is told. */
  readonly home: string;
  readonly undo: Undo;
  readonly context: Context;
}

async function command(
  { context: { signal } }: Pick<Making, 'context'>,
  program: string,
  ...args: readonly string[]
): Promise<string> {
  return (await run(program, args, { signal })).stdout.trim();
}

/** The same once all is over or was interrupted. */
async function anyway(program: string, ...args: readonly string[]): Promise<void> {
  await run(program, args, { signal: new AbortController().signal }).catch(() => undefined);
}

async function mount(making: Making, target: string, ...args: readonly string[]): Promise<void> {
  await mkdir(target, { recursive: true });
  const { signal } = making.context;
  // libmount else cuts lower directories at 255 bytes.
  await run('mount', [...args, target], { signal, env: { LIBMOUNT_FORCE_MOUNT2: 'always' } });
  making.undo.push(async () => await anyway('umount', '--recursive', '--lazy', target));
}

async function loopDevice(making: Making, file: string): Promise<string> {
  const device = await command(making, 'losetup', '--read-only', '--find', '--show', file);
  making.undo.push(async () => await anyway('losetup', '--detach', device));
  return device;
}

/** A device that shows a layer and refuses what its hash tree does not prove (runtime/initramfs/relive, relive_verity). */
async function verityDevice(making: Making, layer: ManifestLayer): Promise<string> {
  const { store } = making.verified;
  const data = await loopDevice(making, storePaths.layer(store, layer));
  const hashes = await loopDevice(making, storePaths.verity(store, layer));
  const blocks = layer.size / 4096;
  const table = `0 ${layer.size / 512} verity 1 ${data} ${hashes} 4096 4096 ${blocks} 0 sha256 ${layer.verity.root} ${layer.digest}`;
  // That of an earlier switch may not be gone yet.
  const name = `relive-${basename(making.home)}-${layer.digest.slice(0, 16)}`;
  await command(making, 'dmsetup', 'create', name, '--readonly', '--table', table);
  making.undo.push(async () => await anyway('dmsetup', 'remove', '--retry', name));
  return `/dev/mapper/${name}`;
}

/** A copy in RAM, of which every byte was checked. */
async function ramCopy(making: Making, layer: ManifestLayer): Promise<string> {
  const { verified, places, context } = making;
  const { store } = verified;
  const directory = join(places.home, 'ram');
  await requireRoom({ store: directory, inRam: true }, layer.size);
  const copy = join(directory, layerFile(layer));
  making.undo.push(async () => await rm(copy, { force: true }));
  await copyFile(storePaths.layer(store, layer), copy);
  if ((await digestFile(copy, 'sha256', context.signal)).digest !== layer.digest) {
    throw new ReliveError(
      'corrupt',
      `${storePaths.layer(store, layer)} is damaged: it has another SHA-256 than its manifest says`,
      { hint: 'remove it; relive live pull fetches it again' },
    );
  }
  return await loopDevice(making, copy);
}

/** Makes the tree of a layer visible in `target`: that of the running system, where it has it. */
async function mountLayer(making: Making, layer: ManifestLayer, target: string): Promise<void> {
  const same = making.running.layers.find((each) => each.layer.digest === layer.digest);
  if (same !== undefined) return await mount(making, target, '--bind', same.directory);
  if (layer.compression === 'lzma') {
    throw new ReliveError(
      'usage',
      `${layerFile(layer)} is compressed by lzma, which the kernel cannot mount`,
      {
        hint: 'relive live reboot',
      },
    );
  }
  const device =
    making.running.ram === 'none' ? await verityDevice(making, layer) : await ramCopy(making, layer);
  await mount(making, target, '-t', 'squashfs', '-o', 'ro,noatime', device);
}

/** The new stack at /run/nextroot, with its own file system in RAM for what is written. */
async function mountNextRoot(making: Making): Promise<void> {
  const { verified, home } = making;
  const lower: string[] = [];
  for (const [index, layer] of verified.manifest.layers.entries()) {
    const place = join(home, 'layers', String(index));
    await mountLayer(making, layer, place);
    lower.unshift(place);
  }
  const overlay = join(home, 'overlay');
  await mount(making, overlay, '-t', 'tmpfs', '-o', 'noatime,mode=755,size=50%', 'tmpfs');
  for (const name of ['rw', 'work']) await mkdir(join(overlay, name), { mode: 0o755 });
  const options = `noatime,lowerdir=${lower.join(':')},upperdir=${overlay}/rw,workdir=${overlay}/work,redirect_dir=on`;
  if (options.length > longestOptions) {
    throw new ReliveError('host-unable', `the stack of ${lower.length} layers does not fit into one mount`, {
      hint: 'relive live reboot',
    });
  }
  await mount(making, nextRoot, '-t', 'overlay', '-o', options, 'overlay');
  if (!(await exists(join(nextRoot, arrival)))) {
    throw new ReliveError('usage', `${verified.image.name} cannot be switched to: it has no ${arrival}`, {
      hint: 'its profile needs "live: true"; relive live reboot',
    });
  }
}

/** The machine stays the one that it is: its id, its name, its SSH host keys. */
async function copyIdentity(): Promise<void> {
  const copy = async (path: string): Promise<void> => {
    const status = await lstat(path).catch(() => undefined);
    if (status?.isFile() !== true || !(await exists(join(nextRoot, path, '..')))) return;
    await copyFile(path, join(nextRoot, path));
    await chmod(join(nextRoot, path), status.mode & 0o777);
  };
  for (const path of ['/etc/machine-id', '/etc/hostname', '/etc/hosts']) await copy(path);
  const link = await lstat(join(nextRoot, '/etc/ssh')).catch(() => undefined);
  if (link?.isDirectory() !== true) return;
  for (const name of await directoryNames('/etc/ssh')) {
    if (/^ssh_host_\w+_key(\.pub)?$/.test(name)) await copy(`/etc/ssh/${name}`);
  }
}

/** The volumes that are mounted go along as they are: nothing else may check or mount them meanwhile. */
async function bindVolumes(making: Making): Promise<void> {
  for (const name of await directoryNames(join(making.places.home, 'volumes'))) {
    const volume = `/volumes/${name}`;
    if ((await mountAt(volume, making.places)) !== undefined) {
      await mount(making, join(nextRoot, volume), '--bind', volume);
    }
  }
}

/** Mounts below /run stay behind in a soft-reboot; those that the system stands on are bound into the next root. */
async function carryMounts(making: Making): Promise<void> {
  const { places, home } = making;
  const wanted = [join(home, 'overlay'), join(places.home, 'ram'), join(places.home, 'store'), places.medium];
  wanted.push(...(await directoryNames(join(home, 'layers'))).map((name) => join(home, 'layers', name)));
  const carried: string[] = [];
  for (const target of wanted) {
    if ((await mountAt(target, places)) === undefined) continue;
    await mount(making, join(nextRoot, carriedHome, String(carried.length)), '--bind', target);
    carried.push(target);
  }
  await writeFile(join(home, 'carried'), carried.map((target) => `${target}\n`).join(''));
}

/** The directory below `ram` that a layer was unpacked to (runtime/initramfs/relive), by whatever bind mounts its tree is seen. */
async function unpackedTo(making: Making, directory: string): Promise<string | undefined> {
  const ram = await ifThere(stat(join(making.places.home, 'ram')));
  if (ram === undefined || (await stat(directory)).dev !== ram.dev) return undefined;
  return (
    await command(making, 'findmnt', '--noheadings', '--first-only', '--output', 'FSROOT', directory)
  ).slice(1);
}

/** The devices and copies that only the layers stand on which the new stack does not have: "loop DEVICE", "dm NAME", "ram NAME". */
async function leavings(making: Making): Promise<string[]> {
  const { verified, running, places } = making;
  const kept = new Set(verified.manifest.layers.map(({ digest }) => digest));
  const lines: string[] = [];
  for (const { layer, directory } of running.layers) {
    if (kept.has(layer.digest)) continue;
    const mounted = await mountAt(directory, places);
    if (mounted?.device.startsWith('/dev/mapper/') === true) lines.push(`dm ${mounted.device.slice(12)}`);
    if (mounted?.device.startsWith('/dev/loop') === true) lines.push(`loop ${mounted.device}`);
    const name = layerFile(layer).replace('.squashfs', '');
    for (const device of await readdir('/sys/block')) {
      const backing = await readFile(`/sys/block/${device}/loop/backing_file`, 'utf8').catch(() => '');
      if (backing.includes(`/${name}.`)) lines.push(`loop /dev/${device}`);
    }
    lines.push(`ram ${layerFile(layer)}`);
    const unpacked = await unpackedTo(making, directory);
    if (unpacked !== undefined) lines.push(`ram ${unpacked}`);
  }
  return [...new Set(lines)];
}

/**
 * Refuses what a switch cannot do.
 * @throws ReliveError `usage`
 */
export function requireSameKernel(
  { image, manifest }: Pick<Target, 'image' | 'manifest'>,
  running: Pick<RunningImage, 'manifest'>,
  version = release(),
): void {
  const { kernel } = running.manifest;
  if (manifest.kernel.version === version && kernel?.digest === manifest.kernel.digest) return;
  throw new ReliveError(
    'usage',
    `${image.name} has another kernel: ${manifest.kernel.version}, and this machine runs ${version}`,
    { hint: 'relive live reboot starts it' },
  );
}

/** A directory in RAM for one switch. */
async function newHome(places: LivePlaces): Promise<string> {
  const all = join(places.home, 'switch');
  await mkdir(all, { recursive: true });
  for (let number = 1; ; number += 1) {
    const home = join(all, String(number));
    try {
      await mkdir(home);
      return home;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  }
}

/**
 * Makes all of user space new, on the same kernel: the stack of an image, read once and checked, and from then on as the
 * running one is (dm-verity, or copies in RAM), becomes the next root, with the volumes that are mounted; then systemd ends
 * all services and goes into it. When anything is wrong before that, the machine is left as it was.
 * @param asDefault whether the next starts are into the image, too; else the next one is into what was booted
 * @returns the image that the next start is into
 * @throws ReliveError `usage`, `exists`, `corrupt`, `disk-full`, `tool-failed`
 */
export async function switchTo(
  verified: Target,
  running: RunningImage,
  asDefault: boolean,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<string> {
  requireSameKernel(verified, running);
  const { store, manifest } = verified;
  if (asDefault) await requireDefault(store, manifest.image, places);
  // What is damaged in a part that is read late would be noticed when there is no way back.
  await inStage(context, 'verify', async () => await verifyLayers(verified, running, context, true));
  if ((await mountAt(nextRoot, places)) !== undefined) {
    throw new ReliveError('exists', `another root is mounted at ${nextRoot} already`, {
      hint: `systemctl soft-reboot goes into it; umount --recursive ${nextRoot} drops it`,
    });
  }
  const home = await newHome(places);
  const undo: Undo = [async () => await rm(home, { recursive: true, force: true, maxRetries: 3 })];
  const making: Making = { verified, running, places, home, undo, context };
  try {
    await inStage(context, 'mount', async () => {
      await mountNextRoot(making);
      await copyIdentity();
      await bindVolumes(making);
      await carryMounts(making);
    });
    await writeFile(join(home, 'leavings'), (await leavings(making)).map((line) => `${line}\n`).join(''));
    await writeFile(join(home, 'manifest.json'), verified.manifestText);
    await writeFile(join(home, 'image'), `${manifest.image}\n`);
    // What a restart goes back to.
    await writeFile(join(home, 'booted'), `${asDefault ? manifest.image : running.booted}\n`);
    await writeFile(join(places.home, 'switching'), `${home}\n`);
    undo.push(async () => await rm(join(places.home, 'switching'), { force: true }));
    if (asDefault) await makeDefault(store, manifest.image, context, places);
    const next = asDefault ? manifest.image : await keepBooted(store, running.booted, context, places);
    await leaveStart('switch', Date.now(), places);
    undo.push(async () => await rm(join(places.home, 'interrupting'), { force: true }));
    // From here on it happens: an interrupt would come from systemd itself, which ends all that runs.
    await run('systemctl', ['--no-block', 'soft-reboot'], { signal: new AbortController().signal });
    return next;
  } catch (error) {
    for (const step of undo.toReversed()) await step();
    throw error;
  }
}
