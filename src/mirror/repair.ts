import { lstatSync } from 'node:fs';
import { readdir, rename } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Context } from '../core/event.ts';
import { makeDirectories } from '../host/files.ts';
import { syncRepository } from './indices.ts';
import { bringFiles, verifiedPath } from './pool.ts';
import {
  type Layout,
  layoutOf,
  lockMirror,
  type Repository,
  suiteDirectory,
  suiteFileName,
} from './repository.ts';
import { repositoryTree } from './repository-tree.ts';
import { publishedGeneration } from './state.ts';
import { readVerified } from './verified.ts';
import { type VerifyFinding, type VerifyOptions, type VerifySummary, verifyTree } from './verify.ts';
import { type PoolFile, poolPlace } from './wanted.ts';

export interface Repaired {
  /** What was wrong before. */
  readonly before: VerifySummary;
  /** What is wrong now. */
  readonly after: VerifySummary;
  /** Files that were replaced or fetched. */
  readonly mended: number;
  /** Where the damaged files are now; undefined where there were none. */
  readonly quarantine: string | undefined;
}

/** A directory for what this run takes out of the way. */
function quarantineOf(layout: Layout, now: Date): string {
  return join(layout.quarantine, now.toISOString().replace(/[-:]|\.\d+/g, ''));
}

async function setAside(place: string, to: string): Promise<boolean> {
  if (lstatSync(place, { throwIfNoEntry: false }) === undefined) return false;
  await makeDirectories(dirname(to));
  await rename(place, to);
  return true;
}

/**
 * Verifies a repository, fetches just what is missing or damaged, keeps what was damaged, and verifies again. A suite with
 * a damaged index is published anew from upstream; so is one whose signature is bad, unless upstream has no better one.
 * @throws as `syncRepository` and `verifyTree`; `download-failed` where a file cannot be had: what is there stays in quarantine
 */
export async function repairRepository(
  mirrorDirectory: string,
  repository: Repository,
  options: VerifyOptions,
  locked: readonly PoolFile[],
  context: Context,
): Promise<Repaired> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const verify = async (
    found: (finding: VerifyFinding) => void,
    tell: boolean,
    again: VerifyOptions,
  ): Promise<VerifySummary> => {
    const quiet: Context = tell
      ? context
      : {
          signal: context.signal,
          emit: (event) => (event.event === 'finding' ? undefined : context.emit(event)),
        };
    const record = await readVerified(verifiedPath(layout));
    return await verifyTree(await repositoryTree(layout, repository, locked), again, record, found, quiet);
  };
  const findings: VerifyFinding[] = [];
  const before = await verify((finding) => findings.push(finding), false, options);
  const quarantine = quarantineOf(layout, options.now);
  const wanted = new Map<string, PoolFile>();
  const damagedSuites = new Set<string>();
  /** Where signed files are now which we do not believe, and where they were. */
  const unbelieved: { readonly place: string; readonly to: string }[] = [];
  let aside = false;
  const lock = await lockMirror(layout, context);
  try {
    for (const { kind, path, expected } of findings) {
      if (!['missing', 'truncated', 'corrupt', 'inconsistent', 'unsigned'].includes(kind)) continue;
      const suite = repository.suites.find((name) => {
        const directory = suiteDirectory(name);
        return directory !== '' && path.startsWith(directory);
      });
      if (expected !== undefined && expected.size >= 0 && !path.startsWith('snapshots/')) {
        if (kind !== 'missing')
          aside = (await setAside(poolPlace(layout, path), join(quarantine, path))) || aside;
        wanted.set(path, { path, size: expected.size, [expected.algorithm]: expected.digest });
        // A pool file below dists has one more name in the suite.
        if (suite !== undefined && path.startsWith('dists/')) damagedSuites.add(suite);
      } else if (suite !== undefined) {
        damagedSuites.add(suite);
      } else if (repository.suites.length === 1 && !path.startsWith('snapshots/')) {
        damagedSuites.add(repository.suites[0] ?? '');
      }
    }
    for (const suite of damagedSuites) {
      // Taken out of sight whole, so that nothing of it is reused.
      const generation = await publishedGeneration(layout, suite);
      if (generation === undefined) continue;
      const damaged = findings.filter(({ path }) => path.startsWith(suiteDirectory(suite)));
      for (const { kind, path } of damaged) {
        if (kind === 'missing') continue;
        const inside = path.slice(suiteDirectory(suite).length);
        const to = join(quarantine, suiteFileName(suite), inside);
        const place = join(layout.suites, generation, inside);
        const moved = await setAside(place, to);
        if (moved && kind === 'unsigned') unbelieved.push({ place, to });
        aside = moved || aside;
      }
    }
    if (wanted.size > 0) await bringFiles(layout, repository, wanted, {}, context);
  } finally {
    await lock.release();
  }
  // A published suite that lacks a file is made anew from upstream.
  if (damagedSuites.size > 0) {
    try {
      await syncRepository(mirrorDirectory, repository, { now: options.now }, context);
    } catch (error) {
      // Others may have the key that we lack: what upstream does not replace stays for them.
      for (const { place, to } of unbelieved) await rename(to, place);
      throw error;
    }
  }
  const after =
    findings.length === 0 ? before : await verify(() => undefined, true, { ...options, changed: true });
  return {
    before,
    after,
    mended: before.wrong - after.wrong,
    quarantine: aside && (await readdir(quarantine)).length > 0 ? quarantine : undefined,
  };
}
