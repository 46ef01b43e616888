import { Document, isMap, isScalar, isSeq, type Node } from 'yaml';
import { formatPosition } from './position.ts';
import type { ResolvedProfile } from './profile.ts';
import { formatPath } from './validate.ts';
import { type LocatedMap, valueAt } from './yaml.ts';

const byDefault = 'default';

function originOf(located: LocatedMap, path: readonly (string | number)[]): string {
  const value = valueAt(located, path);
  return value === undefined ? byDefault : formatPosition(value.at, 'line');
}

/** Every leaf of a YAML tree with its path; an empty list is a leaf. */
function leaves(
  node: unknown,
  path: readonly (string | number)[],
): { node: Node; path: (string | number)[] }[] {
  if (isMap(node)) {
    return node.items.flatMap(({ key, value }) =>
      leaves(value, [...path, isScalar(key) ? String(key.value) : '']),
    );
  }
  if (isSeq(node) && node.items.length > 0) {
    return node.items.flatMap((item, index) => leaves(item, [...path, index]));
  }
  return isScalar(node) || isSeq(node) ? [{ node, path: [...path] }] : [];
}

/**
 * An effective profile as YAML that is itself a profile, each value with a comment that says where it comes from
 * (`file:line`, or `default`), and the same origins by the paths of the values.
 */
export function showProfile({ document, located }: ResolvedProfile): {
  readonly yaml: string;
  readonly origins: Readonly<Record<string, string>>;
} {
  const tree = new Document(document, { schema: 'core', aliasDuplicateObjects: false });
  const origins: [string, string][] = [];
  for (const { node, path } of leaves(tree.contents, [])) {
    const origin = originOf(located, path);
    node.comment = ` ${origin}`;
    if (isSeq(node)) node.flow = true;
    origins.push([formatPath(path), origin]);
  }
  return { yaml: tree.toString({ lineWidth: 0 }), origins: Object.fromEntries(origins) };
}
