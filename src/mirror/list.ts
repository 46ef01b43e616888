import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { isReliveError, systemCode } from '../core/error.ts';
import { directoryNames, writeFileAtomic } from '../host/files.ts';
import { isWhole } from './publish.ts';
import { type Layout, layoutOf, type Repository } from './repository.ts';
import { readSuiteState } from './state.ts';

const verificationSchema = z.object({
  /** ISO 8601. */
  when: z.iso.datetime(),
  files: z.number(),
  bytes: z.number(),
  findings: z.number(),
});

/** The last time that a whole repository was verified. */
export type Verification = z.infer<typeof verificationSchema>;

/** What is known of one mirrored suite. */
export interface ListedSuite {
  readonly suite: string;
  readonly state: 'published' | 'incomplete' | 'absent' | 'expired' | 'unreadable';
  /** Of the Release, ISO 8601. */
  readonly date: string | undefined;
  readonly validUntil: string | undefined;
  readonly poolFiles: number | undefined;
  readonly poolBytes: number | undefined;
  readonly missing: readonly string[];
}

export interface ListedRepository {
  readonly name: string;
  readonly root: string;
  readonly select: string;
  readonly suites: readonly ListedSuite[];
  readonly snapshots: readonly string[];
  readonly verification: Verification | undefined;
}

async function listSuite(layout: Layout, suite: string, now: Date): Promise<ListedSuite> {
  const nothing = {
    suite,
    date: undefined,
    validUntil: undefined,
    poolFiles: undefined,
    poolBytes: undefined,
    missing: [],
  };
  try {
    const state = await readSuiteState(layout, suite);
    if (state === undefined) return { ...nothing, state: 'absent' };
    const expired = state.validUntil !== undefined && Date.parse(state.validUntil) < now.getTime();
    return {
      suite,
      state: (await isWhole(layout, state)) ? (expired ? 'expired' : 'published') : 'incomplete',
      date: state.date,
      validUntil: state.validUntil,
      poolFiles: state.pool?.files,
      poolBytes: state.pool?.bytes,
      missing: state.missing,
    };
  } catch (error) {
    if (!isReliveError(error, 'corrupt', 'exists')) throw error;
    return { ...nothing, state: 'unreadable' };
  }
}

/** The names of a directory's entries that are not hidden; none where there is no directory. */
export async function visibleNames(directory: string): Promise<string[]> {
  return (await directoryNames(directory)).filter((name) => !name.startsWith('.'));
}

function verificationPath(layout: Layout): string {
  return join(layout.state, 'verification.json');
}

export async function writeVerification(layout: Layout, verification: Verification): Promise<void> {
  await writeFileAtomic(verificationPath(layout), `${JSON.stringify(verification)}\n`);
}

async function readVerification(layout: Layout): Promise<Verification | undefined> {
  try {
    return verificationSchema.safeParse(JSON.parse(await readFile(verificationPath(layout), 'utf8'))).data;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** What a mirror holds of a repository, without looking into any file of the pool. */
export async function listRepository(
  mirrorDirectory: string,
  repository: Repository,
  now = new Date(),
): Promise<ListedRepository> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const suites: ListedSuite[] = [];
  for (const suite of repository.suites) suites.push(await listSuite(layout, suite, now));
  return {
    name: repository.name,
    root: layout.root,
    select: repository.select ?? 'closure',
    suites,
    snapshots: await visibleNames(layout.snapshots),
    verification: await readVerification(layout),
  };
}
