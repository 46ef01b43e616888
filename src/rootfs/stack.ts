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

/**
 * Mounts a stack of directories at `target` (made when missing) with overlayfs. Redirects, metacopy and index are off:
 * they would leave references in layers to lower ones by path or file handle, which no longer hold once packed.
 */
export async function mountStack(stack: Stack, target: string, context: Context): Promise<void> {
  await makeDirectories(target);
  const [only] = stack.lower;
  if (stack.upper === undefined && stack.lower.length === 1 && only !== undefined) {
    await run('mount', ['--bind', '-o', 'ro', only, target], context);
    return;
  }
  const options = [
    `lowerdir=${stack.lower.toReversed().map(quote).join(':')}`,
    ...(stack.upper === undefined
      ? []
      : [`upperdir=${quote(stack.upper.directory)}`, `workdir=${quote(stack.upper.work)}`]),
    'redirect_dir=off,metacopy=off,index=off,xino=off',
  ].join(',');
  if (options.length > optionsLimit) {
    throw new ReliveError(
      'host-unable',
      `a stack of ${stack.lower.length} layers does not fit into one mount`,
      {
        hint: 'choose a shorter path for the cache or the store in relive.yaml',
      },
    );
  }
  if (stack.upper !== undefined) {
    await makeDirectories(stack.upper.directory);
    await makeDirectories(stack.upper.work);
  }
  try {
    await run('mount', ['-t', 'overlay', 'overlay', '-o', options, target], {
      ...context,
      env: mountEnvironment,
    });
  } catch (error) {
    throw await explainOverlay(error, stack);
  }
}

/** Mounts a SquashFS file read-only at `target`; its loop device goes with the mount. */
async function mountSquashfs(file: string, target: string, context: Context): Promise<void> {
  await makeDirectories(target);
  await run('mount', ['-t', 'squashfs', '-o', 'ro,loop', file, target], context);
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
    await mountSquashfs(file, target, context);
    return true;
  }
  await run('unsquashfs', ['-no-progress', '-quiet', '-dest', target, file], {
    ...context,
    onLine: () => undefined,
  });
  return false;
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
