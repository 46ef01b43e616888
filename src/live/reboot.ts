import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { ifThere } from '../host/files.ts';
import { run } from '../host/process.ts';
import { kernelCommandLine } from '../image/boot-entry.ts';
import { listImages } from '../image/store.ts';
import { chooseOnce, countStart, type Environment, readEnvironment } from '../medium/environment.ts';
import { leaveStart } from './interruption.ts';
import type { Mount } from './mounts.ts';
import { fileSystemOf, whileWritable } from './next-start.ts';
import { type LivePlaces, livePlaces } from './running.ts';
import type { Target } from './target.ts';
import { copyBootFiles, requireLayers } from './verified.ts';

/** A parameter that whoever starts the kernel adds; the initramfs finds an image in an ISO file by it. */
const findiso = /(?:^| )(findiso=[^ ]+)/;
/** Whether this kernel takes no other any more (sysctl kernel.kexec_load_disabled). */
const disabled = '/proc/sys/kernel/kexec_load_disabled';

/** What an image is started with by kexec. */
export interface KexecPlan {
  readonly commandLine: string;
  /** Whether the start is counted as a trial, in the environment block of the store. */
  readonly trial: boolean;
}

/** A start that is counted (docs/booting.md). */
export interface Trial {
  /** Of the file system whose environment block it is counted in. */
  readonly uuid: string;
  /** Whether there is another image to go back to. */
  readonly back: boolean;
}

/**
 * The kernel's parameters: those that boot.cfg gives for the image, and what GRUB adds to them (runtime/grub/functions.cfg).
 * @param running the command line of the kernel that runs
 * @param trial undefined where it is none
 * @param started milliseconds since 1970, for measuring
 */
export function kexecCommandLine(
  { manifest, manifestText }: Pick<Target, 'manifest' | 'manifestText'>,
  running: string,
  trial: Trial | undefined,
  started: number,
): string {
  const { ram } = manifest.boot;
  const iso = findiso.exec(running)?.[1];
  return [
    ...kernelCommandLine(manifest, manifestText),
    ...(ram === 'none' ? [] : [`relive.ram=${ram}`]),
    ...(iso === undefined ? [] : [iso]),
    ...(trial === undefined ? [] : [`relive.trial=${trial.uuid}`]),
    // What does not come up goes back by way of the firmware, as long as that leads anywhere.
    ...(trial?.back === true ? ['relive.restart', 'panic=30'] : []),
    `relive.interrupted=kexec:${started}`,
  ].join(' ');
}

/** What a store remembers of starts; undefined where it remembers nothing. */
async function memoryOf(store: string): Promise<Environment | undefined> {
  const environment = await readEnvironment(store);
  return environment === 'damaged' ? undefined : environment;
}

/** The trial that a start of an image of a store is; undefined for one that came up last. */
async function trialOf(
  store: string,
  { device }: Mount,
  memory: Environment,
  image: string,
  context: Context,
): Promise<Trial | undefined> {
  if (memory.relive_good === image) return undefined;
  const { stdout } = await run('blkid', ['-o', 'value', '-s', 'UUID', device], { signal: context.signal });
  return { uuid: stdout.trim(), back: (await listImages(store)).length > 1 };
}

/** @throws ReliveError `usage` for a store that neither the menu nor the initramfs would find */
function notFound({ manifest, store }: Target): ReliveError {
  return new ReliveError('usage', `${manifest.image} in ${store} would not be found at the next start`, {
    hint: 'its store must be a whole file system of a disk: relive live pull into the medium; or relive live switch',
  });
}

const longWay = 'relive live reboot --firmware goes the long way';

/**
 * Gives a kernel to the one that runs, which checks its signature itself where it is locked down.
 * @throws ReliveError `tool-missing`, `host-unable` where this machine does not start kernels so
 */
