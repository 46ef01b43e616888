import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Manifest } from '../../../src/image/manifest.ts';
import { makeDeb, publishArchive } from '../../fixtures/archive.ts';
import { type Line, runCommand, startCommand, succeed } from '../../fixtures/command.ts';
import { startServer } from '../../fixtures/server.ts';
import { makeSigningKey } from '../../fixtures/signing.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;
let overlay: string;

beforeAll(async () => {
  site = await freshSite({ cache: true, store: true });
  overlay = join(site.directory, 'overlays/demo');
});
afterAll(() => removeSite(site));

async function update(...words: readonly string[]): Promise<Line> {
  const { last } = await succeed(['update', 'demo', '--offline', '--no-test', ...words], {
    site: site.directory,
  });
  if (last === undefined) throw new Error('no result');
  return last;
}

async function manifestOf(image: unknown): Promise<Manifest> {
  const { last } = await succeed(['image', 'show', String(image)], { site: site.directory });
  return (last as unknown as { manifest: Manifest }).manifest;
}

/** What of two images differs, times apart. */
async function differences(from: unknown, to: unknown): Promise<unknown> {
  const { last } = await runCommand(['image', 'diff', String(from), String(to)], { site: site.directory });
  const { files } = last as unknown as { files: { path: string; aspects: string[]; kind: string }[] };
  return files.filter(({ kind, aspects }) => kind !== 'changed' || aspects.join(',') !== 'time');
}

const rolesOf = ({ layers }: Manifest): string[] => layers.map(({ role }) => role);

/** Every kind of change that an overlay can make. */
function change(round: number): void {
  const here = join(overlay, 'opt/changes');
  rmSync(here, { recursive: true, force: true });
  mkdirSync(join(here, `new-${round}/deep`), { recursive: true });
  writeFileSync(join(here, `new-${round}/deep/file`), String(round));
  writeFileSync(join(here, 'mode'), 'the same');
  chmodSync(join(here, 'mode'), round % 2 === 0 ? 0o644 : 0o755);
  // A directory, a file and a link in turn at one place.
  const turning = join(here, 'turning');
  if (round % 3 === 0) {
    mkdirSync(turning);
    writeFileSync(join(turning, `in-${round}`), '');
  } else if (round % 3 === 1) writeFileSync(turning, 'a file');
  else symlinkSync('mode', turning);
  writeFileSync(join(here, 'first'), `linked ${round % 2}`);
  linkSync(join(here, 'first'), join(here, 'second'));
}

