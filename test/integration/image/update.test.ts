import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Manifest } from '../../../src/image/manifest.ts';
import { addBox } from '../../fixtures/box.ts';
import { type Line, runCommand, succeed } from '../../fixtures/command.ts';
import { changeOverlay } from '../../fixtures/overlay.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;
let overlay: string;

beforeAll(async () => {
  site = await freshSite({ cache: true, store: true });
  overlay = join(site.directory, 'overlays/demo');
  await addBox(site);
});
afterAll(() => removeSite(site));

async function updateOf(profile: string, ...words: readonly string[]): Promise<Line> {
  const { last } = await succeed(['update', profile, '--offline', '--no-test', ...words], {
    site: site.directory,
  });
  if (last === undefined) throw new Error('no result');
  return last;
}

const update = async (...words: readonly string[]): Promise<Line> => await updateOf('box', ...words);

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

const change = (round: number): void => changeOverlay(overlay, round);

describe('update', () => {
  test('packs what differs, and tells when nothing does', async () => {
    const before = await manifestOf('demo');
    expect(await updateOf('demo')).toMatchObject({ unchanged: true, image: before.image });
    expect(await updateOf('demo', '--plan')).toMatchObject({ plan: { unchanged: true, stages: [] } });
    change(1);
    const stages = ['files', 'configure', 'live', 'settle'];
    expect(await updateOf('demo', '--plan')).toMatchObject({ plan: { unchanged: false, stages } });
    const { image, kind } = await updateOf('demo');
    const manifest = await manifestOf(image);
    expect({ kind, parent: manifest.parent?.image }).toEqual({ kind: 'incremental', parent: before.image });
    expect(rolesOf(manifest)).toEqual(['base', 'kernel', 'delta']);
    // The layers below are the very same.
    expect(manifest.layers.slice(0, 2)).toEqual(before.layers);
    expect(manifest.layers.at(-1)?.size).toBeLessThan(64 * 1024);
  });

  // With kernels that change: hundred.test.ts.
  test('the stack stays short', async () => {
    let parent = await manifestOf('box');
    const [base] = parent.layers;
    for (let round = 1; round <= 5; round += 1) {
      change(round);
      const { image, kind } = await update();
      const manifest = await manifestOf(image);
      expect({ kind, parent: manifest.parent?.image }).toEqual({ kind: 'incremental', parent: parent.image });
      const deltas = round <= 4 ? round : 1;
      expect(rolesOf(manifest)).toEqual(['base', ...Array.from({ length: deltas }, () => 'delta')]);
      expect(manifest.layers[0]).toEqual(base);
      expect(manifest.layers.at(-1)?.size).toBeLessThan(64 * 1024);
      parent = manifest;
    }
    expect(await succeed(['image', 'verify'], { site: site.directory })).toMatchObject({
      last: { ok: true },
    });
  });

  test('a full image of the same lock is the same system', async () => {
    const incremental = await manifestOf('box');
    expect(incremental.kind).toBe('incremental');
    const { image, kind } = await update('--full');
    const full = await manifestOf(image);
    expect({ kind, parent: full.parent, roles: rolesOf(full) }).toEqual({
      kind: 'full',
      parent: null,
      roles: ['base'],
    });
    expect(full.tree).toBe(incremental.tree);
    expect(await differences(incremental.image, full.image)).toEqual([]);
    expect(await update('--full')).toMatchObject({ unchanged: true });
  });

  test('packages come and go; the plan says so beforehand and makes nothing', async () => {
    const parent = await manifestOf('box');
    const profile = join(site.directory, 'profiles/box.yaml');
    const lock = join(site.directory, 'locks/box.amd64.json');
    const [text, locked] = [readFileSync(profile, 'utf8'), readFileSync(lock, 'utf8')];
    writeFileSync(profile, text.replace(/^ {2}- less\n/m, ''));
    const { plan } = (await update('--plan')) as unknown as {
      plan: { parent: string; disturbance: string; packages: { removed: { name: string }[] } };
    };
    expect(plan).toMatchObject({ parent: parent.image, disturbance: 'services' });
    expect(plan.packages.removed.map(({ name }) => name)).toEqual(['less']);
    expect((await manifestOf('box')).image).toBe(parent.image);
    expect(readFileSync(lock, 'utf8')).toBe(locked);

    // Of an older openssl: what its changelog says was fixed since, and where the new one comes from.
    const file = join(site.store, 'images/box', parent.version, 'manifest.json');
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
    // After a point release Debian has it in the release itself.
    const ofSecurity =
      parent.packages.find(({ name }) => name === 'libssl3t64')?.repository === 'debian-security';
    expect(later.security.map(({ name, fromSecurity }) => [name, fromSecurity])).toEqual([
      ['libssl3t64', ofSecurity],
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
    const { images } = last as unknown as { images: { name: string }[] };
    const names = images.map(({ name }) => name).filter((name) => name.startsWith('box-'));
    const oldest = names.at(-1) ?? '';
    change(9);
    const { image } = await update('--from', oldest);
    expect((await manifestOf(image)).parent?.image).toBe(oldest);
    writeFileSync(join(site.directory, 'profiles/other.yaml'), 'version: 1\nextends: [box]\n');
    const { status, last: error } = await runCommand(['update', 'other', '--no-test', '--from', oldest], {
      site: site.directory,
    });
    expect([status, error?.['code']]).toEqual([2, 'usage']);
  });

  test('a damaged image is not built upon', async () => {
    const { layers, image } = await manifestOf('box');
    const delta = join(site.store, 'live', `${layers.at(-1)?.digest.slice(0, 16)}.squashfs`);
    const whole = readFileSync(delta);
    const damaged = Buffer.from(whole);
    damaged[200] = (damaged[200] ?? 0) ^ 1;
    unlinkSync(delta);
    writeFileSync(delta, damaged);
    change(10);
    const { status, last } = await runCommand(['update', 'box', '--offline', '--no-test'], {
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
