import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Manifest } from '../../../src/image/manifest.ts';
import { makeDeb, publishArchive } from '../../fixtures/archive.ts';
import { addBox } from '../../fixtures/box.ts';
import { type Line, runCommand, startCommand, succeed } from '../../fixtures/command.ts';
import { changeOverlay } from '../../fixtures/overlay.ts';
import { startServer } from '../../fixtures/server.ts';
import { makeSigningKey } from '../../fixtures/signing.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { smallDisk } from '../../fixtures/small-disk.ts';

let site: TestSite;
let overlay: string;

beforeAll(async () => {
  site = await freshSite({ cache: true, store: true });
  overlay = join(site.directory, 'overlays/demo');
  await addBox(site);
});
afterAll(() => removeSite(site));

const words = (profile: string): string[] => ['update', profile, '--offline', '--no-test'];

async function update(profile: string): Promise<Line> {
  const { last } = await succeed(words(profile), { site: site.directory });
  if (last === undefined) throw new Error('no result');
  return last;
}

async function manifestOf(image: unknown): Promise<Manifest> {
  const { last } = await succeed(['image', 'show', String(image)], { site: site.directory });
  return (last as unknown as { manifest: Manifest }).manifest;
}

const change = (round: number): void => changeOverlay(overlay, round);

/** The images that are there, and how many faults each has. */
async function imagesAndFaults(): Promise<Record<string, number>> {
  const { last } = await runCommand(['image', 'verify'], { site: site.directory });
  return (last as unknown as { images: Record<string, number> }).images;
}

/** What a file takes on a disk in memory, in KiB. */
function pages(path: string): number {
  return Math.ceil(statSync(path).size / 4096) * 4;
}

test('two updates at once: one makes the image, the other one finds it there', async () => {
  change(20);
  const both = await Promise.all([update('box'), update('box')]);
  expect(new Set(both.map(({ unchanged }) => unchanged))).toEqual(new Set([false, true]));
  expect(both[0]?.['image']).toBe(both[1]?.['image']);
});

test('a clock that went back: version and serial rise all the same', async () => {
  const before = await manifestOf('box');
  change(21);
  const file = join(site.directory, 'clock.cjs');
  writeFileSync(
    file,
    `const Real = Date;
    const now = () => Real.now() - 30 * 86400000;
    globalThis.Date = class extends Real {
      constructor(...words) { if (words.length === 0) super(now()); else super(...words); }
      static now() { return now(); }
    };`,
  );
  const { last } = await succeed(words('box'), {
    site: site.directory,
    env: { NODE_OPTIONS: `--require=${file}` },
  });
  const after = await manifestOf(last?.['image']);
  expect(after.version > before.version).toBe(true);
  expect(after.serial).toBeGreaterThan(before.serial);
});

test('killed at any moment: what is published is whole, and the next run finishes', async () => {
  let published = false;
  for (const [round, stage, longest] of [
    [22, 'files', 300],
    [23, 'pack', 900],
    [24, 'prove', 600],
    [25, 'seal', 100],
  ] as const) {
    change(round);
    const before = await imagesAndFaults();
    const running = startCommand(words('box'), { site: site.directory });
    await running.line((line) => line['stage'] === stage && line['state'] === 'start');
    const moment = Math.floor(Math.random() * longest);
    await setTimeout(moment);
    running.child.kill('SIGKILL');
    await running.ended;
    const after = await imagesAndFaults();
    expect({ moment, ...after }).toMatchObject({ moment, ...before });
    // It may have been faster, and one more is there.
    published = Object.keys(after).length > Object.keys(before).length;
    expect(Object.values(after).filter((faults) => faults !== 0)).toEqual([]);
  }
  expect(await update('box')).toMatchObject({ unchanged: published });
  expect(readdirSync(site.store).toSorted()).toEqual(['.lock', 'images', 'live']);
});

test('a disk that gets full at whichever write: the store as it was, and the next run finishes', async () => {
  const before = await manifestOf('box');
  change(26);
  const { image } = await update('box');
  // What the next image will take is what this one took, to the page.
  const { version, layers } = await manifestOf(image);
  const fresh = layers
    .slice(before.layers.length)
    .flatMap(({ digest }) => [`live/${digest.slice(0, 16)}.squashfs`, `live/${digest.slice(0, 16)}.verity`]);
  const directory = `images/box/${version}`;
  const files = readdirSync(join(site.store, directory)).map((name) => `${directory}/${name}`);
  const sizeOf = (paths: readonly string[]): number =>
    paths.reduce((sum, path) => sum + pages(join(site.store, path)), 0);
  const whole = sizeOf([...fresh, ...files]);
  expect(fresh).toHaveLength(2);

  const disk = await smallDisk(site.store, 900, [join(site.store, 'images'), join(site.store, 'live')]);
  const there = { site: site.directory, through: disk.through };
  change(27);
  const content = disk.content();
  // The delta, the manifest, the first signatures, the last one. Kernel and initrd: build/disk-full.test.ts.
  for (const left of [0, sizeOf(fresh), whole - 16, whole - 8]) {
    const running = startCommand(words('box'), there);
    await running.line((line) => line['stage'] === 'pack' && line['state'] === 'start');
    disk.fill(left, 'K');
    const { status, last } = await running.ended;
    expect({ left, status, code: last?.['code'] }).toEqual({ left, status: 3, code: 'disk-full' });
    disk.empty();
    expect(disk.content()).toBe(content);
  }
  expect((await succeed(words('box'), there)).last).toMatchObject({
    ...{ unchanged: false, parent: image },
  });
  await succeed(['image', 'verify'], there);
});

