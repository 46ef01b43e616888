import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { makeDirectories, writeFileAtomic } from '../host/files.ts';
import type { Site } from '../site/site.ts';

const stateSchema = z.strictObject({
  schema: z.literal(1),
  /** The newest image of each profile at the time of the last report that was delivered. */
  reported: z.record(z.string(), z.string()),
});

/** In the cache: whoever removes it has one report say less. */
function stateFile(site: Pick<Site, 'cache'>): string {
  return join(site.cache, 'refresh.json');
}

/** The newest image of each profile, as the last report told of it. */
export async function readReported(site: Pick<Site, 'cache'>): Promise<Readonly<Record<string, string>>> {
  try {
    const parsed = stateSchema.safeParse(JSON.parse(await readFile(stateFile(site), 'utf8')));
    return parsed.data?.reported ?? {};
  } catch {
    // Of no consequence: the report then tells of this run alone.
    return {};
  }
}

/** Remembers what was told. */
export async function writeReported(
  site: Pick<Site, 'cache'>,
  reported: Readonly<Record<string, string>>,
): Promise<void> {
  await makeDirectories(dirname(stateFile(site)));
  await writeFileAtomic(stateFile(site), `${JSON.stringify({ schema: 1, reported }, undefined, 2)}\n`);
}
