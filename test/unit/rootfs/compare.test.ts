import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { compareTrees, type TreeDifference } from '../../../src/rootfs/compare.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';

const isRoot = process.geteuid?.() === 0;
const then = new Date('2026-01-01T00:00:00Z');

let from: string;
let to: string;

/** The same tree twice. */
beforeEach(() => {
  const home = temporaryDirectory();
  [from, to] = [join(home, 'from'), join(home, 'to')];
  for (const root of [from, to]) {
    mkdirSync(join(root, 'etc'), { recursive: true });
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0');
    writeFileSync(join(root, 'etc/shadow'), 'root:*', { mode: 0o640 });
    linkSync(join(root, 'etc/passwd'), join(root, 'etc/passwd-'));
    symlinkSync('passwd', join(root, 'etc/link'));
    for (const path of ['etc/passwd', 'etc/shadow', 'etc', '.']) utimesSync(join(root, path), then, then);
  }
});

async function compare(): Promise<TreeDifference[]> {
  for (const root of [from, to]) utimesSync(join(root, 'etc'), then, then);
  const differences = await compareTrees(from, to, recordingContext());
  // A link's own time cannot be set from here.
  return differences.filter(({ path, aspects }) => path !== 'etc/link' || aspects.join('') !== 'time');
}

/** Path, kind and aspects of each difference. */
async function summary(): Promise<string[]> {
  return (await compare()).map(({ path, kind, aspects }) => [path, kind, ...aspects].join(' '));
}

test('equal trees do not differ', async () => {
  expect(await summary()).toEqual([]);
});

describe('each change is told', () => {
  test('an entry that is added, one that is removed', async () => {
    writeFileSync(join(to, 'etc/new'), 'x');
    rmSync(join(to, 'etc/shadow'));
    expect(await summary()).toEqual(['etc/new added', 'etc/shadow removed']);
  });

  test('content, with size and digest of both', async () => {
    writeFileSync(join(to, 'etc/shadow'), 'root:!!');
    utimesSync(join(to, 'etc/shadow'), then, then);
    expect(await compare()).toMatchObject([
      {
        ...{ path: 'etc/shadow', kind: 'changed', aspects: ['content'] },
        from: { type: 'file', mode: '0640', size: 6, time: '2026-01-01T00:00:00.000Z' },
        to: { size: 7, content: expect.stringMatching(/^[0-9a-f]{64}$/) },
      },
    ]);
  });

  test('mode', async () => {
    chmodSync(join(to, 'etc/shadow'), 0o4600);
    expect(await compare()).toMatchObject([
      { aspects: ['mode'], from: { mode: '0640' }, to: { mode: '4600' } },
    ]);
  });

  test.skipIf(!isRoot)('owner', async () => {
    chownSync(join(to, 'etc/shadow'), 0, 42);
    expect(await compare()).toMatchObject([
      { aspects: ['owner'], from: { owner: '0:0' }, to: { owner: '0:42' } },
    ]);
  });

  test('type', async () => {
    rmSync(join(to, 'etc/shadow'));
    mkdirSync(join(to, 'etc/shadow'), { mode: 0o640 });
    utimesSync(join(to, 'etc/shadow'), then, then);
    expect(await summary()).toEqual(['etc/shadow changed type']);
  });

  test('the target of a link', async () => {
    rmSync(join(to, 'etc/link'));
    symlinkSync('shadow', join(to, 'etc/link'));
    expect(await compare()).toMatchObject([
      { path: 'etc/link', from: { content: 'passwd' }, to: { content: 'shadow' } },
    ]);
  });

  test('two names of one file that became two files', async () => {
    rmSync(join(to, 'etc/passwd-'));
    writeFileSync(join(to, 'etc/passwd-'), 'root:x:0:0');
    utimesSync(join(to, 'etc/passwd-'), then, then);
    expect(await compare()).toMatchObject([{ path: 'etc/passwd-', from: { content: 'same as etc/passwd' } }]);
  });

  test('time', async () => {
    utimesSync(join(to, 'etc/shadow'), new Date(), new Date());
    expect(await summary()).toEqual(['etc/shadow changed time']);
  });
});
