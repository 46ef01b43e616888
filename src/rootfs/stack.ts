import { readFile } from 'node:fs/promises';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { kernelMounts } from './readers.ts';

/**
 * Far below what the kernel takes: mount(2) cuts its options at a page without an error, and a stack that boots must
 * mount in an initramfs too.
 */
const optionsLimit = 3800;

/** util-linux 2.39 and later hands options to fsconfig(2) in strings of 255 bytes at most; mount(2) has the page. */
const mountEnvironment = { LIBMOUNT_FORCE_MOUNT2: 'always' };

/** Quotes what overlayfs splits lower directories at. */
function quote(path: string): string {
  return path.replaceAll(/[\\:,]/g, (character) => `\\${character}`);
}

export interface Stack {
  /** The directories to see, bottom first. */
  readonly lower: readonly string[];
  /** Where changes go, with overlayfs's own working directory on the same file system; absent: read-only. */
  readonly upper?: { readonly directory: string; readonly work: string };
}

/** The options of the overlay that shows a stack. @throws ReliveError `host-unable` where they are too long */
function overlayOptions({ lower, upper }: Stack): string {
  const options = [
    `lowerdir=${lower.toReversed().map(quote).join(':')}`,
    ...(upper === undefined ? [] : [`upperdir=${quote(upper.directory)}`, `workdir=${quote(upper.work)}`]),
    'redirect_dir=off,metacopy=off,index=off,xino=off',
  ].join(',');
  if (options.length <= optionsLimit) return options;
  throw new ReliveError('host-unable', `a stack of ${lower.length} layers does not fit into one mount`, {
    hint: 'choose a shorter path for the cache or the store in relive.yaml',
  });
}

/** Something to mount, as mount(8) takes it. */
export interface MountRequest {
  readonly type: string;
  readonly options: string;
  readonly source: string;
  readonly target: string;
}

/** How a SquashFS file is mounted read-only; its loop device goes with the mount. */
export function squashfsMount(file: string, target: string): MountRequest {
  return { type: 'squashfs', options: 'ro,loop', source: file, target };
}

/**
 * How a stack of directories is mounted with overlayfs. Redirects, metacopy and index are off: they would leave references in
 * layers to lower ones by path or file handle, which no longer hold once packed.
 * @throws ReliveError `host-unable` for too many layers
 */
export function stackMount(stack: Stack, target: string): MountRequest {
  const [only] = stack.lower;
  if (stack.upper === undefined && stack.lower.length === 1 && only !== undefined) {
    return { type: 'none', options: 'bind,ro', source: only, target };
  }
  return { type: 'overlay', options: overlayOptions(stack), source: 'overlay', target };
}

const mountEach = 'while [ "$#" -gt 0 ]; do mount -t "$1" -o "$2" -- "$3" "$4" || exit; shift 4; done';

/** Mounts in this order, at directories that are made when missing: many in the time of one. Stops at the first that fails. */
export async function mountAll(requests: readonly MountRequest[], context: Context): Promise<void> {
  if (requests.length === 0) return;
  for (const { target } of requests) await makeDirectories(target);
  const args = requests.flatMap(({ type, options, source, target }) => [type, options, source, target]);
  await run('dash', ['-c', mountEach, 'dash', ...args], {
    ...context,
    as: 'mount',
    env: mountEnvironment,
    mayOutlive: true,
  });
}

/** Mounts a stack of directories at `target` (made when missing), as `stackMount` says. @throws as `stackMount` */
export async function mountStack(stack: Stack, target: string, context: Context): Promise<void> {
  const request = stackMount(stack, target);
  if (stack.upper !== undefined) {
    await makeDirectories(stack.upper.directory);
    await makeDirectories(stack.upper.work);
  }
  try {
    await mountAll([request], context);
  } catch (error) {
    throw request.type === 'overlay' ? await explainOverlay(error, stack) : error;
  }
}

/** Unpacks a SquashFS file to `target`, whatever its compression. */
export async function unpackSquashfs(file: string, target: string, context: Context): Promise<void> {
  await run('unsquashfs', ['-no-progress', '-quiet', '-dest', target, file], {
    ...context,
    onLine: () => undefined,
  });
}

/**
 * Makes the tree of a SquashFS file appear at `target`: mounted where the kernel reads its compression, else unpacked.
 * @returns whether it is mounted
 */
export async function openSquashfs(
  file: string,
  algorithm: string,
  target: string,
  context: Context,
): Promise<boolean> {
  if (kernelMounts(algorithm)) {
    await mountAll([squashfsMount(file, target)], context);
    return true;
  }
  await unpackSquashfs(file, target, context);
  return false;
}

/** Unmounts all of these, now or when nobody uses them any more. What is not mounted is left as it is. */
export async function detachAll(targets: readonly string[], context: Context): Promise<void> {
  if (targets.length === 0) return;
  await run('umount', ['--lazy', '--', ...targets], {
    ...context,
    // After an interrupt, too.
    signal: new AbortController().signal,
    mayOutlive: true,
    accept: [0, 1, 32, 64],
  });
}

/** Unmounts `target` with all that is mounted below it. */
export async function unmount(target: string, context: Context): Promise<void> {
  // A fresh signal: what was mounted is taken down after an interrupt, too.
  await run('umount', ['--recursive', target], { ...context, signal: new AbortController().signal });
}

async function explainOverlay(error: unknown, stack: Stack): Promise<unknown> {
  if (!(error instanceof ReliveError) || error.code !== 'tool-failed') return error;
  const filesystems = await readFile('/proc/filesystems', 'utf8');
  const hint = filesystems.includes('\toverlay\n')
    ? `${stack.upper?.directory ?? stack.lower.at(-1)} must lie on a file system that overlayfs can write to (ext4, XFS, btrfs, tmpfs; not on another overlay): set "cache" in relive.yaml`
    : 'the kernel has no overlayfs: modprobe overlay';
  return new ReliveError('host-unable', `cannot mount the stack of layers: ${error.message}`, {
    hint,
    cause: error,
  });
}
