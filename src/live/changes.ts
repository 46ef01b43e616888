import { directoryType, identityOf, linkType, parentOf, selectChanged } from '../rootfs/delta.ts';
import type { TreeEntry } from '../rootfs/tree.ts';
import { accountFiles } from './accounts.ts';

const fileType = 0o100000;

/**
 * Entries by path, in the order of a tree. The content of a file is told for each of its names; which names are one file is told
 * apart, since that is otherwise while names are replaced one by one.
 */
export interface Snapshot {
  readonly entries: ReadonlyMap<string, TreeEntry>;
  /** By the later names of a file, its first one. */
  readonly sameAs: ReadonlyMap<string, string>;
}

/** The snapshot that a reading of a tree gives. */
export function snapshotOf(read: ReadonlyMap<string, TreeEntry>): Snapshot {
  const sameAs = new Map<string, string>();
  const entries = new Map<string, TreeEntry>();
  for (const [path, entry] of read) {
    if (entry.content.length === 2) sameAs.set(path, String(entry.content[1]));
    const first = read.get(sameAs.get(path) ?? path);
    entries.set(path, { ...entry, content: first?.content ?? entry.content });
  }
  return { entries, sameAs };
}

/** The entries as a reading of the tree gives them. */
function asRead({ entries, sameAs }: Snapshot): Map<string, TreeEntry> {
  return new Map(
    [...entries].map(([path, entry]) => {
      const first = sameAs.get(path);
      return [path, first === undefined ? entry : { ...entry, content: ['same as', first] }];
    }),
  );
}

/** One entry of the running system that becomes another one, appears, or goes. */
export interface Change {
  readonly path: string;
  /** As it is now; null where there is nothing. */
  readonly before: TreeEntry | null;
  /** As it is to be; null where it goes. */
  readonly after: TreeEntry | null;
  /** The path in the other tree, where that is not the same. */
  readonly source?: string;
  /** Of a file with several names: the first of them, before and after. */
  readonly wasName?: string;
  readonly isName?: string;
  /** Users and groups: the new text, made of both sides. */
  readonly merged?: true;
}

/** What the image changes and the running system keeps. */
export interface Conflict {
  readonly path: string;
  readonly why: string;
  /** Where the image's was put. */
  readonly beside?: string;
}

/** What is left for another time: a restart, or never. */
export interface Left {
  readonly path: string;
  readonly why: string;
}

export interface ChangePlan {
  /** In the order in which they are to be made. */
  readonly changes: readonly Change[];
  readonly conflicts: readonly Conflict[];
  readonly left: readonly Left[];
}

export interface ChangeOptions {
  /** What to do about entries that were changed by hand: keep them and put the new one beside; take the new; keep. */
  readonly conflicts: 'beside' | 'theirs' | 'ours';
  /** What a file is called that is put beside: NAME.relive-new. */
  readonly suffix: string;
  /** Why a path is not to be touched, where it is not. */
  readonly exempt: (path: string) => string | undefined;
  /** Entries that may be absent because their replacing was cut off, and not by hand. */
  readonly cutOff?: ReadonlySet<string>;
}

/** What programs make anew from what is there: never worth keeping. */
const generated: ReadonlySet<string> = new Set([
  'etc/.updated',
  'etc/ld.so.cache',
  'var/.updated',
  'var/cache/ldconfig/aux-cache',
]);

function same(a: TreeEntry | undefined, b: TreeEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return identityOf(a) === identityOf(b);
}

function isDirectory(entry: TreeEntry | null | undefined): boolean {
  return entry?.type === directoryType;
}

/**
 * When an entry is written: directories, libraries, programs, other data, configuration, units. Within libraries the files
 * come before the links to them.
 */