describe('update', () => {
  test('packs what differs, tells when nothing does, and the stack stays short', async () => {
    const [before] = [await manifestOf('demo')];
    expect(await update()).toMatchObject({ unchanged: true, image: before.image });
    let parent = before;
    for (let round = 1; round <= 5; round += 1) {
      change(round);
      const { image, kind } = await update();
      const manifest = await manifestOf(image);
      expect({ kind, parent: manifest.parent?.image }).toEqual({ kind: 'incremental', parent: parent.image });
      const deltas = round <= 4 ? round : 1;
      expect(rolesOf(manifest)).toEqual(['base', 'kernel', ...Array.from({ length: deltas }, () => 'delta')]);
      // The layers below are the very same.
      expect(manifest.layers.slice(0, 2)).toEqual(before.layers);
      expect(manifest.layers.at(-1)?.size).toBeLessThan(64 * 1024);
      parent = manifest;
    }
    expect(await succeed(['image', 'verify'], { site: site.directory })).toMatchObject({
      last: { ok: true },
    });
  });

  test('a full image of the same lock is the same system', async () => {
    const incremental = await manifestOf('demo');
    expect(incremental.kind).toBe('incremental');
    const { image, kind } = await update('--full');
    const full = await manifestOf(image);
    expect({ kind, parent: full.parent, roles: rolesOf(full) }).toEqual({
      kind: 'full',
      parent: null,
      roles: ['base', 'kernel'],
    });
    expect(full.tree).toBe(incremental.tree);
    expect(await differences(incremental.image, full.image)).toEqual([]);
    expect(await update('--full')).toMatchObject({ unchanged: true });
  });

  test('packages come and go; the plan says so beforehand and makes nothing', async () => {
    const parent = await manifestOf('demo');
    const profile = join(site.directory, 'profiles/demo.yaml');
    const lock = join(site.directory, 'locks/demo.amd64.json');
    const [text, locked] = [readFileSync(profile, 'utf8'), readFileSync(lock, 'utf8')];
    writeFileSync(profile, text.replace(/^ {2}- less\n/m, ''));
    const { plan } = (await update('--plan')) as unknown as {
      plan: { parent: string; disturbance: string; packages: { removed: { name: string }[] } };
    };
    expect(plan).toMatchObject({ parent: parent.image, disturbance: 'services' });
    expect(plan.packages.removed.map(({ name }) => name)).toEqual(['less']);
    expect((await manifestOf('demo')).image).toBe(parent.image);
    expect(readFileSync(lock, 'utf8')).toBe(locked);

    // Of an older openssl: what its changelog says was fixed since, and where the new one comes from.
    const file = join(site.store, 'images/demo', parent.version, 'manifest.json');
    const manifestText = readFileSync(file, 'utf8');
    const older = {
      ...parent,
      packages: parent.packages.map((each) =>
        each.name === 'libssl3t64' ? { ...each, version: '3.5.0-1', sha256: '0'.repeat(64) } : each,
      ),
    };
    writeFileSync(file, JSON.stringify(older));
    const { plan: later } = (await update('--plan')) as unknown as {
      plan: {
        security: { name: string; fixes: string[]; fromSecurity: boolean }[];
        size: { image: number; incremental: boolean; download: number };
      };
    };
    writeFileSync(file, manifestText);
    expect(later.security.map(({ name, fromSecurity }) => [name, fromSecurity])).toEqual([
      ['libssl3t64', true],
    ]);
    expect(later.security[0]?.fixes).toContainEqual(expect.stringMatching(/^CVE-20\d\d-\d{4,}$/));
    expect(later.size).toMatchObject({ incremental: true, download: 0 });

    const { image } = await update();
    const manifest = await manifestOf(image);
    expect(manifest.packages.map(({ name }) => name)).not.toContain('less');
    expect(await differences(parent.image, image)).toContainEqual(
      expect.objectContaining({ path: 'usr/bin/less', kind: 'removed' }),
    );
    expect(manifest.layers.at(-1)).toMatchObject({ role: 'delta' });
    expect(manifest.layers.at(-1)?.size).toBeLessThan(512 * 1024);
  });

  test('what comes and goes and comes again is no layer twice', async () => {
    await update('--full');
    const file = join(overlay, 'opt/again');
    for (const text of ['a', 'b', 'a']) {
      writeFileSync(file, text);
      const { layers } = await manifestOf((await update())['image']);
      expect(new Set(layers.map(({ digest }) => digest)).size).toBe(layers.length);
    }
  });

  test('from another image of the profile, and of no other', async () => {
    const { last } = await succeed(['image', 'list'], { site: site.directory });
    const names = (last as unknown as { images: { name: string }[] }).images.map(({ name }) => name);
    const oldest = names.at(-1) ?? '';
    change(9);
    const { image } = await update('--from', oldest);
    expect((await manifestOf(image)).parent?.image).toBe(oldest);
    writeFileSync(join(site.directory, 'profiles/other.yaml'), 'version: 1\nextends: [demo]\n');
    const { status, last: error } = await runCommand(['update', 'other', '--no-test', '--from', oldest], {
      site: site.directory,
    });
    expect([status, error?.['code']]).toEqual([2, 'usage']);
  });

  test('a damaged image is not built upon', async () => {
    const { layers, image } = await manifestOf('demo');
    const delta = join(site.store, 'live', `${layers.at(-1)?.digest.slice(0, 16)}.squashfs`);
    const whole = readFileSync(delta);
    const damaged = Buffer.from(whole);
    damaged[200] = (damaged[200] ?? 0) ^ 1;
    unlinkSync(delta);
    writeFileSync(delta, damaged);
    change(10);
    const { status, last } = await runCommand(['update', 'demo', '--offline', '--no-test'], {
      site: site.directory,
    });
    expect([status, last?.['code']]).toEqual([3, 'corrupt']);
    expect(last?.['message']).toContain(`${image} is damaged`);
    writeFileSync(delta, whole);
    expect(await update()).toMatchObject({ kind: 'incremental', parent: image });
    // Names of any bytes and more names than one call of a program takes.
    const odd = join(overlay, 'opt/changes/odd');
    mkdirSync(odd);
    execFileSync('sh', ['-c', 'cd "$1" && for n in $(seq 3000); do : >"-n $n \' {} %s"; done', 'sh', odd]);
    const { image: many } = await update();
    rmSync(odd, { recursive: true });
    mkdirSync(odd);
    const { image: none } = await update();
    expect(await differences(many, none)).toHaveLength(3000);
  });
});