async function loadKernel(
  { kernel, initrd }: { readonly kernel: string; readonly initrd: string },
  commandLine: string,
  signal: AbortSignal,
): Promise<void> {
  // sysctl(8): nothing but a restart takes it back.
  if ((await ifThere(readFile(disabled, 'utf8')))?.trim() === '1') {
    throw new ReliveError('host-unable', `this machine starts no kernel by kexec: ${disabled} is 1`, {
      hint: longWay,
    });
  }
  try {
    // By the file descriptors of both (kexec_file_load(2)).
    await run('kexec', ['-s', '-l', kernel, `--initrd=${initrd}`, `--command-line=${commandLine}`], {
      signal,
    });
  } catch (error) {
    if (isReliveError(error, 'tool-missing')) {
      throw new ReliveError('tool-missing', 'kexec is not installed in this system', {
        hint: `its image was made without kexec-tools, which a new one has (live: true); ${longWay}`,
        cause: error,
      });
    }
    if (!isReliveError(error, 'tool-failed')) throw error;
    throw new ReliveError(
      'host-unable',
      `the kernel that runs does not take the other one\n${error.message}`,
      {
        hint: `where Secure Boot has locked it down it takes only what is signed by a key that it knows; ${longWay}`,
        cause: error,
      },
    );
  }
}

/**
 * Restarts this machine into an image without its firmware. Kernel and initrd are copied to RAM, checked there and given to
 * the kernel; then systemd ends the services in order. An image that has not come up yet is counted as a trial first, as GRUB
 * would: if it does not come up, the machine goes back by way of its firmware and the menu.
 * @param running the command line of the running kernel
 * @throws ReliveError `usage` for a store that the initramfs would not find, `corrupt`, `tool-missing`, `host-unable`, `tool-failed`
 */
export async function rebootByKexec(
  verified: Target,
  running: string,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<KexecPlan> {
  const { store, manifest } = verified;
  const mount = await fileSystemOf(store, places);
  if (mount === undefined && manifest.boot.http === undefined) throw notFound(verified);
  await requireLayers(verified);
  const directory = join(places.home, 'kexec');
  try {
    const files = await inStage(context, 'verify', async () => await copyBootFiles(verified, directory));
    const memory = mount === undefined ? undefined : await memoryOf(store);
    const trial =
      mount === undefined || memory === undefined
        ? undefined
        : await trialOf(store, mount, memory, manifest.image, context);
    const commandLine = kexecCommandLine(verified, running, trial, Date.now());
    await loadKernel(files, commandLine, context.signal);
    try {
      if (mount !== undefined && (trial !== undefined || memory?.relive_next !== undefined)) {
        const count = async (): Promise<void> => await countStart(store, manifest.image, trial !== undefined);
        await whileWritable(mount, context, count);
      }
      // An interrupt would come from systemd itself, which ends all that runs.
      await run('systemctl', ['--no-block', 'kexec'], { signal: new AbortController().signal });
    } catch (error) {
      // Else the next restart of all would be into it.
      await run('kexec', ['-u'], { signal: new AbortController().signal });
      throw error;
    }
    return { commandLine, trial: trial !== undefined };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Restarts this machine through its firmware, into an image of the menu.
 * @throws ReliveError `usage` where the menu would start another image and cannot be told
 */
export async function rebootByFirmware(
  verified: Target,
  context: Context,
  places: LivePlaces = livePlaces,
): Promise<void> {
  const { store, image } = verified;
  const mount = await fileSystemOf(store, places);
  if (mount === undefined) throw notFound(verified);
  await requireLayers(verified);
  if ((await readEnvironment(store)) !== undefined) {
    await whileWritable(mount, context, async () => await chooseOnce(store, image.name));
  } else if (
    (await listImages(store)).find(({ profile }) => profile === image.profile)?.name !== image.name
  ) {
    throw new ReliveError(
      'usage',
      `the menu cannot be told to start ${image.name}: ${store} has no environment block`,
      { hint: 'choose it in the menu; or relive live reboot without --firmware' },
    );
  }
  await leaveStart('firmware', Date.now(), places);
  await run('systemctl', ['--no-block', 'reboot'], { signal: context.signal });
}
