import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Context, inStage } from '../core/event.ts';
import { type Compression, packTree } from '../rootfs/pack.ts';
import { kernelMounts, squashfsReaders } from '../rootfs/readers.ts';
import { mountStack, openSquashfs, unmount } from '../rootfs/stack.ts';
import type { Profile } from '../site/profile.ts';
import { algorithms } from '../site/schema.ts';
import type { Site } from '../site/site.ts';
import { type BuildOptions, withLayers } from './build.ts';

/** What one compression makes of a system. */
export interface Packed extends Compression {
  readonly bytes: number;
  readonly packSeconds: number;
  /** How long it takes to read every file once: through the kernel's mount, else by unpacking. */
  readonly readSeconds: number;
  readonly readBy: 'kernel' | 'unsquashfs';
  /** What reads it besides unsquashfs. The kernel must, for booting from it. */
  readonly readers: readonly ('kernel' | 'grub')[];
}

/** After so many files others have their turn. */
const pauseAfter = 512;
const buffer = Buffer.allocUnsafe(1024 * 1024);

/**
 * Packs the system of a profile, whole, with each compression, and reads it again. Its own is taken with its level, the
 * others with relive's or mksquashfs's own. Nothing is published. Must run inside the private namespaces.
 * @returns a row a compression, in the order of the schema
 */
export async function compareCompressions(
  site: Site,
  profile: Profile,
  options: BuildOptions,
  context: Context,
): Promise<Packed[]> {
  // As for a build: the caller's would be in the files.
  process.umask(0o022);
  return await withLayers(site, profile, options, context, async ({ layers, ingredients, scratch }) => {
    const merged = join(scratch, 'merged');
    await mountStack({ lower: layers.map(({ directory }) => directory) }, merged, context);
    const rows: Packed[] = [];
    try {
      for (const algorithm of algorithms) {
        const compression = compressionFor(algorithm, profile.image.compression);
        const output = join(scratch, `${algorithm}.squashfs`);
        const { sourceDateEpoch } = ingredients;
        const stage = `pack ${algorithm}`;
        const packSeconds = await inStage(context, stage, async () => {
          return await secondsOf(
            packTree({ root: merged, output, compression, exclude: [], sourceDateEpoch, stage }, context),
          );
        });
        const readSeconds = await readAll(output, algorithm, join(scratch, 'read'), context);
        rows.push({
          ...compression,
          bytes: (await stat(output)).size,
          packSeconds,
          readSeconds,
          readBy: kernelMounts(algorithm) ? 'kernel' : 'unsquashfs',
          readers: squashfsReaders[algorithm],
        });
        await rm(output);
      }
    } finally {
      await unmount(merged, context);
    }
    return rows;
  });
}

function compressionFor(algorithm: (typeof algorithms)[number], own: Compression): Compression {
  if (algorithm === own.algorithm) return own;
  const { blockSize } = own;
  return { algorithm, ...(blockSize === undefined ? {} : { blockSize }) };
}

async function secondsOf(work: Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work;
  return (performance.now() - started) / 1000;
}

async function readAll(file: string, algorithm: string, target: string, context: Context): Promise<number> {
  return await inStage(context, `read ${algorithm}`, async () => {
    const started = performance.now();
    const mounted = await openSquashfs(file, algorithm, target, context);
    try {
      if (mounted) await readFiles(target, context);
      return (performance.now() - started) / 1000;
    } finally {
      if (mounted) await unmount(target, context);
      await rm(target, { recursive: true, force: true });
    }
  });
}

/** Reads every regular file below a directory. */
async function readFiles(root: string, { signal }: Context): Promise<void> {
  let count = 0;
  const visit = async (directory: Buffer): Promise<void> => {
    for (const entry of readdirSync(directory, { withFileTypes: true, encoding: 'buffer' })) {
      const path = Buffer.concat([directory, Buffer.from('/'), entry.name]);
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) readFileThrough(path);
      if (++count % pauseAfter === 0) {
        await setImmediate();
        signal.throwIfAborted();
      }
    }
  };
  await visit(Buffer.from(root));
}

function readFileThrough(path: Buffer): void {
  const descriptor = openSync(path, 'r');
  try {
    while (readSync(descriptor, buffer, 0, buffer.length, null) > 0);
  } finally {
    closeSync(descriptor);
  }
}
