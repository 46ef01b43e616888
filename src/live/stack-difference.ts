import { readdirSync, type Stats } from 'node:fs';
import { bytesOfPath, entryStatus } from '../rootfs/tree.ts';

/** A layer whose tree is visible. */
export interface LayerTree {
  /** SHA-256 of its file: layers of one digest have one tree. */
  readonly digest: string;
  readonly directory: string;
}

/** Calls `found` for each path below (and with) `path`, links not followed. */
function walk(root: string, path: string, found: (path: string, status: Stats | undefined) => void): void {
  const status = entryStatus(root, path);
  found(path, status);
  if (status?.isDirectory() !== true) return;
  for (const name of readdirSync(bytesOfPath(root, path), 'latin1')) {
    walk(root, path === '' ? name : `${path}/${name}`, found);
  }
}

/** The layers that only one of two stacks has. */
function unshared(from: readonly LayerTree[], to: readonly LayerTree[]): readonly LayerTree[] {
  const common = (of: readonly LayerTree[], other: readonly LayerTree[]): string[] =>
    of.map(({ digest }) => digest).filter((digest) => other.some((each) => each.digest === digest));
  const shared = common(from, to);
  // In another order the same layers show another tree.
  if (shared.join(' ') !== common(to, from).join(' ')) return [...from, ...to];
  return [...from, ...to].filter(({ digest }) => !shared.includes(digest));
}

/**
 * The paths at which two stacks can differ, in the order of a tree: what layers hold that only one of them has. Elsewhere both
 * show the same layer's entry. Of a directory that only one stack shows, all that is in it.
 * @param from the layers, bottom first, and the tree that they show
 */
export function differingPaths(
  from: { readonly layers: readonly LayerTree[]; readonly tree: string },
  to: { readonly layers: readonly LayerTree[]; readonly tree: string },
): string[] {
  const paths = new Set<string>();
  for (const { directory } of unshared(from.layers, to.layers))
    walk(directory, '', (path) => paths.add(path));
  for (const path of [...paths]) {
    const [before, after] = [from.tree, to.tree].map(
      (tree) => entryStatus(tree, path)?.isDirectory() === true,
    );
    if (before && after !== true) walk(from.tree, path, (each) => paths.add(each));
    if (after && before !== true) walk(to.tree, path, (each) => paths.add(each));
  }
  paths.delete('');
  return treeOrder(paths);
}

/** Which file an entry is: its names have this in common. */
function fileOf({ dev, ino }: Stats): string {
  return `${dev}:${ino}`;
}

/**
 * These paths and the other names of their files: a name that goes, or becomes another file, was one with names that stay as they
 * are, where those come before it.
 */
export function withAllNames(tree: string, paths: readonly string[]): string[] {
  /** How many names of each file are not among the paths. */
  const missing = new Map<string, number>();
  for (const path of paths) {
    const status = entryStatus(tree, path);
    if (status?.isFile() !== true || status.nlink === 1) continue;
    const file = fileOf(status);
    missing.set(file, (missing.get(file) ?? status.nlink) - 1);
  }
  if (![...missing.values()].some((names) => names > 0)) return [...paths];
  const all = new Set(paths);
  walk(tree, '', (path, status) => {
    if (status?.isFile() === true && missing.has(fileOf(status))) all.add(path);
  });
  return treeOrder(all);
}

/** A slash comes before every byte that a name may have. */
function orderKey(path: string): string {
  return path.replaceAll('/', '\0');
}

/** Paths as a walk through a tree meets them: each directory before what is in it, names in byte order. */
export function treeOrder(paths: Iterable<string>): string[] {
  return [...paths].toSorted((a, b) => (orderKey(a) < orderKey(b) ? -1 : 1));
}
