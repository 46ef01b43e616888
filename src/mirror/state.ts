import { readFile, readlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { ReliveError, systemCode } from '../core/error.ts';
import { writeFileAtomic } from '../host/files.ts';
import { type Layout, layoutOf, type Repository, suiteFileName, suiteLink } from './repository.ts';

const digest = z.string().regex(/^[0-9a-f]{64}([0-9a-f]{64})?$/);

const indexFile = z.strictObject({
  path: z.string(),
  size: z.number(),
  sha256: digest.optional(),
  sha512: digest.optional(),
});

const suiteState = z.strictObject({
  suite: z.string(),
  generation: z.string(),
  /** What was accepted: nothing older is, ever again. */
  date: z.iso.datetime(),
  validUntil: z.iso.datetime().optional(),
  origin: z.string().optional(),
  label: z.string().optional(),
  suiteName: z.string().optional(),
  codename: z.string().optional(),
  signers: z.array(z.string()),
  /** The keys that must sign the next Release, as this one names them. */
  signedBy: z.string().optional(),
  /** The file that carries the signature, and its SHA-256. */
  release: z.enum(['InRelease', 'Release']),
  releaseDigest: digest,
  validators: z
    .strictObject({ url: z.string(), etag: z.string().optional(), lastModified: z.string().optional() })
    .optional(),
  /** What was asked for when the generation was made: changed configuration makes a new one. */
  selection: digest,
  /** Every index of the generation, relative to it, and what the Release says of it when it is decompressed. */
  files: z.array(indexFile.extend({ uncompressed: indexFile.optional() })),
  /** Files which a signed list leads to (installer images, patches): they have no names by hash. */
  extra: z.array(indexFile).default([]),
  /** Of the pool: what the generation needs; absent where only builds fetch from it. */
  pool: z.strictObject({ files: z.number(), bytes: z.number() }).optional(),
  /** Pool files which upstream lacks, and which the configuration tolerates. */
  missing: z.array(z.string()).default([]),
  /** By-hash files of earlier generations, and since when they are not current any more. */
  superseded: z.array(z.strictObject({ path: z.string(), since: z.iso.datetime() })),
});

/** What relive remembers of one generation of a suite. */
export type SuiteState = z.infer<typeof suiteState>;

function statePath(layout: Layout, generation: string): string {
  return join(layout.state, 'suites', `${generation}.json`);
}

/** The directory name of the published generation of a suite, or undefined while it was never published. */
export async function publishedGeneration(layout: Layout, suite: string): Promise<string | undefined> {
  try {
    return basename(await readlink(suiteLink(layout, suite)));
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    if (systemCode(error) !== 'EINVAL') throw error;
    throw new ReliveError(
      'exists',
      `${suiteLink(layout, suite)} is no symbolic link: another tool made this mirror`,
      {
        hint: 'let relive mirror into a directory of its own',
        cause: error,
      },
    );
  }
}

/**
 * What is remembered of the published generation of a suite.
 * @throws ReliveError `corrupt` when it cannot be read: without it an older upstream could not be refused
 */
export async function readSuiteState(layout: Layout, suite: string): Promise<SuiteState | undefined> {
  const generation = await publishedGeneration(layout, suite);
  if (generation === undefined) return undefined;
  const path = statePath(layout, generation);
  const hint = `remove ${suiteLink(layout, suite)} to have the suite mirrored anew`;
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new ReliveError('corrupt', `the state of the mirrored suite ${suite} cannot be read: ${path}`, {
      hint,
      cause: error,
    });
  }
  const parsed = suiteState.safeParse(content);
  if (
    !parsed.success ||
    parsed.data.generation !== generation ||
    !generation.startsWith(`${suiteFileName(suite)}.`)
  ) {
    throw new ReliveError(
      'corrupt',
      `the state of the mirrored suite ${suite} is not what relive wrote: ${path}`,
      {
        hint,
      },
    );
  }
  return parsed.data;
}

/** Remembers a generation: before it is published, so that the switch of the symbolic link is the only step that counts. */
export async function writeSuiteState(layout: Layout, state: SuiteState): Promise<void> {
  await writeFileAtomic(statePath(layout, state.generation), `${JSON.stringify(state)}\n`);
}

/** The path of a generation's state file, for its removal. */
export function suiteStatePath(layout: Layout, generation: string): string {
  return statePath(layout, generation);
}

/**
 * The directory of a suite as it is published now, and what is remembered of it.
 * @throws ReliveError `not-found` when the suite was never published
 */
export async function publishedSuite(
  mirrorDirectory: string,
  repository: Pick<Repository, 'name'>,
  suite: string,
): Promise<{ readonly directory: string; readonly state: SuiteState }> {
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const generation = await publishedGeneration(layout, suite);
  const state = await readSuiteState(layout, suite);
  if (generation === undefined || state === undefined) {
    throw new ReliveError(
      'not-found',
      `the suite ${suite} of ${repository.name} is not in the mirror ${dirname(layout.root)}`,
      {
        hint: 'relive mirror sync brings it',
      },
    );
  }
  return { directory: join(layout.suites, generation), state };
}
