import { readdirSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { directoryType, identityOf, parentOf } from '../rootfs/delta.ts';
import { bytesOfPath, entryStatus, readParts, readSome, type TreeEntry } from '../rootfs/tree.ts';
import { mergeAccounts } from './accounts.ts';
import {
  type Change,
  type ChangeOptions,
  type ChangePlan,
  orderChanges,
  planChanges,
  type Snapshot,
  snapshotOf,
} from './changes.ts';
import { type Journal, type KeptJournal, removeJournal, writeJournal } from './journal.ts';
import {
  bytesOfChanges,
  copyEntries,
  requireMemory,
  type Source,
  stageChanges,
  stagingOf,
  writeChanges,
} from './replay.ts';
import { differingPaths, type LayerTree, treeOrder, withAllNames } from './stack-difference.ts';

/** The system that is changed. */
export interface LiveSystem {
  /** Its root, an overlay. */
  readonly root: string;
  /** The directory in RAM that takes what is written. */
  readonly upper: string;
  /** The tree of the image that was booted. */
  readonly booted: string;
}

/** A stack of layers, and the tree that it shows. */
export interface OpenStack {
  /** Bottom first. */
  readonly layers: readonly LayerTree[];
  readonly tree: string;
}

export type Accounts = Journal['accounts'];

/** What a transition would do. */
export interface Transition extends ChangePlan {
  readonly accounts: Accounts;
  /** The paths of what it replaces or removes and the image that was booted has not, or not so. */
  readonly notBooted: ReadonlySet<string>;
}

/** What is done about programs; nothing where there are none to tell. */
export interface Programs {
  readonly plan: (changes: readonly Change[]) => Promise<Journal['units']>;
  readonly stop: (units: Journal['units']) => Promise<void>;
  /** @returns what failed, in words */
  readonly tell: (changes: readonly Change[], units: Journal['units']) => Promise<readonly string[]>;
}

const outside = /^(\.relive-apply|dev|proc|run|sys|tmp|volumes)(\/|$)/;
const kernelFiles = /^(boot|usr\/lib\/modules|lib\/modules)(\/|$)/;

/** The bytes of a path as text. */
function text(path: string): string {
  return Buffer.from(path, 'latin1').toString('utf8');
}

/** Why paths of a root are not to be touched: what lies on other file systems, behind links of the user, or is the kernel's. */
function exemptions(root: string, from: string): (path: string) => string | undefined {
  const device = entryStatus(root, '')?.dev;
  const known = new Map<string, string | undefined>();
  const elsewhere = (directory: string): string | undefined => {
    if (directory === '') return undefined;
    if (known.has(directory)) return known.get(directory);
    const answer = (() => {
      const above = elsewhere(parentOf(directory));
      if (above !== undefined) return above;
      const status = entryStatus(root, directory);
      if (status === undefined) return undefined;
      if (status.isDirectory()) {
        return status.dev === device ? undefined : `another file system is mounted at /${text(directory)}`;
      }
      // A link that the image itself had there is the image's to replace.
      const same = entryStatus(from, directory)?.isDirectory() !== true;
      return same ? undefined : `/${text(directory)} leads elsewhere`;
    })();
    known.set(directory, answer);
    return answer;
  };
  return (path) => {
    if (outside.test(path)) return 'it is no part of the system that is changed';
    const above = elsewhere(parentOf(path));
    if (above !== undefined) return above;
    const status = entryStatus(root, path);
    if (status?.isDirectory() === true && status.dev !== device) {
      return `another file system is mounted at /${text(path)}`;
    }
    return kernelFiles.test(path) ? 'it belongs to the kernel, which only a restart replaces' : undefined;
  };
}

/** All paths below a directory of a root. */
function below(root: string, path: string): string[] {
  return readdirSync(bytesOfPath(root, path), 'latin1').flatMap((name) => {
    const inside = `${path}/${name}`;
    return entryStatus(root, inside)?.isDirectory() === true ? [inside, ...below(root, inside)] : [inside];
  });
}

/** The paths of the running system to look at: these, and all in directories that are to be something else. */
function livePaths(
  root: string,
  paths: readonly string[],
  becomesDirectory: (path: string) => boolean | undefined,
  suffix: string,
): string[] {
  const wanted = new Set(paths.flatMap((path) => [path, `${path}${suffix}`]));
  for (const path of paths) {
    if (becomesDirectory(path) !== false) continue;
    if (entryStatus(root, path)?.isDirectory() !== true) continue;
    for (const each of below(root, path)) wanted.add(each);
  }
  return treeOrder(wanted);
}

/** The text of a file of a tree; undefined where it has none. */
async function textOf(root: string, path: string): Promise<string | undefined> {
  return entryStatus(root, path)?.isFile() === true ? await readFile(join(root, path), 'utf8') : undefined;
}

/** Merges users and groups; leaves out what would become what it is. */
async function mergeAll(
  root: string,
  changes: readonly Change[],
  sides: (path: string) => Promise<{ readonly base: string; readonly to: string }>,
): Promise<{ readonly changes: readonly Change[]; readonly accounts: Accounts }> {
  const accounts: Accounts[number][] = [];
  for (const { path, merged } of changes) {
    if (merged !== true) continue;
    const before = (await textOf(root, path)) ?? '';
    const { base, to } = await sides(path);
    const after = mergeAccounts(path, base, to, before);
    if (after !== before) accounts.push({ path, before, after });
  }
  const kept = changes.filter(
    ({ path, merged }) => merged !== true || accounts.some((each) => each.path === path),
  );
  return { changes: kept, accounts };
}

export type ConflictChoice = ChangeOptions['conflicts'];

/**
 * What brings a system from one stack to another.
 * @param conflicts what to do about entries that were changed by hand since the boot
 */
export async function planTransition(
  { root, booted }: Pick<LiveSystem, 'root' | 'booted'>,
  from: OpenStack,
  to: OpenStack,
  conflicts: ConflictChoice,
  context: Context,
): Promise<Transition> {
  const suffix = '.relive-new';
  const paths = withAllNames(from.tree, differingPaths(from, to));
  const exempt = exemptions(root, from.tree);
  const touched = paths.filter((path) => exempt(path) === undefined);
  const becomes = (path: string): boolean | undefined => entryStatus(to.tree, path)?.isDirectory();
  const live = livePaths(root, touched, becomes, suffix);
  const readings = await readParts(
    [
      { root: from.tree, paths },
      { root: to.tree, paths },
      { root, paths: live },
      // Nothing was applied yet: it is the same tree.
      { root: booted, paths: booted === from.tree ? [] : live },
    ],
    context,
  );
  const [before, after, now, old] = readings.map((each) => snapshotOf(each));
  if (before === undefined || after === undefined || now === undefined) throw new TypeError('no tree');
  const plan = planChanges(before, after, now, { conflicts, suffix, exempt });
  const merged = await mergeAll(root, plan.changes, async (path) => ({
    base: (await textOf(from.tree, path)) ?? '',
    to: (await textOf(to.tree, path)) ?? '',
  }));
  const image = booted === from.tree ? before : old;
  return { ...plan, ...merged, notBooted: lacking(image?.entries ?? new Map(), merged.changes) };
}

/** Which entries cannot be had again from the tree of an image. */
function lacking(image: Snapshot['entries'], changes: readonly Change[]): ReadonlySet<string> {
  return new Set(
    changes.flatMap(({ path, before }) => {
      if (before === null || before.type === directoryType) return [];
      const entry = image.get(path);
      return entry !== undefined && identityOf(entry) === identityOf(before) ? [] : [path];
    }),
  );
}

/** What a transition takes of the memory, in bytes. */
export function memoryOf(transition: Pick<Transition, 'changes'>): number {
  return bytesOfChanges(transition.changes, 'after');
}

/** What is told of a transition besides what it does. */
export type Facts = Pick<Journal, 'from' | 'to' | 'manifest' | 'store'>;

/**
 * Begins a transition: keeps what could not be had again, collects what is to be written, and says so in the journal. The
 * system is as it was.
 * @param directory for the journal
 */
export async function beginTransition(
  system: LiveSystem,
  to: OpenStack,
  transition: Transition,
  units: Journal['units'],
  facts: Facts,
  directory: string,
  context: Context,
): Promise<KeptJournal> {
  const { changes, accounts, conflicts, left, notBooted } = transition;
  const lost = changes.filter(({ path }) => notBooted.has(path));
  await requireMemory(memoryOf(transition) + bytesOfChanges(lost, 'before'), system.upper);
  const saved = lost.map(({ path }) => path);
  const journal: Journal = {
    ...{ schema: 1, state: 'staging', ...facts, started: new Date().toISOString() },
    ...{ changes, saved, accounts, conflicts, left, units },
  };
  await writeJournal(directory, journal);
  await copyEntries(system.root, saved, join(directory, 'saved'), context);
  const texts = new Map(accounts.map(({ path, after }) => [path, after]));
  const source: Source = ({ path, source: other }) => {
    const list = texts.get(path);
    return list === undefined ? { root: to.tree, path: other ?? path } : { text: list };
  };
  await stageChanges(system.root, changes, source, context);
  return await advance({ directory, journal }, 'writing');
}

async function advance(kept: KeptJournal, state: Journal['state']): Promise<KeptJournal> {
  const finished = state === 'done' ? { finished: new Date().toISOString() } : {};
  const journal = { ...kept.journal, state, ...finished };
  await writeJournal(kept.directory, journal);
  return { ...kept, journal };
}

/**
 * Goes on with a transition from wherever it is, to its end.
 * @returns what of the programs failed, in words
 */
export async function finishTransition(
  system: Pick<LiveSystem, 'root'>,
  begun: KeptJournal,
  programs: Programs,
  context: Context,
): Promise<readonly string[]> {
  let kept = begun;
  const { changes, units } = kept.journal;
  if (kept.journal.state === 'writing') {
    await programs.stop(units);
    await writeChanges(system.root, changes, context);
    kept = await advance(kept, 'services');
  }
  const failed = kept.journal.state === 'services' ? await programs.tell(changes, units) : [];
  await advance(kept, 'done');
  return failed;
}

/** Forgets a transition that was cut off before anything was changed. */
export async function dropTransition(system: Pick<LiveSystem, 'root'>, kept: KeptJournal): Promise<void> {
  await rm(stagingOf(system.root), { recursive: true, force: true });
  await removeJournal(kept);
}

export interface Undone {
  readonly changes: readonly Change[];
  readonly conflicts: Transition['conflicts'];
  readonly units: Journal['units'];
  readonly failed: readonly string[];
}

/** The way back of a change. */
function inverse({ path, before, after, merged }: Change): Change {
  return { path, before: after, after: before, ...(merged === true ? { merged } : {}) };
}

/** One side of what was changed. */
function sideOf(changes: readonly Change[], side: 'before' | 'after'): Snapshot {
  const changed = new Map(changes.map((change) => [change.path, change]));
  const entries = new Map<string, TreeEntry>();
  const sameAs = new Map<string, string>();
  for (const path of treeOrder(changed.keys())) {
    const change = changed.get(path);
    const entry = change?.[side];
    const first = side === 'before' ? change?.wasName : change?.isName;
    if (entry !== null && entry !== undefined) entries.set(path, { ...entry, path });
    if (first !== undefined) sameAs.set(path, first);
  }
  return { entries, sameAs };
}

/** The paths at which a directory goes before something else comes, or the other way round: there is neither in between. */
function turning(changes: readonly Change[]): Set<string> {
  const turns = changes.filter(
    ({ before, after }) =>
      before !== null && after !== null && (before.type === directoryType) !== (after.type === directoryType),
  );
  return new Set(turns.map(({ path }) => path));
}

/**
 * Takes a transition back, wherever it is: what it changed becomes what it was before. What was changed by hand since
 * stays, with what it was before beside it. It can be cut off and begun again.
 */
export async function undoTransition(
  system: LiveSystem,
  kept: KeptJournal,
  programs: Programs,
  conflicts: ConflictChoice,
  context: Context,
): Promise<Undone> {
  const { root } = system;
  const suffix = '.relive-old';
  const { journal, directory } = kept;
  if (journal.state !== 'undoing') await advance(kept, 'undoing');
  const order = treeOrder(journal.changes.map(({ path }) => path));
  const [from, to] = [sideOf(journal.changes, 'after'), sideOf(journal.changes, 'before')];
  // Where a name was one with another that was not changed, that must be seen, too.
  const others = [...from.sameAs.values(), ...to.sameAs.values()];
  const becomes = (path: string): boolean | undefined => {
    const entry = to.entries.get(path);
    return entry === undefined ? undefined : entry.type === directoryType;
  };
  const paths = livePaths(root, [...order, ...others], becomes, suffix);
  const live = snapshotOf(await readSome(root, paths, context));
  const exempt = exemptions(root, root);
  const cutOff = journal.state === 'done' ? new Set<string>() : turning(journal.changes);
  const plan = planChanges(from, to, live, { conflicts, suffix, exempt, cutOff });
  const lists = new Map(journal.accounts.map((each) => [each.path, each]));
  const merged = await mergeAll(root, plan.changes, async (path) => {
    const list = lists.get(path);
    return { base: list?.after ?? '', to: list?.before ?? '' };
  });
  const changes = orderChanges([...merged.changes]);
  await requireMemory(bytesOfChanges(changes, 'after'), system.upper);
  const units = await programs.plan(journal.changes.map(inverse));
  const back = new Map(merged.accounts.map(({ path, after }) => [path, after]));
  const saved = new Set(journal.saved);
  const source: Source = ({ path, source: other }) => {
    const list = back.get(path);
    if (list !== undefined) return { text: list };
    const wanted = other ?? path;
    return { root: saved.has(wanted) ? join(directory, 'saved') : system.booted, path: wanted };
  };
  await stageChanges(root, changes, source, context);
  await programs.stop(units);
  await writeChanges(root, changes, context);
  const failed = await programs.tell(changes, units);
  await removeJournal(kept);
  return { changes, conflicts: plan.conflicts, units, failed };
}
