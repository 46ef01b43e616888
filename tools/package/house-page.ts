import { floorOf, floors, type Graph } from './house.ts';

/** The floors that each floor imports from, top to bottom. */
function floorEdges(graph: Graph): Map<string, Set<string>> {
  const edges = new Map(
    [...floors.slice(0, 3), 'report', ...floors.slice(3)].map((floor) => [floor, new Set<string>()]),
  );
  for (const [module, imports] of graph) {
    for (const to of imports)
      if (floorOf(to) !== floorOf(module)) edges.get(floorOf(module))?.add(floorOf(to));
  }
  return edges;
}

/** Whether a floor is reached from another by more than one step. */
function reaches(from: string, to: string, edges: ReadonlyMap<string, ReadonlySet<string>>): boolean {
  return [...(edges.get(from) ?? [])].some(
    (next) => next !== to && (edges.get(next)?.has(to) === true || reaches(next, to, edges)),
  );
}

function diagram(direction: 'TD' | 'LR', lines: readonly string[]): string[] {
  return ['```mermaid', `graph ${direction}`, ...lines.map((line) => `  ${line}`), '```', ''];
}

/** `image/bundle-export.ts` as a node: words like "end" mean something else to Mermaid. */
function node(module: string): string {
  const name = module.replace(/^.*?\//, '').replace(/\.ts$/, '');
  return `${name.replaceAll(/[^a-z0-9]/g, '_')}_["${name}"]`;
}

/** A table as Biome formats it. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const [head = '', ...rest] = rows.map(
    (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  return [head, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rest];
}

/** docs/reference/modules.md: which floor imports from which, and for each floor which module from which. */
export function housePage(graph: Graph): string {
  const edges = floorEdges(graph);
  const arrows = [...edges].flatMap(([from, all]) =>
    [...all].filter((to) => !reaches(from, to, edges)).map((to) => `${from} --> ${to}`),
  );
  const rows = [
    ['floor', 'imports from'],
    ...[...edges].map(([floor, all]) => [floor, [...edges.keys()].filter((to) => all.has(to)).join(', ')]),
  ];
  const rooms = [...edges.keys()].flatMap((floor): string[] => {
    const own = [...graph].filter(([module]) => floorOf(module) === floor);
    if (own.length < 2) return [];
    const inside = own.flatMap(([module, imports]) =>
      [...new Set(imports)].filter((to) => floorOf(to) === floor).map((to) => [module, to] as const),
    );
    const linked = new Set(inside.flat());
    const alone = own.map(([module]) => module).filter((module) => !linked.has(module));
    return [
      `## ${floor}`,
      '',
      ...(inside.length === 0
        ? []
        : diagram(
            'LR',
            inside.map(([from, to]) => `${node(from)} --> ${node(to)}`),
          )),
      ...(alone.length === 0 ? [] : [`By itself: ${alone.map((module) => `\`${module}\``).join(', ')}.`, '']),
    ];
  });
  return [
    '# The modules',
    '',
    'Who imports whom in `src/`. Arrows point down: to what is needed. An arrow is left out where others lead there; the table has all.',
    '`test/unit/floors.test.ts` fails on an arrow that runs up or in a circle.',
    '',
    ...diagram('TD', arrows),
    ...table(rows),
    '',
    ...rooms,
  ]
    .join('\n')
    .replace(/\n+$/, '\n');
}
