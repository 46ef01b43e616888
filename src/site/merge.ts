import { serviceStates } from './schema.ts';
import { wholeUnitName } from './syntax.ts';
import { entry, type Located, type LocatedList, type LocatedMap, textItems } from './yaml.ts';

/** Keys that speak of the file alone and are not handed down. */
const notInherited = new Set(['version', 'description', 'extends', 'exclude']);
/** Maps that are one value: half of a parent's and half of a child's would make no sense. */
const undivided = new Set(['compression', 'initrd', 'keyboard', 'identity', 'pull']);

function isTextScalar(located: Located): boolean {
  return located.kind === 'scalar' && typeof located.value === 'string';
}

function changeEntry(map: LocatedMap, key: string, change: (value: Located) => Located): LocatedMap {
  const old = map.entries.get(key);
  return old === undefined
    ? map
    : { ...map, entries: new Map(map.entries).set(key, { ...old, value: change(old.value) }) };
}

function changeList(map: LocatedMap, key: string, change: (items: readonly Located[]) => readonly Located[]) {
  return changeEntry(map, key, (value) => {
    return value.kind === 'list' ? { ...value, items: change(value.items) } : value;
  });
}

/** @param lists the keys of the lists of units */
function wholeUnits(lists: readonly string[], map: Located): Located {
  if (map.kind !== 'map') return map;
  return lists.reduce(
    (changed, list) =>
      changeList(changed, list, (items) =>
        items.map((item) =>
          item.kind === 'scalar' && typeof item.value === 'string'
            ? { ...item, value: wholeUnitName(item.value) }
            : item,
        ),
      ),
    map,
  );
}

/** The lists of units of a profile, or of its `exclude`. */
function wholeUnitsOf(profile: LocatedMap): LocatedMap {
  const services = changeEntry(profile, 'services', (value) => wholeUnits(serviceStates, value));
  return changeEntry(services, 'boot', (boot) =>
    boot.kind === 'map' ? changeEntry(boot, 'health', (value) => wholeUnits(['units'], value)) : boot,
  );
}

/** A profile with one spelling for what may be written in two: `overlay: NAME` as a list, units with their type. */
function normalise(profile: LocatedMap): LocatedMap {
  const listed = changeEntry(profile, 'overlay', (value) => {
    return isTextScalar(value) ? { kind: 'list', at: value.at, items: [value] } : value;
  });
  return wholeUnitsOf(listed);
}

/** A map's `name`, `path` or `volume`; a text itself. */
function nameOf(item: Located): Located {
  return entry(item, 'name') ?? entry(item, 'path') ?? entry(item, 'volume') ?? item;
}

/** What makes two items of a list the same one. */
function identity(item: Located): string | undefined {
  const named = nameOf(item);
  return named.kind === 'scalar' ? JSON.stringify(named.value) : undefined;
}

/** The items of both, the same one once: texts where they stood first, maps of one name merged. */
function joinLists(first: LocatedList, second: LocatedList): LocatedList {
  const items = [...first.items];
  const places = new Map(items.map((item, index) => [identity(item), index]));
  for (const item of second.items) {
    const place = identity(item) === undefined ? undefined : places.get(identity(item));
    const same = place === undefined ? undefined : items[place];
    if (place === undefined || same === undefined) items.push(item);
    else if (same.kind === 'map' && item.kind === 'map') items[place] = mergeMaps(same, item);
  }
  return { ...second, items };
}

function mergeMaps(first: LocatedMap, second: LocatedMap): LocatedMap {
  const entries = new Map(first.entries);
  for (const [key, later] of second.entries) {
    const before = first.entries.get(key);
    const value = before === undefined ? later.value : mergeValues(key, before.value, later.value);
    entries.set(key, { keyAt: later.keyAt, value });
  }
  return { kind: 'map', at: second.at, entries };
}

