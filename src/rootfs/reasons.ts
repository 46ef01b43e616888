import { relationNames } from '../debian/relations.ts';

/** What of a package's control data tells why it is there. */
export interface Dependencies {
  readonly name: string;
  /** Pre-Depends, Depends and, where they count, Recommends. */
  readonly needs: readonly string[];
  /** Provides. */
  readonly provides: string;
}

/**
 * Why each package is in a resolution: what `roots` says of it, else the first package (by name) on a shortest way from
 * those that needs it.
 * @param packages all packages of the resolution
 * @param roots packages that are there for their own sake, each with the reason
 */
export function explainPackages(
  packages: readonly Dependencies[],
  roots: ReadonlyMap<string, string>,
): Map<string, string> {
  const provided = new Map<string, string[]>();
  for (const { name, provides } of packages) {
    for (const [virtual] of relationNames(provides)) {
      if (virtual !== undefined) provided.set(virtual, [...(provided.get(virtual) ?? []), name]);
    }
  }
  const byName = new Map(packages.map((each) => [each.name, each]));
  const reasons = new Map([...roots].filter(([name]) => byName.has(name)));
  let front = [...reasons.keys()].toSorted();
  while (front.length > 0) {
    const next: string[] = [];
    for (const name of front) {
      for (const alternatives of (byName.get(name)?.needs ?? []).flatMap((field) => relationNames(field))) {
        for (const wanted of alternatives.flatMap((each) => [each, ...(provided.get(each) ?? [])])) {
          if (!byName.has(wanted) || reasons.has(wanted)) continue;
          reasons.set(wanted, name);
          next.push(wanted);
        }
      }
    }
    front = next.toSorted();
  }
  return reasons;
}
