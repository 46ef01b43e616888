import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { repository, temporaryDirectory } from '../../support.ts';

interface Node {
  readonly path: string;
  readonly kind: 'file' | 'link' | 'directory' | 'shared';
  readonly value: number;
  readonly mode: number;
  readonly uid: number;
}

interface ByHand {
  readonly path: string;
  readonly action: 'write' | 'remove';
  readonly value: number;
}

interface Case {
  readonly before: readonly Node[];
  readonly after: readonly Node[];
  readonly byHand: readonly ByHand[];
  readonly conflicts: 'beside' | 'theirs' | 'ours';
  /** At which entry it is cut off; undefined: not at all. */
  readonly cuts: {
    readonly apply?: number;
    readonly undo?: number;
    readonly undoAtOnce: boolean;
    /** What is not there then: it was about to be replaced. */
    readonly missing?: string;
  };
}

interface Outcome {
  readonly resumed: boolean;
  readonly told: readonly number[];
  /** Whether the system became the second tree, entry for entry. */
  readonly same: boolean;
  /** Whether it is what it was after the undo. */
  readonly back: boolean;
  readonly left: number;
  readonly conflicts: readonly { readonly path: string; readonly beside?: string }[];
  readonly changes: readonly string[];
  readonly kept: readonly string[];
  readonly beside: readonly string[];
  readonly differences: readonly unknown[];
  readonly wrong: readonly unknown[];
}

function replay(each: Case): Outcome {
  const driver = join(import.meta.dirname, 'driver.js');
  const work = temporaryDirectory();
  const { stdout, stderr, status } = spawnSync(
    'unshare',
    [
      ...['--mount', '--propagation', 'private', '--', process.execPath, driver],
      ...[join(repository, 'build/modules'), work, JSON.stringify(each)],
    ],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`status ${status}: ${stderr}\n${JSON.stringify(each)}`);
  return JSON.parse(stdout) as Outcome;
}

/** Paths of which some lie in others, so that files become directories and the other way round. */
const paths = [
  ...['etc/a.conf', 'etc/b.conf', 'etc/systemd/system/u.service', 'opt/x', 'opt/x/y', 'opt/x/y/z', 'opt/x/w'],
  ...['srv/one', 'srv/two', 'usr/bin/p', 'usr/bin/q', 'usr/lib/liba.so.1', 'usr/lib/liba.so', 'usr/share/d'],
];
const node = fc.record({
  path: fc.constantFrom(...paths),
  kind: fc.constantFrom('file', 'file', 'link', 'directory', 'shared'),
  value: fc.nat({ max: 2 }),
  mode: fc.constantFrom(0o644, 0o755, 0o4755, 0o600),
  uid: fc.constantFrom(0, 1000),
} as const);
const tree = fc.uniqueArray(node, { selector: ({ path }) => path, maxLength: paths.length });
const cuts = fc.record(
  { apply: fc.nat({ max: 6 }), undo: fc.nat({ max: 6 }), undoAtOnce: fc.constant(false) },
  { requiredKeys: ['undoAtOnce'] },
);
function file(path: string, value: number): Node {
  return { path, kind: 'file', value, mode: 0o644, uid: 0 };
}

function files(value: number): Node[] {
  return ['etc/a.conf', 'usr/bin/p', 'usr/lib/liba.so.1', 'srv/one'].map((path) => file(path, value));
}

/** What fails is told as it is: making it smaller would take minutes. */
const runs = { numRuns: 15, endOnFailure: true };

