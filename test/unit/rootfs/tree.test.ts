import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestTree } from '../../../src/rootfs/tree.ts';
import { recordingContext, repository, temporaryDirectory } from '../../support.ts';

const context = recordingContext();
const isRoot = process.geteuid?.() === 0;

async function digest(root: string): Promise<string> {
  return (await digestTree(root, context)).digest;
}

function treeWith(make: (root: string) => void): string {
  const root = join(temporaryDirectory(), 'tree');
  mkdirSync(root);
  make(root);
  return root;
}

/** A path below `root` whose last component is these bytes. */
function bytePath(root: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), name]);
}

function setAttribute(path: string | Buffer, value: string, name = 'user.relive'): void {
  // The path by standard input, byte for byte: arguments of Node.js are text.
  execFileSync('xargs', ['-0', 'setfattr', '-n', name, '-v', value, '--'], { input: path });
}

/** A small system: each of the changes below has something to bite on. */
function fill(root: string): void {
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0');
  writeFileSync(join(root, 'etc/shadow'), 'root:*', { mode: 0o640 });
  symlinkSync('usr/bin', join(root, 'bin'));
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  writeFileSync(join(root, 'usr/bin/perl'), 'perl', { mode: 0o755 });
  linkSync(join(root, 'usr/bin/perl'), join(root, 'usr/bin/perl5'));
  writeFileSync(join(root, 'usr/bin/tar'), 'tar', { mode: 0o755 });
  writeFileSync(join(root, 'usr/bin/rmt'), 'tar', { mode: 0o755 });
  mkdirSync(join(root, 'empty'));
}

test('two trees with the same entries have one digest, whatever their times and the order of making', async () => {
  const one = treeWith(fill);
  const other = treeWith((root) => {
    mkdirSync(join(root, 'empty'));
    mkdirSync(join(root, 'usr/bin'), { recursive: true });
    for (const [name, content] of [
      ['rmt', 'tar'],
      ['tar', 'tar'],
      ['perl5', 'perl'],
    ] as const)
      writeFileSync(join(root, 'usr/bin', name), content, { mode: 0o755 });
    linkSync(join(root, 'usr/bin/perl5'), join(root, 'usr/bin/perl'));
    symlinkSync('usr/bin', join(root, 'bin'));
    mkdirSync(join(root, 'etc'));
    writeFileSync(join(root, 'etc/shadow'), 'root:*', { mode: 0o640 });
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0');
    utimesSync(join(root, 'etc/passwd'), 1, 1);
    utimesSync(join(root, 'etc'), 1, 1);
  });
  expect(await digest(other)).toBe(await digest(one));
});

describe('a tree with another digest is one with', () => {
  const changes: Readonly<Record<string, (root: string) => void>> = {
    'other content of the same length': (root) => writeFileSync(join(root, 'etc/passwd'), 'root:x:0:1'),
    'another mode of a file': (root) => chmodSync(join(root, 'etc/shadow'), 0o644),
    'a set-user-ID bit': (root) => chmodSync(join(root, 'usr/bin/tar'), 0o4755),
    'another mode of a directory': (root) => chmodSync(join(root, 'etc'), 0o700),
    'another mode of the root': (root) => chmodSync(root, 0o700),
    'one file less': (root) => unlinkSync(join(root, 'etc/shadow')),
    'one file more, empty': (root) => writeFileSync(join(root, 'empty/x'), ''),
    'one directory less': (root) => rmSync(join(root, 'empty'), { recursive: true }),
    'another name': (root) => renameSync(join(root, 'etc/shadow'), join(root, 'etc/shadov')),
    'the same name one directory up': (root) => renameSync(join(root, 'etc/shadow'), join(root, 'shadow')),
    'another target of a link': (root) => {
      unlinkSync(join(root, 'bin'));
      symlinkSync('usr/sbin', join(root, 'bin'));
    },
    'a file where a link was, with its target as content': (root) => {
      unlinkSync(join(root, 'bin'));
      writeFileSync(join(root, 'bin'), 'usr/bin');
    },
    'a directory where an empty file was': (root) => {
      writeFileSync(join(root, 'empty/x'), '');
      unlinkSync(join(root, 'empty/x'));
      mkdirSync(join(root, 'empty/x'));
    },
    'two files where two names of one were': (root) => {
      unlinkSync(join(root, 'usr/bin/perl5'));
      writeFileSync(join(root, 'usr/bin/perl5'), 'perl', { mode: 0o755 });
    },
    'two names of one where two files were': (root) => {
      unlinkSync(join(root, 'usr/bin/rmt'));
      linkSync(join(root, 'usr/bin/tar'), join(root, 'usr/bin/rmt'));
    },
    'a pipe where a file was': (root) => {
      unlinkSync(join(root, 'etc/passwd'));
      execFileSync('mkfifo', ['-m', '644', join(root, 'etc/passwd')]);
    },
    'an extended attribute of a file': (root) => setAttribute(join(root, 'etc/passwd'), 'x'),
    'an extended attribute of a directory': (root) => setAttribute(join(root, 'etc'), 'x'),
    'an extended attribute of the root': (root) => setAttribute(root, 'x'),
  };
  test.each(Object.entries(changes))('%s', async (_, change) => {
    const changed = treeWith(fill);
    change(changed);
    expect(await digest(changed)).not.toBe(await digest(treeWith(fill)));
  });

  const asRoot: Readonly<Record<string, (root: string) => void>> = {
    'another owner': (root) => chownSync(join(root, 'etc/passwd'), 1, 0),
    'another group of a directory': (root) => chownSync(join(root, 'etc'), 0, 42),
    'a file capability': (root) => {
      execFileSync('setfattr', [
        '-n',
        'security.capability',
        '-v',
        '0x0100000200040000000000000000000000000000',
        join(root, 'usr/bin/tar'),
      ]);
    },
    'another device number': (root) => execFileSync('mknod', [join(root, 'etc/device'), 'c', '1', '5']),
  };
  test.runIf(isRoot).each(Object.entries(asRoot))('%s', async (_, change) => {
    const one = treeWith(fill);
    const other = treeWith(fill);
    for (const root of [one, other]) execFileSync('mknod', [join(root, 'etc/device'), 'c', '1', '3']);
    rmSync(join(other, 'etc/device'));
    change(other);
    if (_ !== 'another device number') execFileSync('mknod', [join(other, 'etc/device'), 'c', '1', '3']);
    expect(await digest(other)).not.toBe(await digest(one));
  });
});

