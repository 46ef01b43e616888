import type { Context } from '../core/event.ts';
import { readEntries, readTree, type TreeEntry } from './tree.ts';

/** What of an entry may differ. Size goes with content; a file's other names are content, too. */
export type Aspect = 'type' | 'content' | 'mode' | 'owner' | 'attributes' | 'time';

/** One path at which two trees differ. */
export interface TreeDifference {
  /** Relative to the root; bytes that are no UTF-8 stand as U+FFFD. */
  readonly path: string;
  readonly kind: 'added' | 'removed' | 'changed';
  /** Of a changed entry: what is different. */
  readonly aspects: readonly Aspect[];
  /** Before and after, where there is one. */
  readonly from: EntryFacts | undefined;
  readonly to: EntryFacts | undefined;
}

/** What is told of an entry. */
export interface EntryFacts {
  readonly type: string;
  /** Octal, four digits: 0644. */
  readonly mode: string;
  /** Numbers: uid:gid. */
  readonly owner: string;
  /** In bytes, of files. */
  readonly size: number;
  /** ISO 8601. */
  readonly time: string;
  readonly attributes: readonly string[];
  /** SHA-256 of a file, target of a link, number of a device. */
  readonly content: string;
}

/** inode(7). */
const types: Readonly<Record<number, string>> = {
  0o010000: 'pipe',
  0o020000: 'character device',
  0o040000: 'directory',
  0o060000: 'block device',
  0o100000: 'file',
  0o120000: 'link',
  0o140000: 'socket',
};

function text(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function contentText({ content }: TreeEntry): string {
  return text(content.join(' '));
}

function facts(entry: TreeEntry): EntryFacts {
  return {
    type: types[entry.type] ?? String(entry.type),
    mode: entry.mode.toString(8).padStart(4, '0'),
    owner: `${entry.uid}:${entry.gid}`,
    size: entry.size,
    time: new Date(entry.time * 1000).toISOString(),
    attributes: entry.attributes === '' ? [] : entry.attributes.split('\n'),
    content: contentText(entry),
  };
}

function aspectsOf(from: TreeEntry, to: TreeEntry): Aspect[] {
  const aspects: Aspect[] = [];
  if (from.type !== to.type) aspects.push('type');
  else if (contentText(from) !== contentText(to)) aspects.push('content');
  if (from.mode !== to.mode) aspects.push('mode');
  if (from.uid !== to.uid || from.gid !== to.gid) aspects.push('owner');
  if (from.attributes !== to.attributes) aspects.push('attributes');
  if (from.time !== to.time) aspects.push('time');
  return aspects;
}

/** Everything at which the tree at `to` differs from that at `from`, by path. */
export async function compareTrees(from: string, to: string, context: Context): Promise<TreeDifference[]> {
  const before = await readEntries(from, context);
  const differences: TreeDifference[] = [];
  await readTree(
    to,
    (entry) => {
      const old = before.get(entry.path);
      before.delete(entry.path);
      const path = text(entry.path);
      if (old === undefined) {
        differences.push({ path, kind: 'added', aspects: [], from: undefined, to: facts(entry) });
        return;
      }
      const aspects = aspectsOf(old, entry);
      if (aspects.length === 0) return;
      differences.push({ path, kind: 'changed', aspects, from: facts(old), to: facts(entry) });
    },
    context,
  );
  for (const entry of before.values()) {
    const path = text(entry.path);
    differences.push({ path, kind: 'removed', aspects: [], from: facts(entry), to: undefined });
  }
  return differences.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