/** The images that are there, and how many faults each has. */
async function imagesAndFaults(): Promise<Record<string, number>> {
  const { last } = await runCommand(['image', 'verify'], { site: site.directory });
  return (last as unknown as { images: Record<string, number> }).images;
}

describe('when things go wrong', () => {
  test('two updates at once: one makes the image, the other one finds it there', async () => {
    change(20);
    const both = await Promise.all([update(), update()]);
    expect(new Set(both.map(({ unchanged }) => unchanged))).toEqual(new Set([false, true]));
    expect(both[0]?.['image']).toBe(both[1]?.['image']);
  });

  test('a clock that went back: version and serial rise all the same', async () => {
    const before = await manifestOf('demo');
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
    const { last } = await succeed(['update', 'demo', '--offline', '--no-test'], {
      site: site.directory,
      env: { NODE_OPTIONS: `--require=${file}` },
    });
    const after = await manifestOf(last?.['image']);
    expect(after.version > before.version).toBe(true);
    expect(after.serial).toBeGreaterThan(before.serial);
  });

  test('killed at any moment: what is published is whole, and the next run finishes', async () => {
    for (const [round, stage] of [
      [22, 'files'],
      [23, 'pack'],
      [24, 'prove'],
      [25, 'seal'],
    ] as const) {
      change(round);
      const before = await imagesAndFaults();
      const words = ['update', 'demo', '--offline', '--no-test'];
      const running = startCommand(words, { site: site.directory });
      await running.line((line) => line['stage'] === stage && line['state'] === 'start');
      const moment = Math.floor(Math.random() * 400);
      await setTimeout(moment);
      running.child.kill('SIGKILL');
      await running.ended;
      const after = await imagesAndFaults();
      // It may have been faster, and one more is there.
      expect({ moment, ...after }).toMatchObject({ moment, ...before });
      expect(Object.values(after).filter((faults) => faults !== 0)).toEqual([]);
    }
    expect(await update()).toMatchObject({ unchanged: false });
    expect(readdirSync(site.store).toSorted()).toEqual(['.lock', 'images', 'live']);
  });

  test('what fails its test is not published and stays for reading, until an update succeeds', async () => {
    const before = await manifestOf('demo');
    const hooks = join(overlay, 'etc/initramfs-tools/hooks');
    mkdirSync(hooks, { recursive: true });
    const hook = join(hooks, 'zz-without');
    const script = 'usr/lib/live/boot/9999-relive';
    writeFileSync(hook, `#!/bin/sh\n[ "$1" = prereqs ] || rm -f "$DESTDIR/${script}"\n`, { mode: 0o755 });
    const words = ['update', 'demo', '--offline'];
    const failed = await runCommand(words, { site: site.directory });
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
    expect(existsSync(candidate?.directory ?? '')).toBe(true);
    rmSync(hook);
    // A version that was told of once is no other image's.
    const { image } = await update();
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
      const [yaml, profile] = ['relive.yaml', 'profiles/demo.yaml'].map((name) => join(site.directory, name));
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
      const { status, last } = await runCommand(['update', 'demo', '--offline', '--no-test'], {
        site: site.directory,
      });
      expect([status, last?.['code']]).toEqual([3, 'tool-failed']);
      expect(last?.['message']).toContain('the moon is in the wrong phase');
      expect(await imagesAndFaults()).toEqual(before);
    } finally {
      await server.close();
      key.remove();
    }
  });
});
