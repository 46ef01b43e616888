import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

/**
 * The floors from top to bottom (docs/design.md, "The house"): a room imports from its own folder and the floors
 * below. report is beside the others: only core is below it, and of all others only commands may import it.
 */
const floors = [
  'cli',
  'program',
  'commands',
  'refresh',
  'live',
  'medium',
  'vm',
  'image',
  'rootfs',
  'mirror',
  'site',
  'debian',
  'host',
  'core',
];

const source = join(import.meta.dirname, '../../src');

/** The relative imports, of values and of types, in the text of a module. */
export function importsIn(text: string): string[] {
  const code = text.replaceAll(/\/\*[^]*?\*\//g, '');
  const found = code.matchAll(
    /^\s*(?:import|export)\b[^'";]*?\bfrom\s*['"](\.[^'"]+)['"]|^\s*import\s*['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm,
  );
  return [...found].map(([, from, bare, lazy]) => from ?? bare ?? lazy ?? '');
}

/** The folder of src/ that a module lies in; src/cli.ts and src/program.ts are floors of their own. */
function floorOf(module: string): string {
  return module.includes('/') ? module.slice(0, module.indexOf('/')) : module.replace(/\.ts$/, '');
}

/** Whether a module on one floor may import from another. */
function mayImport(from: string, to: string): boolean {
  if (from === to) return true;
  if (from === 'report') return to === 'core';
  if (to === 'report') return from === 'commands' || from === 'program';
  return floors.indexOf(from) < floors.indexOf(to);
}

const modules = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .toSorted();

/** Each module with the modules that it imports, both relative to src/. */
const graph = new Map(
  modules.map((module) => {
    const imports = importsIn(readFileSync(join(source, module), 'utf8'));
    return [module, imports.map((path) => relative(source, join(source, dirname(module), path)))] as const;
  }),
);

/** A circle of imports that starts and ends with `module`, or undefined. */
function circleFrom(module: string, edges: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const seen = new Set<string>();
  const search = (at: string, path: readonly string[]): string[] | undefined => {
    for (const next of edges.get(at) ?? []) {
      if (next === module) return [...path, next];
      if (seen.has(next)) continue;
      seen.add(next);
      const found = search(next, [...path, next]);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return search(module, [module]);
}

test('imports are found in all their forms', () => {
  const text = [
    "import { a } from './a.ts';",
    'import type {\n  B,\n} from "../b.ts";',
    "import './c.ts';",
    "export * from './d.ts';",
    "const e = await import('./e.ts');",
    "import { join } from 'node:path';",
    "/* import './not.ts'; */",
  ].join('\n');
  expect(importsIn(text)).toEqual(['./a.ts', '../b.ts', './c.ts', './d.ts', './e.ts']);
});

test('the rules are those of the design', () => {
  expect(mayImport('vm', 'image')).toBe(true);
  expect(mayImport('image', 'vm')).toBe(false);
  expect(mayImport('host', 'commands')).toBe(false);
  expect(mayImport('report', 'host')).toBe(false);
  expect(mayImport('image', 'report')).toBe(false);
  expect(mayImport('commands', 'report')).toBe(true);
  expect(
    circleFrom(
      'a',
      new Map([
        ['a', ['b']],
        ['b', ['c']],
        ['c', ['a']],
      ]),
    ),
  ).toEqual(['a', 'b', 'c', 'a']);
  expect(
    circleFrom(
      'a',
      new Map([
        ['a', ['b']],
        ['b', ['c', 'b']],
      ]),
    ),
  ).toBeUndefined();
});

describe.each(modules)('src/%s', (module) => {
  test('lies on a floor of the design', () => {
    expect([...floors, 'report']).toContain(floorOf(module));
  });

  test('imports only from its own floor and those below', () => {
    const imports = graph.get(module) ?? [];
    expect(imports.filter((to) => !mayImport(floorOf(module), floorOf(to)))).toEqual([]);
  });

  test('imports nothing that imports it', () => {
    expect(circleFrom(module, graph)).toBeUndefined();
  });
});
