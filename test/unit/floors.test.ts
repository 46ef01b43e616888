import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { circleFrom, floorOf, floors, importsIn, mayImport, readGraph } from '../../tools/package/house.ts';
import { repository } from '../support.ts';

const graph = readGraph(join(repository, 'src'));
const modules = [...graph.keys()];

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
