import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import { exportBundle } from '../../../src/image/bundle-export.ts';
import { openBundle } from '../../../src/image/bundle-head.ts';
import { importBundle } from '../../../src/image/bundle-import.ts';
import { parseManifest } from '../../../src/image/manifest.ts';
import { removeImages } from '../../../src/image/remove.ts';
import { decide } from '../../../src/image/retention.ts';
import { listImages, readManifest, removeOrphans, storePaths } from '../../../src/image/store.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { packTree } from '../../../src/rootfs/pack.ts';
import { digestTree } from '../../../src/rootfs/tree.ts';
import { runCommand, stagesOf, succeed } from '../../fixtures/command.ts';
import { recordingContext } from '../../fixtures/context.ts';
import {
  addSealedImage,
  makeSealedSite,
  removeSealedSite,
  type SealedImage,
  type SealedSite,
} from '../../fixtures/sealed.ts';
import { smallDisk } from '../../fixtures/small-disk.ts';

let scratch: string;
let origin: SealedSite;
let counter = 0;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'relive-test-flatten-'));
  origin = await makeSealedSite();
});
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
  removeSealedSite(origin);
});

/** Files of a tree by path; null is a whiteout. */
type Tree = Readonly<Record<string, string | null>>;

function write(tree: Tree): string {
  const root = join(scratch, `tree-${++counter}`);
  mkdirSync(root);
  for (const [path, content] of Object.entries(tree)) {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    if (content === null) execFileSync('mknod', [file, 'c', '0', '0']);
    else writeFileSync(file, content);
  }
  return root;
}

async function squashfsOf(tree: Tree): Promise<Buffer> {
  const output = join(scratch, `layer-${++counter}`);
  const options = {
    compression: { algorithm: 'gzip' as const },
    exclude: [],
    sourceDateEpoch: 0,
    stage: 'pack',
  };
  await packTree({ root: write(tree), output, ...options }, recordingContext());
  return readFileSync(output);
}

async function digestOf(tree: Tree): Promise<string> {
  return (await digestTree(write(tree), recordingContext())).digest;
}

const boot = { 'boot/vmlinuz-any': 'a kernel\n', 'usr/lib/modules/any/one.ko': 'a module' };
const old = { 'etc/one': '1', 'etc/two': '2', 'usr/lib/three': '3' };
const now = { 'etc/one': 'another', 'usr/lib/three': '3', 'etc/four': '4' };

/** A machine's image with a delta that changes, adds and removes; or none. */
async function machine(version: string, deltas: boolean): Promise<SealedImage> {
  const layers: SealedImage['layers'] = [
    { role: 'base', content: await squashfsOf(old) },
    { role: 'kernel', content: await squashfsOf(boot) },
  ];
  const delta = { 'etc/one': 'another', 'etc/two': null, 'etc/four': '4' };
  return {
    version,
    layers: deltas ? [...layers, { role: 'delta', content: await squashfsOf(delta) }] : layers,
    tree: await digestOf({ ...boot, ...(deltas ? now : old) }),
  };
}

async function newSite(): Promise<SealedSite> {
  const site = await makeSealedSite(origin);
  onTestFinished(() => removeSealedSite(site));
  return site;
}