test('a cache that gets full: an error that says so, and nothing left there', async () => {
  change(28);
  const before = await imagesAndFaults();
  const parts = readdirSync(site.cache).filter((name) => name !== '.lock');
  const disk = await smallDisk(
    site.cache,
    900,
    parts.map((name) => join(site.cache, name)),
  );
  for (const stage of ['files', 'pack']) {
    const running = startCommand(words('box'), { site: site.directory, through: disk.through });
    await running.line((line) => line['stage'] === stage && line['state'] === 'start');
    disk.fill(0, 'K');
    const { status, last } = await running.ended;
    expect({ stage, status, code: last?.['code'] }).toEqual({ stage, status: 3, code: 'disk-full' });
    disk.empty();
    expect(
      disk.names().filter((name) => !parts.includes(name) && !/^(?:\.lock|\.filled|stage-locks)$/.test(name)),
    ).toEqual([]);
  }
  expect(await imagesAndFaults()).toEqual(before);
});

test('what fails its test is not published and stays for reading, until an update succeeds', async () => {
  const before = await manifestOf('demo');
  const hooks = join(overlay, 'etc/initramfs-tools/hooks');
  mkdirSync(hooks, { recursive: true });
  const hook = join(hooks, 'zz-without');
  const script = 'usr/lib/live/boot/9999-relive';
  writeFileSync(hook, `#!/bin/sh\n[ "$1" = prereqs ] || rm -f "$DESTDIR/${script}"\n`, { mode: 0o755 });
  const tested = ['update', 'demo', '--offline'];
  const candidates = join(site.store, 'candidates');
  const unfinished = async (): Promise<string[]> => {
    const running = startCommand(tested, { site: site.directory });
    await running.line((line) => line['stage'] === 'test' && line['state'] === 'start');
    running.child.kill('SIGKILL');
    await running.ended;
    return readdirSync(candidates).filter((name) => !name.startsWith('.'));
  };
  expect(await unfinished()).toHaveLength(1);
  const failed = await runCommand(tested, { site: site.directory });
  expect([failed.status, failed.last?.['code']]).toEqual([3, 'guest-failed']);
  expect(failed.last?.['message']).toContain("lacks relive's script");
  expect((await manifestOf('demo')).image).toBe(before.image);
  const list = async (): Promise<{ name: string; directory: string }[]> => {
    const { last } = await succeed(['image', 'list', '--candidates'], { site: site.directory });
    return (last as unknown as { candidates: { name: string; directory: string }[] }).candidates;
  };
  const [candidate, ...others] = await list();
  expect(others).toEqual([]);
  expect(candidate?.name.startsWith('demo-')).toBe(true);
  // What the run left that was killed is gone.
  expect(readdirSync(candidates)).toEqual(['.demo.lock', candidate?.name]);
  expect(existsSync(candidate?.directory ?? '')).toBe(true);
  rmSync(hook);
  // A version that was told of once is no other image's.
  const { image } = await update('demo');
  expect(String(image) > (candidate?.name ?? '')).toBe(true);
  expect(await list()).toEqual([]);
  expect(existsSync(candidate?.directory ?? '')).toBe(false);
  expect(await imagesAndFaults()).toMatchObject({ [String(image)]: 0 });
});

test('without QEMU an error that names what is missing, before anything is made', async () => {
  const { status, last, lines } = await runCommand(['update', 'demo', '--offline'], {
    site: site.directory,
    // Over the one program a file that nobody can run.
    through: [
      ...['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c'],
      ...['mount --bind /dev/null "$(command -v qemu-system-x86_64)" && exec "$@"', 'sh'],
    ],
  });
  expect([status, last?.['code'], lines.length]).toEqual([3, 'tool-missing', 1]);
  expect(last?.['hint']).toMatch(/qemu-system-x86.*--no-test/);
});

test('a package whose maintainer script fails: what it said, and nothing published', async () => {
  const before = await imagesAndFaults();
  const key = makeSigningKey();
  const server = await startServer();
  try {
    const postinst = '#!/bin/sh\necho "the moon is in the wrong phase" >&2\nexit 7\n';
    publishArchive(server.files, 'trixie', key, { debs: [makeDeb({ name: 'fails', postinst })] });
    const [yaml, profile] = ['relive.yaml', 'profiles/box.yaml'].map((name) => join(site.directory, name));
    const repository = `  broken: {url: ["${server.url}"], suites: [trixie], components: [main], architectures: [amd64], signedBy: ${key.keyring}, select: all}\n`;
    writeFileSync(
      yaml ?? '',
      readFileSync(yaml ?? '', 'utf8').replace(/^repositories:\n/m, `repositories:\n${repository}`),
    );
    const text = readFileSync(profile ?? '', 'utf8');
    writeFileSync(
      profile ?? '',
      text
        .replace(/^repositories: \[/m, 'repositories: [broken, ')
        .replace(/^packages:\n/m, 'packages:\n  - fails\n'),
    );
    await succeed(['mirror', 'sync', 'broken'], { site: site.directory });
    const { status, last } = await runCommand(words('box'), {
      site: site.directory,
    });
    expect([status, last?.['code']]).toEqual([3, 'tool-failed']);
    expect(last?.['message']).toMatch(
      /^apt-get ended with status 100\n(?: {4}.*\n)* {4}the moon is in the wrong phase\n(?: {4}.*\n)* {4}dpkg: error processing package fails /,
    );
    const log = /printed is in (.*)$/.exec(String(last?.['hint']))?.[1] ?? '';
    const printed = readFileSync(log, 'utf8');
    for (const line of ['Setting up fails ', 'the moon is in the wrong phase\n'])
      expect(printed).toContain(`\n${line}`);
    expect(await imagesAndFaults()).toEqual(before);
  } finally {
    await server.close();
    key.remove();
  }
});