describe('the difference of two trees, replayed on a system in memory', () => {
  test('gives the second one, entry for entry, wherever it is cut off; the undo gives the first one back', () => {
    fc.assert(
      fc.property(tree, tree, cuts, (before, after, cut) => {
        const end = replay({ before, after, byHand: [], conflicts: 'beside', cuts: cut });
        expect(end.wrong).toEqual([]);
        expect(end).toMatchObject({ same: true, back: true, left: 0, conflicts: [] });
      }),
      runs,
    );
  });

  test('keeps what was changed by hand, and the undo leaves it', () => {
    const change = fc.record({
      path: fc.constantFrom(...paths),
      action: fc.constantFrom('write', 'remove'),
      value: fc.nat({ max: 2 }),
    } as const);
    const changes = fc.uniqueArray(change, { selector: ({ path }) => path, minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        tree,
        tree,
        changes,
        fc.constantFrom('beside', 'ours'),
        cuts,
        (before, after, byHand, how, cut) => {
          const end = replay({ before, after, byHand, conflicts: how, cuts: cut });
          expect(end.differences).toEqual([]);
          expect(end).toMatchObject({ back: true, left: 0 });
          const besides = end.conflicts.flatMap(({ beside }) => (beside === undefined ? [] : [beside]));
          // Each path that somebody has changed, and that is told of, is as it was.
          const told = end.conflicts
            .map(({ path }) => path)
            .filter((path) => byHand.some((each) => each.path === path));
          expect(end.kept).toEqual(expect.arrayContaining(told));
          expect(end.beside.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(
            besides.toSorted((a, b) => (a < b ? -1 : 1)),
          );
          expect(how === 'ours' ? besides : []).toEqual([]);
        },
      ),
      runs,
    );
  });

  test('an apply that was cut off can be taken back at once', () => {
    for (const apply of [0, 1, 3]) {
      const how = { byHand: [], conflicts: 'beside', cuts: { apply, undo: 1, undoAtOnce: true } } as const;
      const end = replay({ before: files(0), after: files(1), ...how });
      expect(end).toMatchObject({ resumed: false, back: true, left: 0 });
      // Libraries before programs, then the rest, then configuration.
      expect(end.changes).toEqual(['usr/lib/liba.so.1', 'usr/bin/p', 'srv/one', 'etc/a.conf']);
    }
  });

  test.each([
    ['goes', []],
    ['becomes another file', [file('srv/two', 1)]],
  ] as const)(
    'a name of a file that %s is one with the other again when that is taken back',
    (_, instead) => {
      const one: Node = { ...file('srv/one', 0), kind: 'shared' };
      const two: Node = { ...one, path: 'srv/two' };
      for (const undo of [undefined, 0]) {
        const cut = { undoAtOnce: false, ...(undo === undefined ? {} : { undo }) };
        const how = { byHand: [], conflicts: 'beside', cuts: cut } as const;
        const end = replay({ before: [one, two], after: [one, ...instead], ...how });
        expect(end).toMatchObject({ same: true, changes: ['srv/two'], differences: [], back: true });
      }
    },
  );

  test.each(['directory', 'file'] as const)(
    'can be cut off between a %s and what takes its place',
    (kind) => {
      const there = { ...file('opt/x', 0), kind };
      const other = { ...there, kind: kind === 'file' ? ('directory' as const) : ('file' as const) };
      // What is made before and behind it.
      const [before, after] = [
        [there, file('usr/lib/liba.so.1', 0), file('srv/one', 0)],
        [other, file('usr/lib/liba.so.1', 1), file('srv/one', 1), file('etc/a.conf', 0)],
      ];
      for (const when of [
        { apply: 0, undoAtOnce: true },
        { apply: 0, undoAtOnce: false },
        { undo: 0, undoAtOnce: false },
      ]) {
        const end = replay({
          before,
          after,
          byHand: [],
          conflicts: 'beside',
          cuts: { ...when, missing: 'opt/x' },
        });
        expect(end).toMatchObject({ differences: [], back: true, left: 0 });
      }
    },
  );

  test("takes the image's files where that is wanted", () => {
    const byHand = [{ path: 'etc/a.conf', action: 'write', value: 1 }] as const;
    const end = replay({
      ...{ before: [file('etc/a.conf', 0)], after: [file('etc/a.conf', 1)], byHand },
      ...{ conflicts: 'theirs', cuts: { undoAtOnce: false } },
    });
    expect(end).toMatchObject({ same: true, back: true, conflicts: [] });
  });
});