function rankOf({ path, after }: Change): number {
  if (isDirectory(after)) return 0;
  if (/(^|\/)systemd\/(system|user|network)\//.test(path) || path.startsWith('etc/init.d/')) return 6;
  if (path.startsWith('etc/')) return 5;
  if (/^(usr\/(local\/)?)?lib\d*\/.*\.so(\.|$)/.test(path)) return after?.type === linkType ? 2 : 1;
  if (/^(usr\/(local\/)?)?(lib\d*|libexec|s?bin)\//.test(path)) return 3;
  return 4;
}

/** How deep a path is. */
function depth(path: string): number {
  return path.split('/').length;
}

/**
 * The order that keeps a system working while it is changed: what others need comes first, what goes is last, deepest
 * first. What is in a directory that becomes something else goes just before that.
 */
export function orderChanges(changes: readonly Change[]): Change[] {
  const writes = changes
    .filter(({ after }) => after !== null)
    .toSorted((a, b) => rankOf(a) - rankOf(b) || (a.path < b.path ? -1 : 1));
  const removals = changes
    .filter(({ after }) => after === null)
    .toSorted((a, b) => depth(b.path) - depth(a.path) || (a.path < b.path ? -1 : 1));
  const early = new Set<Change>();
  const ordered = writes.flatMap((write) => {
    if (!isDirectory(write.before) || isDirectory(write.after)) return [write];
    const inside = removals.filter(({ path }) => path.startsWith(`${write.path}/`));
    for (const each of inside) early.add(each);
    return [...inside, write];
  });
  return [...ordered, ...removals.filter((each) => !early.has(each))];
}

/**
 * What has to be done to bring a running system from one tree to another.
 * @param before the tree that the system was made of, at all paths at which it can differ from `wanted`
 * @param running the same paths in the running system, and all that is there in directories which are none in `wanted`
 */
export function planChanges(
  before: Snapshot,
  wanted: Snapshot,
  running: Snapshot,
  options: ChangeOptions,
): ChangePlan {
  const [from, to, live] = [before.entries, wanted.entries, running.entries];
  const changes = new Map<string, Change>();
  const conflicts: Conflict[] = [];
  const left: Left[] = [];
  const accounts: ReadonlySet<string> = new Set(accountFiles);
  const changed = selectChanged(asRead(before), asRead(wanted));
  const names = (path: string): Pick<Change, 'wasName' | 'isName'> => {
    const [wasName, isName] = [running.sameAs.get(path), wanted.sameAs.get(path)];
    return { ...(wasName === undefined ? {} : { wasName }), ...(isName === undefined ? {} : { isName }) };
  };
  const gone = [...from.keys()].filter((path) => !to.has(path));
  /** Directories whose content was changed by hand and which therefore stay directories. */
  const held: string[] = [];
  const handmade = (path: string): boolean => {
    const now = live.get(path);
    if (now === undefined && options.cutOff?.has(path) === true) return false;
    return !same(now, from.get(path)) && !same(now, to.get(path)) && options.conflicts !== 'theirs';
  };
  /** Whether the directory of a path is one in the running system; of one that is not looked at, it is. */
  const parentStays = (path: string): boolean => {
    const parent = parentOf(path);
    return live.has(parent) ? isDirectory(live.get(parent)) : !from.has(parent) && !to.has(parent);
  };
  const keep = (path: string, why: string): void => {
    const after = to.get(path);
    const beside = `${path}${options.suffix}`;
    const besides =
      options.conflicts === 'beside' &&
      (after?.type === fileType || after?.type === linkType) &&
      parentStays(path) &&
      !held.some((directory) => path.startsWith(`${directory}/`));
    conflicts.push({ path, why, ...(besides ? { beside } : {}) });
    if (besides && after !== undefined) {
      changes.set(beside, { path: beside, before: live.get(beside) ?? null, after, source: path });
    }
  };
  for (const path of [...changed, ...gone]) {
    const exempt = options.exempt(path);
    if (exempt !== undefined) {
      left.push({ path, why: exempt });
      continue;
    }
    const [now, after] = [live.get(path), to.get(path)];
    if (same(now, after) && running.sameAs.get(path) === wanted.sameAs.get(path)) continue;
    if (held.some((directory) => path.startsWith(`${directory}/`))) {
      conflicts.push({ path, why: 'it is in a directory that was changed by hand' });
      continue;
    }
    if (accounts.has(path) && now !== undefined && after !== undefined) {
      changes.set(path, { path, before: now, after, merged: true });
      continue;
    }
    if (isDirectory(now) && after !== undefined && !isDirectory(after)) {
      const inside = [...live.keys()].filter((each) => each.startsWith(`${path}/`));
      if (inside.some((each) => !same(live.get(each), from.get(each)))) {
        held.push(path);
        conflicts.push({ path, why: 'there are files of yours in it' });
        continue;
      }
    }
    if (after !== undefined && !parentStays(path) && !isDirectory(changes.get(parentOf(path))?.after)) {
      conflicts.push({ path, why: 'its directory is gone' });
      continue;
    }
    if (generated.has(path) || same(now, from.get(path)) || !handmade(path)) {
      changes.set(path, { path, before: now ?? null, after: after ?? null, ...names(path) });
    } else if (now === undefined) keep(path, 'it was removed by hand');
    else keep(path, 'it was changed by hand');
  }
  return { changes: orderChanges([...changes.values()]), conflicts, left };
}
