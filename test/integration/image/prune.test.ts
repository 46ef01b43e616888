import { appendFileSync, cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseManifest } from '../../../src/image/manifest.ts';
import { formatEnvironment } from '../../../src/medium/environment.ts';
import { type Line, runCommand } from '../../fixtures/command.ts';
import { type BuiltSite, builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let built: BuiltSite;
let site: TestSite;

beforeAll(async () => {
  built = await builtSite();
});
beforeEach(async () => {
  site = await freshSite({ store: true });
  return () => removeSite(site);
});

/** An older image with one layer of its own, in name: nothing here looks into layers. */
function older(version: string, digit: string): { name: string; layer: string } {
  const directory = join(site.store, 'images/demo', version);
  cpSync(built.imageDirectory.replace(built.store, site.store), directory, { recursive: true });
  const file = join(directory, 'manifest.json');
  const { layers } = parseManifest(readFileSync(file, 'utf8'), file);
  const own = digit.repeat(64);
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll(layers[0]?.digest ?? '', own));
  const layer = join(site.store, 'live', `${own.slice(0, 16)}.squashfs`);
  writeFileSync(layer, 'a layer');
  writeFileSync(layer.replace('.squashfs', '.verity'), 'its tree');
  writeFileSync(join(site.store, 'live', `demo-${version}.module`), '');
  return { name: `demo-${version}`, layer };
}

async function image(...words: readonly string[]): Promise<{ status: number; last: Line | undefined }> {
  return await runCommand(['image', ...words], { site: site.directory });
}

const shared = (): string[] => readdirSync(join(site.store, 'live')).toSorted();

describe('image remove', () => {
  test('takes the image, its ISO and the layers that are its own', async () => {
    const before = shared();
    const { name, layer } = older('20200101.01', 'a');
    const iso = join(site.store, 'isos', `${name}.iso`);
    cpSync(layer, iso);
    expect(await image('remove', name)).toMatchObject({ status: 0, last: { images: [name], layers: 1 } });
    expect(existsSync(iso)).toBe(false);
    expect(shared()).toEqual(before);
    expect(await image('verify', built.image)).toMatchObject({ status: 0 });
  });

  test('wants a whole name, and refuses what is pinned before anything goes', async () => {
    const [one, two] = [older('20200101.01', 'a'), older('20200102.01', 'b')];
    expect(await image('remove', 'demo')).toMatchObject({ status: 2, last: { code: 'usage' } });
    expect(await image('remove', 'demo-20190101.01')).toMatchObject({ last: { code: 'not-found' } });
    expect(await image('pin', two.name)).toMatchObject({ status: 0 });
    expect(await image('remove', one.name, two.name)).toMatchObject({
      status: 2,
      last: { message: `${two.name} is pinned`, hint: `relive image unpin ${two.name}` },
    });
    expect(existsSync(one.layer)).toBe(true);
    const { last } = await image('list');
    expect(last?.['images']).toContainEqual(expect.objectContaining({ name: two.name, pinned: true }));
    expect(await image('unpin', two.name)).toMatchObject({ status: 0 });
    expect(await image('remove', one.name, two.name)).toMatchObject({ status: 0, last: { layers: 2 } });
    expect([one, two].some(({ layer }) => existsSync(layer))).toBe(false);
  });

  test('keeps all layers while a manifest is damaged', async () => {
    const [one, two] = [older('20200101.01', 'a'), older('20200102.01', 'b')];
    writeFileSync(join(site.store, 'images/demo/20200102.01/manifest.json'), '{');
    const { status, lines } = await runCommand(['image', 'remove', one.name], { site: site.directory });
    expect(status).toBe(0);
    expect(lines).toContainEqual(
      expect.objectContaining({ event: 'warning', message: expect.stringContaining(two.name) }),
    );
    expect(existsSync(one.layer)).toBe(true);
  });
});

describe('image prune', () => {
  test('explains every decision, and removes what the plan said', async () => {
    const old = [older('20200101.01', 'a'), older('20200102.01', 'b'), older('20210101.01', 'c')];
    expect(await image('prune')).toMatchObject({ status: 0, last: { removed: { images: [] } } });
    appendFileSync(join(site.directory, 'profiles/demo.yaml'), '\nretention: {keep: 2, monthly: 3}\n');
    await image('pin', 'demo-20200101.01');
    const { last } = await image('prune', '--plan');
    expect(last?.['decisions']).toEqual([
      { image: built.image, keeps: true, reasons: ['the newest', 'the newest of its month'] },
      { image: 'demo-20210101.01', keeps: true, reasons: ['among the newest 2', 'the newest of its month'] },
      { image: 'demo-20200102.01', keeps: true, reasons: ['the newest of its month'] },
      { image: 'demo-20200101.01', keeps: true, reasons: ['pinned'] },
    ]);
    await image('unpin', 'demo-20200101.01');
    expect(await image('prune', 'demo')).toMatchObject({
      last: { removed: { images: ['demo-20200101.01'], layers: 1 } },
    });
    expect(old.map(({ layer }) => existsSync(layer))).toEqual([false, true, true]);
    expect(await image('prune', 'demos')).toMatchObject({ status: 2 });
  });

  test('neither takes what the menu goes back to, nor what runs here', async () => {
    const names = ['20200101.01', '20200102.01', '20200103.01'].map((version) => older(version, 'a').name);
    const [gone = '', good = '', booted = ''] = names;
    appendFileSync(join(site.directory, 'profiles/demo.yaml'), '\nretention: {keep: 1}\n');
    writeFileSync(join(site.store, 'grubenv'), formatEnvironment({ relive_good: good }));
    const commandLine = join(site.directory, 'cmdline');
    writeFileSync(commandLine, `boot=live relive.image=${booted} quiet\n`);
    const mount = `mount --bind ${commandLine} /proc/cmdline && exec "$@"`;
    const there = {
      site: site.directory,
      through: ['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c', mount, 'sh'],
    };
    const { last } = await runCommand(['image', 'prune', '--plan'], there);
    expect(last?.['decisions']).toEqual([
      { image: built.image, keeps: true, reasons: ['the newest'] },
      { image: booted, keeps: true, reasons: ['running here'] },
      { image: good, keeps: true, reasons: ['the last good one'] },
      { image: gone, keeps: false, reasons: ['outside of what the profile keeps'] },
    ]);
    for (const [name, why] of [
      [good, 'the last good image'],
      [booted, 'this machine runs'],
    ] as const) {
      expect(await runCommand(['image', 'remove', gone, name], there)).toMatchObject({
        ...{ status: 2, last: { code: 'configuration', message: expect.stringContaining(why) } },
      });
    }
    expect(await runCommand(['image', 'prune'], there)).toMatchObject({
      ...{ status: 0, last: { removed: { images: [gone] } } },
    });
  });

  test('retention is no part of what an image is made of', async () => {
    appendFileSync(join(site.directory, 'profiles/demo.yaml'), '\nretention: {keep: 9}\n');
    const { last } = await runCommand(['profile', 'show', 'demo'], { site: site.directory });
    expect(last).toMatchObject({ digest: built.manifest.profile.digest });
  });
});