describe('image flatten', () => {
  test('makes an image of its own of the same tree, in base and kernel layer', async () => {
    const site = await newSite();
    const from = await addSealedImage(site, await machine('20261122.01', true));
    const { last } = await succeed(['image', 'flatten', 'tiny'], { site: site.directory });
    expect(last).toMatchObject({ unchanged: false });
    const file = join(String(last?.['directory']), 'manifest.json');
    const made = parseManifest(readFileSync(file, 'utf8'), file);
    expect(made.layers.map(({ role }) => role)).toEqual(['base', 'kernel']);
    expect(made).toMatchObject({ kind: 'full', parent: null, tree: from.manifest.tree });
    expect(made.serial).toBeGreaterThan(from.manifest.serial);
    for (const key of ['kernel', 'initrd', 'boot', 'packages', 'lock', 'inputs', 'profile'] as const)
      expect(made[key]).toEqual(from.manifest[key]);
    // What was there stays as it was; when it goes, so do its deltas.
    expect(await succeed(['image', 'verify'], { site: site.directory })).toMatchObject({
      last: { ok: true },
    });
    const { last: diff } = await runCommand(['image', 'diff', from.name, made.image], {
      site: site.directory,
    });
    expect(diff).toMatchObject({ packages: [], units: [], files: [] });
    const gone = await succeed(['image', 'remove', from.name], { site: site.directory });
    const shared = made.layers.filter(({ digest }) =>
      from.manifest.layers.some((one) => one.digest === digest),
    );
    expect(gone.last).toMatchObject({ layers: from.manifest.layers.length - shared.length });
    expect(await succeed(['image', 'verify'], { site: site.directory })).toMatchObject({
      last: { ok: true },
    });
    expect(await succeed(['image', 'flatten', made.image], { site: site.directory })).toMatchObject({
      last: { unchanged: true, image: made.image },
    });
    expect(await listImages(site.store)).toHaveLength(1);
  });

  test('where there is too little room: an error with the sum, before anything is packed', async () => {
    const site = await newSite();
    await addSealedImage(site, await machine('20261122.01', true));
    const parts = ['images', 'live'].map((name) => join(site.store, name));
    const disk = await smallDisk(site.store, 40, parts);
    const there = { site: site.directory, through: disk.through };
    disk.fill(4);
    const before = disk.content();
    const { status, last, lines } = await runCommand(['image', 'flatten', 'tiny'], there);
    expect([status, last?.['code'], stagesOf({ lines })]).toEqual([3, 'disk-full', []]);
    expect(last?.['message']).toMatch(
      /^flattening tiny-20261122\.01 needs about \d+ MB in .*, \d MB is free\n/,
    );
    expect(disk.content()).toBe(before);
    disk.empty();
    expect(await succeed(['image', 'flatten', 'tiny'], there)).toMatchObject({ last: { unchanged: false } });
  });

  test('refuses an image that is not the newest, is damaged, or shows another tree', async () => {
    const site = await newSite();
    const { name } = await addSealedImage(site, await machine('20261122.01', true));
    const newest = await addSealedImage(site, {
      ...(await machine('20261122.02', true)),
      tree: await digestOf({ ...boot, ...old }),
    });
    expect(await runCommand(['image', 'flatten', name], { site: site.directory })).toMatchObject({
      status: 2,
      last: { code: 'usage', hint: expect.stringContaining(newest.name) },
    });
    expect(await runCommand(['image', 'flatten', 'tiny'], { site: site.directory })).toMatchObject({
      status: 3,
      last: { code: 'corrupt', message: expect.stringContaining('do not show the tree') },
    });
    const [layer] = newest.manifest.layers;
    if (layer !== undefined) writeFileSync(storePaths.layer(site.store, layer), 'damage');
    expect(await runCommand(['image', 'flatten', 'tiny'], { site: site.directory })).toMatchObject({
      status: 3,
      last: { code: 'corrupt', message: expect.stringContaining(`${newest.name} is damaged`) },
    });
    expect(await listImages(site.store)).toHaveLength(2);
  });
});

/** What is done to a store, one thing after another. */
type Step =
  | { readonly does: 'publish'; readonly deltas: number }
  | { readonly does: 'import'; readonly number: number; readonly since: number | undefined }
  | { readonly does: 'remove'; readonly number: number }
  | { readonly does: 'flatten' | 'prune' };

const number = fc.nat({ max: 9 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ does: fc.constant('publish' as const), deltas: fc.nat({ max: 3 }) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        does: fc.constant('import' as const),
        number,
        since: fc.option(number, { nil: undefined }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ does: fc.constant('remove' as const), number }) },
    { weight: 2, arbitrary: fc.record({ does: fc.constantFrom('flatten' as const, 'prune' as const) }) },
  ),
  { minLength: 5, maxLength: 12 },
);