function mergeValues(key: string, first: Located, second: Located): Located {
  if (first.kind === 'list' && second.kind === 'list') return joinLists(first, second);
  if (first.kind === 'map' && second.kind === 'map' && !undivided.has(key)) return mergeMaps(first, second);
  return second;
}

/** Takes what `exclude` names out of the lists of a profile. */
function without(profile: Located, exclude: Located | undefined): Located {
  if (exclude?.kind !== 'map' || profile.kind !== 'map') return profile;
  let left: LocatedMap = profile;
  for (const [key, { value: named }] of exclude.entries) {
    left = changeEntry(left, key, (value) => {
      if (value.kind !== 'list') return without(value, named);
      const names = new Set(textItems(named).map(({ text }) => JSON.stringify(text)));
      return { ...value, items: value.items.filter((item) => !names.has(identity(item) ?? '')) };
    });
  }
  return left;
}

/** A unit that a later profile puts into one list leaves the others. */
function withoutOverruled(inherited: LocatedMap, later: LocatedMap): LocatedMap {
  return changeEntry(inherited, 'services', (services) => {
    if (services.kind !== 'map') return services;
    let left = services;
    for (const state of serviceStates) {
      const named = new Set(textItems(entry(entry(later, 'services'), state)).map(({ text }) => text));
      for (const other of serviceStates) {
        if (other === state) continue;
        left = changeList(left, other, (items) => {
          return items.filter((item) => item.kind !== 'scalar' || !named.has(String(item.value)));
        });
      }
    }
    return left;
  });
}

function exclusions(profile: LocatedMap): Located | undefined {
  const exclude = entry(profile, 'exclude');
  return exclude?.kind === 'map' ? wholeUnitsOf(exclude) : undefined;
}

/**
 * One profile out of a chain, oldest first, the profile itself last. Each one is applied once: what it excludes is taken out
 * of what came before, then its lists are joined to it, its maps merged into it and its other values replace it.
 */
export function mergeProfiles(chain: readonly LocatedMap[]): LocatedMap | undefined {
  let merged: LocatedMap | undefined;
  for (const file of chain) {
    const profile = normalise(file);
    if (merged === undefined) {
      merged = profile;
      continue;
    }
    const handedDown: LocatedMap = {
      ...merged,
      entries: new Map([...merged.entries].filter(([key]) => !notInherited.has(key))),
    };
    const left = without(handedDown, exclusions(profile));
    merged = mergeMaps(withoutOverruled(left.kind === 'map' ? left : handedDown, profile), profile);
  }
  if (merged === undefined) return undefined;
  const entries = [...merged.entries].filter(([key]) => key !== 'extends' && key !== 'exclude');
  return { ...merged, entries: new Map(entries) };
}

/**
 * What the `exclude` of a profile names although no profile above it has it: a misspelling, most likely.
 * @param above the profiles it extends, directly or not
 */
export function idleExclusions(
  profile: LocatedMap,
  above: readonly LocatedMap[],
): {
  readonly path: string;
  readonly text: string;
  readonly at: Located['at'];
  readonly known: ReadonlySet<string>;
}[] {
  const all = above.map(normalise);
  const look = (
    exclude: Located | undefined,
    values: readonly (Located | undefined)[],
    path: string,
  ): ReturnType<typeof idleExclusions> => {
    if (exclude?.kind === 'map') {
      return [...exclude.entries].flatMap(([key, { value }]) =>
        look(
          value,
          values.map((one) => entry(one, key)),
          `${path}.${key}`,
        ),
      );
    }
    const items = values.flatMap((value) => (value?.kind === 'list' ? value.items : []));
    const known = new Set(
      items.flatMap((item) => {
        const named = nameOf(item);
        return named.kind === 'scalar' && typeof named.value === 'string' ? [named.value] : [];
      }),
    );
    return textItems(exclude)
      .filter(({ text }) => !known.has(text))
      .map(({ text, at }) => ({ path, text, at, known }));
  };
  return look(exclusions(profile), all, 'exclude');
}
