import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/**
 * The floors from top to bottom (docs/design.md, "The house"): a room imports from its own folder and the floors
 * below. report is beside the others: only core is below it, and of all others only commands may import it.
 */
export const floors = [
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

/** Each module of src/, by its path there, with the modules that it imports. */
export type Graph = ReadonlyMap<string, readonly string[]>;

/** The relative imports, of values and of types, in the text of a module. */
export function importsIn(text: string): string[] {
  const code = text.replaceAll(/\/\*[^]*?\*\//g, '');
  const found = code.matchAll(
    /^\s*(?:import|export)\b[^'";]*?\bfrom\s*['"](\.[^'"]+)['"]|^\s*import\s*['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm,
  );
  return [...found].map(([, from, bare, lazy]) => from ?? bare ?? lazy ?? '');
}

/** The folder of src/ that a module lies in; src/cli.ts and src/program.ts are floors of their own. */
export function floorOf(module: string): string {
  return module.includes('/') ? module.slice(0, module.indexOf('/')) : module.replace(/\.ts$/, '');
}

/** Whether a module on one floor may import from another. */
export function mayImport(from: string, to: string): boolean {
  if (from === to) return true;
  if (from === 'report') return to === 'core';
  if (to === 'report') return from === 'commands' || from === 'program';
  return floors.indexOf(from) < floors.indexOf(to);
}

/** The imports of all modules below a directory. */
export function readGraph(source: string): Graph {
  const modules = readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .toSorted();
  return new Map(
    modules.map((module) => {
      const imports = importsIn(readFileSync(join(source, module), 'utf8'));
      return [module, imports.map((path) => relative(source, join(source, dirname(module), path)))] as const;
    }),
  );
}

/** A circle of imports that starts and ends with `module`, or undefined. */
export function circleFrom(module: string, edges: Graph): string[] | undefined {
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
