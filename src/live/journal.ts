import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ReliveError } from '../core/error.ts';
import { directoryNames, ifThere, makeDirectories, writeFileAtomic } from '../host/files.ts';
import { type Manifest, parseManifest } from '../image/manifest.ts';

const entry = z.strictObject({
  path: z.string(),
  type: z.int(),
  mode: z.int(),
  uid: z.int(),
  gid: z.int(),
  attributes: z.string(),
  size: z.int(),
  time: z.int(),
  content: z.array(z.union([z.string(), z.int()])).readonly(),
});

const change = z.strictObject({
  path: z.string(),
  before: z.nullable(entry),
  after: z.nullable(entry),
  source: z.string().exactOptional(),
  wasName: z.string().exactOptional(),
  isName: z.string().exactOptional(),
  merged: z.literal(true).exactOptional(),
});

const unit = z.strictObject({ unit: z.string(), why: z.string() });

const schema = z.strictObject({
  schema: z.literal(1),
  /**
   * How far it is. `staged`: what is to be written is being collected, the system is as it was. `writing`: entries are
   * replaced. `services`: all is written, programs are told. `done`. `undoing`: the way back.
   */
  state: z.enum(['staging', 'writing', 'services', 'done', 'undoing']),
  /** The images, and the text of the manifest that was applied. */
  from: z.string(),
  to: z.string(),
  manifest: z.string(),
  /** The store that the image is in. */
  store: z.string(),
  started: z.iso.datetime(),
  finished: z.iso.datetime().optional(),
  /** In the order in which they are made. */
  changes: z.array(change).readonly(),
  /** The paths of entries that the image which was booted does not have so: copies of them are kept. */
  saved: z.array(z.string()).readonly(),
  /** Lists of users and groups, whole: as the images have them and as they were and became. */
  accounts: z.array(z.strictObject({ path: z.string(), before: z.string(), after: z.string() })).readonly(),
  conflicts: z
    .array(z.strictObject({ path: z.string(), why: z.string(), beside: z.string().exactOptional() }))
    .readonly(),
  left: z.array(z.strictObject({ path: z.string(), why: z.string() })).readonly(),
  units: z.strictObject({
    stop: z.array(unit).readonly(),
    restart: z.array(unit).readonly(),
    start: z.array(unit).readonly(),
    leave: z.array(unit).readonly(),
  }),
});

/** What an apply does and has done: enough to go on with it after a kill, and to take it back. */
export type Journal = z.infer<typeof schema>;

/** Where the journals of a running system are: beside what was written to it, in RAM, so that they end with it. */
export function journalHome(upper: string): string {
  return join(upper, '../relive');
}

/** One apply: its journal, and the directory that has it and what was saved. */
export interface KeptJournal {
  readonly directory: string;
  readonly journal: Journal;
}

const file = 'journal.json';

/** Writes a journal so that it is there as a whole, whatever happens. Only root may read it: shadow(5) is in it. */
export async function writeJournal(directory: string, journal: Journal): Promise<void> {
  await makeDirectories(directory, 0o700);
  await writeFileAtomic(join(directory, file), `${JSON.stringify(journal)}\n`, { mode: 0o600 });
}

/**
 * The journals of what was applied since the boot, oldest first.
 * @throws ReliveError `corrupt`
 */
export async function readJournals(upper: string): Promise<KeptJournal[]> {
  const home = journalHome(upper);
  const names = await directoryNames(home);
  const journals: KeptJournal[] = [];
  for (const name of names.filter((each) => /^\d{4}$/.test(each))) {
    const directory = join(home, name);
    const text = await ifThere(readFile(join(directory, file), 'utf8'));
    // Cut off before anything was done.
    if (text === undefined) continue;
    const parsed = schema.safeParse(JSON.parse(text));
    if (!parsed.success) {
      throw new ReliveError('corrupt', `${join(directory, file)} is not a journal of this relive`, {
        hint: 'restart the machine: it comes up as the image that it was booted from',
      });
    }
    journals.push({ directory, journal: parsed.data });
  }
  return journals;
}

/** The manifest of what a system was brought to last; that of the image that was booted where nothing was. */
export function currentManifest(
  { manifest }: { readonly manifest: Manifest },
  journals: readonly KeptJournal[],
): Manifest {
  const last = journals.at(-1);
  return last === undefined
    ? manifest
    : parseManifest(last.journal.manifest, `${last.directory}/journal.json`);
}

/** The directory for the next journal. */
export function nextJournal(upper: string, journals: readonly KeptJournal[]): string {
  const last = Number(journals.at(-1)?.directory.slice(-4) ?? '0');
  return join(journalHome(upper), String(last + 1).padStart(4, '0'));
}

/** Forgets an apply that was taken back. */
export async function removeJournal({ directory }: KeptJournal): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}