test('whatever comes and goes, no image loses a layer, and no layer stays that none needs', async () => {
  // One base and four deltas that images share in every way.
  const base = { role: 'base' as const, content: await squashfsOf({ 'etc/base': 'b' }) };
  const trees: Tree[] = [{ 'etc/base': 'b' }];
  const deltas: { role: 'delta'; content: Buffer }[] = [];
  for (const one of ['1', '2', '3']) {
    deltas.push({ role: 'delta', content: await squashfsOf({ [`etc/${one}`]: one }) });
    trees.push({ ...trees.at(-1), [`etc/${one}`]: one });
  }
  const digests = await Promise.all(trees.map(digestOf));
  const context = recordingContext();
  // What there is to import: an image a number of deltas.
  const far = await newSite();
  for (const count of trees.keys()) {
    await addSealedImage(far, {
      ...{ profile: 'far', kernel: null, version: `20261001.0${count + 1}`, tree: digests[count] ?? '' },
      layers: [base, ...deltas.slice(0, count)],
    });
  }
  const remote = (await listImages(far.store)).toReversed();

  const act = async (site: SealedSite, step: Step, version: string): Promise<void> => {
    const { store } = site;
    if (step.does === 'publish') {
      await addSealedImage(site, {
        ...{ profile: 'near', kernel: null, version, tree: digests[step.deltas] ?? '' },
        layers: [base, ...deltas.slice(0, step.deltas)],
      });
    } else if (step.does === 'import') {
      const image = remote[step.number % remote.length];
      const older = step.since === undefined ? undefined : remote[step.since % remote.length];
      if (image === undefined || image.name === older?.name) return;
      const output = join(site.directory, 'bundle');
      const keyring = origin.armoured;
      await exportBundle(far.store, image.name, { output, since: older?.name, keyring }, context);
      const source = await openBundle(output, context);
      // What it builds upon need not be there.
      await importBundle(store, source, { keyring }, context).catch((error: unknown) => {
        if (!isReliveError(error, 'not-found')) throw error;
      });
      source.close();
    } else if (step.does === 'remove') {
      const images = await listImages(store);
      const image = images[step.number % Math.max(1, images.length)];
      if (image !== undefined) await removeImages(store, [image], context);
    } else if (step.does === 'flatten') {
      const newest = (await listImages(store)).find(({ profile }) => profile === 'near');
      if (newest !== undefined) await succeed(['image', 'flatten', newest.name], { site: site.directory });
    } else {
      const images = (await listImages(store)).filter(({ profile }) => profile === 'near');
      const policy = { keep: 1, daily: 2, weekly: 0, monthly: 0 };
      const decisions = decide(images, policy, { pinned: new Set(), booted: undefined });
      const going = decisions.filter(({ keeps }) => !keeps).map(({ image }) => image);
      await removeImages(store, going, context);
    }
  };

  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      const site = await makeSealedSite(origin);
      try {
        for (const [index, step] of sequence.entries()) {
          const taken = (await listImages(site.store)).find(({ profile }) => profile === 'near')?.version;
          const day = `202611${String(index + 10)}.01`;
          await act(site, step, taken === undefined || taken < day ? day : `20991231.${String(index + 10)}`);
          const needed = new Set<string>();
          for (const image of await listImages(site.store)) {
            expect(await verifyImage(site.store, image, origin.armoured, context)).toEqual([]);
            for (const { digest } of (await readManifest(image)).layers) needed.add(digest.slice(0, 16));
          }
          const kept = await removeOrphans(site.store);
          expect(kept.layers).toBe(0);
          for (const digest of needed) expect(storePaths.layer(site.store, { digest })).toSatisfy(isFile);
        }
      } finally {
        removeSealedSite(site);
      }
    }),
    { numRuns: 8 },
  );
});

function isFile(path: string): boolean {
  return readFileSync(path).length > 0;
}
