import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { throughLinks, writeInside } from '../../../src/rootfs/links.ts';
import { filesStage } from '../../../src/rootfs/stages/files.ts';
import { recordingContext, startProgram, temporaryDirectory } from '../../support.ts';

const isRoot = process.geteuid?.() === 0;
const epoch = 1_700_000_000;

function write(path: string, content: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  chmodSync(path, mode);
}

/** A system with /usr merged, as every Debian has it since bookworm. */
function system(): string {
  const root = join(temporaryDirectory(), 'root');
  mkdirSync(join(root, 'usr/lib/systemd'), { recursive: true });
  mkdirSync(join(root, 'etc'), { mode: 0o755 });
  symlinkSync('usr/lib', join(root, 'lib'));
  symlinkSync('/run/systemd/resolve/stub-resolv.conf', join(root, 'etc/resolv.conf'));
  return root;
}

async function noChroot(): Promise<never> {
  return await Promise.reject(new Error('copying needs no program of the system'));
}

async function apply(root: string, ...overlays: readonly string[]): Promise<void> {
  const stage = await filesStage({ overlays, sourceDateEpoch: epoch });
  await stage.work({ root, output: root, chroot: noChroot }, recordingContext());
}

function overlay(): string {
  const path = join(temporaryDirectory(), 'overlay');
  mkdirSync(path);
  return path;
}

