import { describe, expect, test } from 'vitest';
import {
  type Change,
  type ChangeOptions,
  orderChanges,
  planChanges,
  type Snapshot,
  snapshotOf,
} from '../../../src/live/changes.ts';
import type { TreeEntry } from '../../../src/rootfs/tree.ts';

const types = { file: 0o100000, directory: 0o040000, link: 0o120000 } as const;

function entry(path: string, content = '1', kind: keyof typeof types = 'file'): TreeEntry {
  const facts = { mode: 0o644, uid: 0, gid: 0, attributes: '', size: 1, time: 0 };
  return { path, type: types[kind], ...facts, content: kind === 'directory' ? [] : [content] };
}

const tree = (...entries: readonly TreeEntry[]): Snapshot =>
  snapshotOf(new Map(entries.map((each) => [each.path, each])));

const one = (path: string, content: string): Snapshot => tree(entry(path, content));

function write(path: string, kind: keyof typeof types = 'file'): Change {
  return { path, before: null, after: entry(path, '1', kind) };
}

function remove(path: string): Change {
  return { path, before: entry(path), after: null };
}

const options: ChangeOptions = { conflicts: 'beside', suffix: '.relive-new', exempt: () => undefined };

describe('the order of changes', () => {
  test('libraries before programs, then data, configuration, units; deletions last, deepest first', () => {
    const wanted = [
      write('opt/new', 'directory'),
      write('usr/lib/x86_64-linux-gnu/libz.so.1.3'),
      write('usr/lib/x86_64-linux-gnu/libz.so.1', 'link'),
      write('usr/sbin/nginx'),
      write('usr/share/doc/x'),
      write('etc/nginx/nginx.conf'),
      write('etc/systemd/system/a.service'),
      write('usr/lib/systemd/system/nginx.service'),
      remove('opt/old/deep/file'),
      remove('opt/old/deep'),
      remove('opt/old'),
    ];
    expect(orderChanges(wanted.toReversed())).toEqual(wanted);
  });

  test('what is in a directory that becomes a file goes just before', () => {
    const file = { path: 'opt/x', before: entry('opt/x', '', 'directory'), after: entry('opt/x') };
    const inside = { path: 'opt/x/y', before: entry('opt/x/y'), after: null };
    const other = { path: 'usr/bin/a', before: null, after: entry('usr/bin/a') };
    expect(orderChanges([inside, file, other])).toEqual([other, inside, file]);
  });
});

describe('what a plan does about what was changed by hand', () => {
  const [from, to] = [tree(entry('etc/a', '1')), tree(entry('etc/a', '2'))];
  const live = tree(entry('etc/a', 'mine'));

  test('keeps it, and puts the new one beside', () => {
    const plan = planChanges(from, to, live, options);
    expect(plan.conflicts).toMatchObject([{ path: 'etc/a', beside: 'etc/a.relive-new' }]);
    expect(plan.changes).toMatchObject([{ path: 'etc/a.relive-new', before: null, source: 'etc/a' }]);
  });

  test('takes the new one, or keeps silently, where that is wanted', () => {
    expect(planChanges(from, to, live, { ...options, conflicts: 'theirs' })).toMatchObject({
      conflicts: [],
      changes: [{ path: 'etc/a', before: { content: ['mine'] }, after: { content: ['2'] } }],
    });
    expect(planChanges(from, to, live, { ...options, conflicts: 'ours' }).changes).toEqual([]);
  });

  test('is no conflict where somebody made it what the image has', () => {
    expect(planChanges(from, to, to, options)).toEqual({ changes: [], conflicts: [], left: [] });
  });

  test('a file that the image removes stays where it was changed', () => {
    const plan = planChanges(from, tree(), live, options);
    expect(plan.changes).toEqual([]);
    expect(plan.conflicts).toMatchObject([{ path: 'etc/a' }]);
  });

  test('what programs make anew is never kept', () => {
    const path = 'etc/ld.so.cache';
    expect(planChanges(one(path, '1'), one(path, '2'), one(path, '3'), options)).toMatchObject({
      conflicts: [],
      changes: [{ path }],
    });
  });

  test('users and groups are merged, not kept', () => {
    const path = 'etc/passwd';
    const plan = planChanges(one(path, '1'), one(path, '2'), one(path, '3'), options);
    expect(plan).toMatchObject({ conflicts: [], changes: [{ path, merged: true }] });
  });
});

test('what is exempt is left, with the reason', () => {
  const plan = planChanges(tree(), tree(entry('boot/vmlinuz')), tree(), {
    ...options,
    exempt: () => 'kernel',
  });
  expect(plan).toEqual({ changes: [], conflicts: [], left: [{ path: 'boot/vmlinuz', why: 'kernel' }] });
});
