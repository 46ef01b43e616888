import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Context, WorkEvent } from '../core/event.ts';
import { makeDirectories, writeFileAtomic } from '../host/files.ts';
import type { Site } from '../site/site.ts';
import type { BuildResult } from './build.ts';

const timingSchema = z.strictObject({
  /** A stage; "total" last: all of it, with what lies between the stages. */
  stage: z.string(),
  /** Wall time; 0 for a stage whose result was there already. */
  seconds: z.number(),
  cached: z.boolean(),
});

/** How long one stage of a build took. */
export type Timing = z.infer<typeof timingSchema>;

/** Watches the events of work. @returns the context to hand to it, and what it took when it is done */
function timed(context: Context): { readonly context: Context; readonly timings: () => Timing[] } {
  const started = performance.now();
  const found: Timing[] = [];
  const emit = (event: WorkEvent): void => {
    if (event.event === 'stage' && event.state !== 'start')
      found.push({ stage: event.stage, seconds: event.seconds ?? 0, cached: event.state === 'cached' });
    context.emit(event);
  };
  const total = (): Timing => ({
    stage: 'total',
    seconds: (performance.now() - started) / 1000,
    cached: false,
  });
  return { context: { ...context, emit }, timings: () => [...found, total()] };
}

/**
 * Where the timings of an image are kept: in the cache. The manifest is signed and in the ISO, whose bytes follow from
 * what is in the image and not from how busy the host was.
 */
function timingsFile(cache: string, image: string): string {
  return join(cache, 'timings', `${image}.json`);
}

/** Keeps the timings of an image that was built. */
async function writeTimings(cache: string, image: string, timings: readonly Timing[]): Promise<void> {
  const file = timingsFile(cache, image);
  await makeDirectories(join(file, '..'), 0o700);
  await writeFileAtomic(file, `${JSON.stringify(timings, undefined, 2)}\n`);
}

/** Makes an image, and keeps how long that took. */
export async function withTimings(
  site: Pick<Site, 'cache'>,
  make: (context: Context) => Promise<BuildResult>,
  context: Context,
): Promise<BuildResult & { readonly timings: readonly Timing[] }> {
  const watch = timed(context);
  const result = await make(watch.context);
  const timings = watch.timings();
  if (!result.unchanged) await writeTimings(site.cache, result.image.name, timings);
  return { ...result, timings };
}

/** The timings of an image, or undefined where this host did not build it or has forgotten. */
export async function readTimings(cache: string, image: string): Promise<Timing[] | undefined> {
  try {
    const parsed = z
      .array(timingSchema)
      .safeParse(JSON.parse(await readFile(timingsFile(cache, image), 'utf8')));
    return parsed.data;
  } catch {
    // Of no consequence: what is not there or not readable is not shown.
    return undefined;
  }
}