describe('throughLinks', () => {
  test.each([
    ['lib/x', 'usr/lib/x'],
    ['lib/systemd/x', 'usr/lib/systemd/x'],
    ['etc/x', 'etc/x'],
    ['new/deep/x', 'new/deep/x'],
    // The last part is replaced, not followed.
    ['lib', 'lib'],
    ['etc/resolv.conf', 'etc/resolv.conf'],
    ['./etc//x', 'etc/x'],
  ])('%s is %s', async (path, resolved) => {
    expect(await throughLinks(system(), path)).toBe(resolved);
  });

  test.each([
    ['/', 'x'],
    ['/etc', 'etc/x'],
    ['../../../../etc', 'etc/x'],
    ['usr/../../etc', 'etc/x'],
    ['.', 'x'],
  ])('a link to %s stays inside', async (target, resolved) => {
    const root = system();
    symlinkSync(target, join(root, 'link'));
    expect(await throughLinks(root, 'link/x')).toBe(resolved);
  });

  test('a circle is an error', async () => {
    const root = system();
    symlinkSync('two', join(root, 'one'));
    symlinkSync('one', join(root, 'two'));
    await expect(throughLinks(root, 'one/x')).rejects.toMatchObject({
      code: 'configuration',
      message: expect.stringContaining('too many levels of symbolic links'),
    });
  });

  test.runIf(isRoot)('agrees with the kernel in a chroot, whatever the links are', async () => {
    const part = fc.constantFrom('a', 'b', '..', 'etc', '.');
    const target = fc
      .tuple(fc.boolean(), fc.array(part, { minLength: 1, maxLength: 4 }))
      .map(([absolute, parts]) => `${absolute ? '/' : ''}${parts.join('/')}`);
    await fc.assert(
      fc.asyncProperty(target, target, fc.array(part, { maxLength: 3 }), async (one, two, way) => {
        const root = temporaryDirectory();
        // Static, so that the chroot needs no libraries; realpath of a path whose last part is missing.
        mkdirSync(join(root, 'etc/a'), { recursive: true });
        symlinkSync(one, join(root, 'a'));
        symlinkSync(two, join(root, 'etc/b'));
        const path = [...way, 'file'].join('/');
        const inside = await startProgram('perl', [
          '-e',
          'use Cwd; chroot $ARGV[0] or die; chdir "/"; chdir $ARGV[1] or exit 1; print getcwd()',
          root,
          way.length === 0 ? '/' : way.join('/'),
        ]).ended;
        // Where the kernel finds no directory there is nothing to compare.
        fc.pre(inside.status === 0);
        const expected = join(inside.stdout, 'file').slice(1);
        expect(await throughLinks(root, path)).toBe(expected);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a file written from outside', () => {
  test.each(['etc/hosts', 'etc/resolv.conf', 'lib/systemd/x'])('%s stays inside', async (path) => {
    const root = system();
    const outside = join(root, '../outside');
    writeFileSync(outside, 'of the host');
    symlinkSync(outside, join(root, 'etc/hosts'));
    await writeInside(root, path, 'ours');
    expect(readFileSync(outside, 'utf8')).toBe('of the host');
    expect(lstatSync(join(root, await throughLinks(root, path))).isFile()).toBe(true);
    expect(readFileSync(join(root, path), 'utf8')).toBe('ours');
  });

  test('goes through a link to a file of the system', async () => {
    const root = system();
    write(join(root, 'etc/locale.conf'), 'LANG=C\n');
    mkdirSync(join(root, 'etc/default'));
    symlinkSync('../locale.conf', join(root, 'etc/default/locale'));
    await writeInside(root, 'etc/default/locale', 'LANG=C.UTF-8\n');
    expect(readlinkSync(join(root, 'etc/default/locale'))).toBe('../locale.conf');
    expect(readFileSync(join(root, 'etc/locale.conf'), 'utf8')).toBe('LANG=C.UTF-8\n');
  });

  test('keeps mode and owner of a file that is there', async () => {
    const root = system();
    write(join(root, 'etc/fstab'), 'old', 0o600);
    await writeInside(root, 'etc/fstab', 'new');
    expect(statSync(join(root, 'etc/fstab')).mode & 0o777).toBe(0o600);
  });
});

describe.runIf(isRoot)('an overlay', () => {
  test('keeps modes and links; owner and time are root and the build', async () => {
    const root = system();
    const from = overlay();
    write(join(from, 'usr/local/bin/tool'), '#!/bin/sh\n', 0o755);
    write(join(from, 'etc/secret'), 'x', 0o600);
    mkdirSync(join(from, 'srv/data'), { recursive: true });
    chmodSync(join(from, 'srv/data'), 0o1777);
    symlinkSync('/srv/data', join(from, 'data'));
    await apply(root, from);
    expect(statSync(join(root, 'usr/local/bin/tool'))).toMatchObject({ mode: 0o100755, uid: 0, gid: 0 });
    expect(statSync(join(root, 'etc/secret')).mode).toBe(0o100600);
    expect(statSync(join(root, 'srv/data')).mode).toBe(0o041777);
    expect(statSync(join(root, 'usr/local/bin/tool')).mtimeMs).toBe(epoch * 1000);
    expect(lstatSync(join(root, 'data')).mtimeMs).toBe(epoch * 1000);
    expect(readlinkSync(join(root, 'data'))).toBe('/srv/data');
  });

  test('leaves the links that merge /usr as they are, and puts its files behind them', async () => {
    const root = system();
    const from = overlay();
    write(join(from, 'lib/systemd/system/own.service'), '[Unit]\n');
    await apply(root, from);
    expect(readlinkSync(join(root, 'lib'))).toBe('usr/lib');
    expect(readFileSync(join(root, 'usr/lib/systemd/system/own.service'), 'utf8')).toBe('[Unit]\n');
  });

  test('leaves mode and owner of directories that the system has', async () => {
    const root = system();
    chmodSync(join(root, 'etc'), 0o700);
    const from = overlay();
    write(join(from, 'etc/x'), 'x');
    await apply(root, from);
    expect(statSync(join(root, 'etc')).mode & 0o777).toBe(0o700);
  });

  test('replaces a link by a file, without following it', async () => {
    const root = system();
    const outside = join(root, '../outside');
    writeFileSync(outside, 'of the host');
    symlinkSync(outside, join(root, 'etc/link'));
    const from = overlay();
    write(join(from, 'etc/link'), 'ours');
    write(join(from, 'etc/resolv.conf'), 'nameserver ::1\n');
    await apply(root, from);
    expect(readFileSync(outside, 'utf8')).toBe('of the host');
    expect(lstatSync(join(root, 'etc/link')).isFile()).toBe(true);
    expect(readFileSync(join(root, 'etc/resolv.conf'), 'utf8')).toBe('nameserver ::1\n');
  });

  test('never leaves the root, whatever links the system has', async () => {
    const root = system();
    const outside = join(root, '../outside');
    for (const directory of [outside, join(root, outside), join(root, 'outside')]) {
      mkdirSync(directory, { recursive: true });
    }
    symlinkSync(outside, join(root, 'srv'));
    symlinkSync('../../outside', join(root, 'opt'));
    const from = overlay();
    write(join(from, 'srv/a'), 'a');
    write(join(from, 'opt/b'), 'b');
    await apply(root, from);
    expect(readlinkSync(join(root, 'srv'))).toBe(outside);
    expect(readFileSync(join(root, outside, 'a'), 'utf8')).toBe('a');
    expect(readFileSync(join(root, 'outside/b'), 'utf8')).toBe('b');
    expect(readdirSync(outside)).toEqual([]);
  });

  test('a later one wins over an earlier one', async () => {
    const root = system();
    const [first, second] = [overlay(), overlay()];
    write(join(first, 'etc/motd'), 'first');
    write(join(second, 'etc/motd'), 'second');
    await apply(root, first, second);
    expect(readFileSync(join(root, 'etc/motd'), 'utf8')).toBe('second');
  });

  test('refuses to put a file where the system has a directory', async () => {
    const from = overlay();
    write(join(from, 'usr'), 'x');
    await expect(apply(system(), from)).rejects.toMatchObject({
      code: 'configuration',
      message: expect.stringContaining(`${from}/usr: the system has a directory there, /usr`),
    });
  });

  test('refuses pipes and devices, naming them', async () => {
    const from = overlay();
    await startProgram('mkfifo', [join(from, 'pipe')]).ended;
    await expect(apply(system(), from)).rejects.toMatchObject({
      code: 'configuration',
      message: expect.stringContaining(`${from}/pipe`),
    });
  });
});

/** What decides the stage for an overlay with one file, after a change to it. */
async function inputsAfter(change: (path: string) => void): Promise<unknown> {
  const from = overlay();
  write(join(from, 'etc/motd'), 'hello');
  change(from);
  return (await filesStage({ overlays: [from], sourceDateEpoch: epoch })).inputs;
}

test('what decides the stage is what is in the overlays, not where they lie', async () => {
  const plain = await inputsAfter(() => undefined);
  expect(await inputsAfter(() => undefined)).toEqual(plain);
  for (const change of [
    (path: string) => writeFileSync(join(path, 'etc/motd'), 'hullo'),
    (path: string) => chmodSync(join(path, 'etc/motd'), 0o600),
    (path: string) => write(join(path, 'etc/more'), ''),
    (path: string) => symlinkSync('motd', join(path, 'etc/link')),
    (path: string) => mkdirSync(join(path, 'srv')),
  ]) {
    expect(await inputsAfter(change)).not.toEqual(plain);
  }
});
