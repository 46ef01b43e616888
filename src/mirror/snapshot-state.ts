import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { writeFileAtomic } from '../host/files.ts';
import { type Layout, suiteFileName } from './repository.ts';

const snapshotSchema = z.strictObject({
  id: z.string(),
  created: z.iso.datetime(),
  suites: z.array(
    z.strictObject({
      suite: z.string(),
      /** Of the Release. */
      date: z.iso.datetime(),
      releaseDigest: z.string(),
      missing: z.array(z.string()),
    }),
  ),
});

/** What is remembered of a snapshot. */
export type Snapshot = z.infer<typeof snapshotSchema>;

export function snapshotStatePath(layout: Layout, id: string): string {
  return join(layout.state, 'snapshots', `${id}.json`);
}

/** Where the list of the pool files that a snapshot's suite needs is kept. */
export function snapshotPoolList(layout: Layout, id: string, suite: string): string {
  return join(layout.state, 'snapshots', `${id}.${suiteFileName(suite)}.pool`);
}

export async function writeSnapshot(layout: Layout, snapshot: Snapshot): Promise<void> {
  await writeFileAtomic(snapshotStatePath(layout, snapshot.id), `${JSON.stringify(snapshot)}\n`);
}

/** @throws ReliveError `corrupt` */
export async function readSnapshot(layout: Layout, id: string): Promise<Snapshot> {
  const path = snapshotStatePath(layout, id);
  try {
    return snapshotSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    throw new ReliveError('corrupt', `the state of the snapshot ${id} cannot be read: ${path}`, {
      hint: `remove the snapshot: relive mirror snapshot remove`,
      cause: error,
    });
  }
}