describe('extended attributes count whatever the name of the file', () => {
  test.each([
    ['plain', Buffer.from('plain')],
    ['with a newline', Buffer.from('a\nb')],
    ['with a carriage return', Buffer.from('a\rb')],
    ['with a backslash', Buffer.from('a\\012b')],
    ['with an equals sign', Buffer.from('NetLock_Arany_=Class_Gold=.crt')],
    ['with a blank and a hash', Buffer.from('# file: x')],
    ['with letters beyond ASCII', Buffer.from('Főtanúsítvány.crt')],
    ['that is no UTF-8', Buffer.from([0x66, 0xff, 0xfe, 0x80])],
  ])('%s', async (_, name) => {
    const make = (value?: string): string =>
      treeWith((root) => {
        writeFileSync(bytePath(root, name), 'x');
        if (value !== undefined) setAttribute(bytePath(root, name), value);
      });
    const digests = [await digest(make()), await digest(make('one')), await digest(make('two'))];
    expect(new Set(digests).size).toBe(3);
    expect(await digest(make('one'))).toBe(digests[1]);
  });

  test('and which of two names has it', async () => {
    const names = [Buffer.from([0x66, 0xff]), Buffer.from([0x66, 0xfe])] as const;
    const make = (marked: 0 | 1): string =>
      treeWith((root) => {
        for (const name of names) writeFileSync(bytePath(root, name), 'x');
        setAttribute(bytePath(root, names[marked]), 'x');
      });
    expect(await digest(make(0))).not.toBe(await digest(make(1)));
  });
});

test('names outside the tree of a file inside it do not count', async () => {
  const one = treeWith(fill);
  const other = treeWith(fill);
  // It comes before the pair of names in the tree.
  linkSync(join(other, 'etc/passwd'), join(other, '../passwd'));
  expect(await digest(other)).toBe(await digest(one));
});

test('any name is an entry of its own, and its content is told from its neighbours', async () => {
  const name = fc
    .uint8Array({ minLength: 1, maxLength: 12 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte))))
    .filter((bytes) => !['.', '..'].includes(bytes.toString('latin1')));
  const top = temporaryDirectory();
  await fc.assert(
    fc.asyncProperty(name, name, fc.string(), async (first, second, content) => {
      fc.pre(!first.equals(second));
      const make = (bytes: Buffer): string => {
        const root = mkdtempSync(join(top, 'tree-'));
        writeFileSync(bytePath(root, bytes), content);
        return root;
      };
      expect(await digest(make(first))).not.toBe(await digest(make(second)));
      expect(await digest(make(first))).toBe(await digest(make(first)));
    }),
    { numRuns: 20 },
  );
});

test('an interrupt ends it', async () => {
  const controller = new AbortController();
  controller.abort(new Error('enough'));
  await expect(digestTree(join(repository, 'src'), recordingContext(controller.signal))).rejects.toThrow(
    'enough',
  );
});
