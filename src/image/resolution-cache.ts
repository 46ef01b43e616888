import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { systemCode } from '../core/error.ts';
import { sha256, writeFileAtomic } from '../host/files.ts';
import { canonicalJson } from '../rootfs/layers.ts';
import type { Resolution } from '../rootfs/resolve.ts';

/** Resolutions that nobody asked for in so long are removed. */
const keepDays = 7;

const packageSchema = z.strictObject({
  name: z.string(),
  version: z.string(),
  architecture: z.string(),
  repository: z.string(),
  path: z.string(),
  size: z.int().nonnegative(),
  sha256: z.string(),
});
const resolutionSchema = z.strictObject({
  bootstrap: z.array(packageSchema),
  all: z.array(packageSchema),
});

/**
 * The resolution for `question`, from the cache or by asking the solver. The same indices and the same wishes give the
 * same answer, so `question` must hold the digests of the Release files and all that is wanted.
 */
export async function cachedResolution(
  cache: string,
  question: unknown,
  solve: () => Promise<Resolution>,
): Promise<{ readonly resolution: Resolution; readonly cached: boolean }> {
  const home = join(cache, 'resolutions');
  const file = join(home, `${sha256(canonicalJson(question))}.json`);
  const known = await readResolution(file);
  if (known !== undefined) return { resolution: known, cached: true };
  const resolution = await solve();
  await writeFileAtomic(file, JSON.stringify(resolution), { mode: 0o600 });
  await prune(home);
  return { resolution, cached: false };
}

async function readResolution(file: string): Promise<Resolution | undefined> {
  try {
    const parsed = resolutionSchema.safeParse(JSON.parse(await readFile(file, 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch (error) {
    // What cannot be read is asked for anew.
    if (error instanceof SyntaxError || systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function prune(home: string): Promise<void> {
  const oldest = Date.now() - keepDays * 24 * 3600 * 1000;
  for (const name of await readdir(home)) {
    const file = join(home, name);
    if ((await stat(file)).mtimeMs < oldest) await rm(file, { force: true });
  }
}
