import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { tarEnd, tarHeader, tarPadding } from '../../../src/host/tar.ts';
import { exportBundle } from '../../../src/image/bundle-export.ts';
import { openBundle } from '../../../src/image/bundle-head.ts';
import { importBundle, planImport } from '../../../src/image/bundle-import.ts';
import { findImage, listImages, storePaths } from '../../../src/image/store.ts';
import { verifyImage } from '../../../src/image/verify.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { addSealedImage, makeSealedSite, removeSealedSite, type SealedSite } from '../../fixtures/sealed.ts';

const base = { role: 'base', content: randomBytes(40_000) } as const;
const delta = { role: 'delta', content: randomBytes(9000) } as const;
const first = 'tiny-20261122.01';
const second = 'tiny-20261122.02';

/** Makes images; nobody changes it. */
let origin: SealedSite;
/** Of another key. */
let stranger: SealedSite;
/** The bundle of the second image, and that of the second since the first. */
let whole: Buffer;
let since: Buffer;
let far: SealedSite;

beforeAll(async () => {
  [origin, stranger] = await Promise.all([makeSealedSite(), makeSealedSite()]);
  await addSealedImage(origin, { version: '20261122.01', layers: [base] });
  await addSealedImage(origin, { version: '20261122.02', layers: [base, delta] });
  whole = await bundleOf(origin, second);
  since = await bundleOf(origin, second, first);
});
afterAll(() => {
  removeSealedSite(origin);
  removeSealedSite(stranger);
});
beforeEach(async () => {
  far = await makeSealedSite(origin);
});
afterEach(() => removeSealedSite(far));

async function bundleOf(site: SealedSite, image: string, than?: string): Promise<Buffer> {
  const output = join(site.directory, 'made.bundle');
  await exportBundle(site.store, image, { output, since: than, keyring: site.armoured }, recordingContext());
  return readFileSync(output);
}

/** The bytes as a stream, in pieces that fit nothing. */
async function* pieces(bytes: Buffer, length = 1000): AsyncGenerator<Buffer, void> {
  for (let at = 0; at < bytes.length; at += length)
    yield await Promise.resolve(bytes.subarray(at, at + length));
}

const optionsOf = (site: SealedSite) => ({ keyring: site.armoured });

async function bring(bytes: Buffer, context = recordingContext(), store = far.store) {
  const source = { stream: pieces(bytes), name: 'the bundle' };
  return await importBundle(store, source, optionsOf(origin), context);
}

/** What an import that was cut off has received would not be read again. */
function forget(): void {
  rmSync(storePaths.temporary(far.store), { recursive: true, force: true });
}

async function faultsOf(store: string): Promise<unknown[]> {
  const images = await listImages(store);
  const found = await Promise.all(
    images.map(async (image) => await verifyImage(store, image, origin.armoured, recordingContext())),
  );
  return found.flat();
}

/** Nothing of it is there that anybody would take for an image. */
function expectNothing(store: string): void {
  expect(readdirSync(store).filter((name) => name !== '.lock' && name !== '.tmp')).toEqual([]);
}

/** The entries of a bundle. */
function entriesOf(bytes: Buffer): [string, Buffer][] {
  const entries: [string, Buffer][] = [];
  for (let at = 0; bytes[at] !== 0; ) {
    const path = bytes.toString('latin1', at, at + 100).replace(/\0.*$/, '');
    const size = Number.parseInt(bytes.toString('latin1', at + 124, at + 135), 8);
    entries.push([path, bytes.subarray(at + 512, at + 512 + size)]);
    at += 512 + size + tarPadding(size).length;
  }
  return entries;
}

function archiveOf(entries: readonly (readonly [string, Buffer])[]): Buffer {
  const parts = entries.flatMap(([path, content]) => [
    tarHeader(path, content.length),
    content,
    tarPadding(content.length),
  ]);
  return Buffer.concat([...parts, tarEnd]);
}

/** The bundle with its index changed as text. */
function withIndex(bytes: Buffer, change: (text: string) => string): Buffer {
  const changed = entriesOf(bytes).map(([path, content]): [string, Buffer] => [
    path,
    path === 'bundle.json' ? Buffer.from(change(content.toString())) : content,
  ]);
  return archiveOf(changed);
}

describe('a bundle', () => {
  test('is a tar archive, the signed manifest first, and the same each time', async () => {
    expect(await bundleOf(origin, second)).toEqual(whole);
    const listed = execFileSync('tar', ['--list'], { input: whole, encoding: 'utf8' }).trim().split('\n');
    expect(listed.slice(0, 3)).toEqual(['manifest.json', 'manifest.json.sig', 'bundle.json']);
    expect(listed.filter((path) => path.startsWith('live/'))).toHaveLength(4);
    expect(archiveOf(entriesOf(whole))).toEqual(whole);
  });

  test('brings an image that verifies, byte for byte', async () => {
    const imported = await bring(whole);
    expect(imported).toMatchObject({ image: second, unchanged: false, standing: 'new' });
    expect(await faultsOf(far.store)).toEqual([]);
    const image = await findImage(origin.store, second);
    for (const name of readdirSync(image.directory)) {
      const there = readFileSync(join(imported.directory, name));
      expect(there.equals(readFileSync(join(image.directory, name)))).toBe(true);
    }
    expect(existsSync(storePaths.temporary(far.store))).toBe(false);
    expect(await bring(whole)).toMatchObject({ unchanged: true, bytes: 0 });
  });

  test('since another image has only what that has not, kernel and initrd included', async () => {
    expect(entriesOf(since).map(([path]) => path)).not.toContain('vmlinuz');
    expect(since.length).toBeLessThan(whole.length - base.content.length);
    await expect(bring(since)).rejects.toMatchObject({
      ...errorLike('not-found', 'vmlinuz'),
      message: expect.stringMatching(/initrd\.img.*\n.*\.squashfs \(base, 40000 bytes\)/),
      hint: expect.stringContaining(`import ${first} first`),
    });
    expectNothing(far.store);
    await bring(await bundleOf(origin, first));
    expect(await bring(since)).toMatchObject({
      layers: [{ from: 'store' }, { from: 'bundle' }],
    });
    expect(await faultsOf(far.store)).toEqual([]);
  });

  test('has a patch in the place of a layer that is mostly an older one', async () => {
    const changed = Buffer.concat([
      base.content.subarray(0, 20_000),
      randomBytes(50),
      base.content.subarray(20_000),
    ]);
    const site = await makeSealedSite(origin);
    try {
      await addSealedImage(site, { version: '20261122.01', layers: [base] });
      await addSealedImage(site, { version: '20261122.03', layers: [{ role: 'base', content: changed }] });
      const patched = await bundleOf(site, 'tiny-20261122.03', first);
      expect(patched.length).toBeLessThan(20_000);
      await expect(bring(patched)).rejects.toMatchObject(
        errorLike('not-found', 'which a patch of the bundle'),
      );
      await bring(whole);
      expect(await bring(patched)).toMatchObject({ layers: [{ from: 'patch' }] });
      expect(await faultsOf(far.store)).toEqual([]);
      // A patch of the same name that makes something else.
      const other = await makeSealedSite(origin);
      await addSealedImage(other, { version: '20261122.01', layers: [base] });
      const bad = entriesOf(patched).map(([path, content]): [string, Buffer] => {
        if (!path.endsWith('.patch')) return [path, content];
        const turned = Buffer.from(content);
        turned.writeUInt8(turned.readUInt8(turned.length - 8) ^ 1, turned.length - 8);
        return [path, turned];
      });
      const [right, wrong] = [entriesOf(patched), bad].map((entries) =>
        sha256(entries.find(([path]) => path.endsWith('.patch'))?.[1] ?? Buffer.alloc(0)),
      );
      const forged = withIndex(archiveOf(bad), (text) => text.replace(right ?? '', wrong ?? ''));
      await expect(bring(forged, recordingContext(), other.store)).rejects.toMatchObject({ code: 'corrupt' });
      expect(await faultsOf(other.store)).toEqual([]);
      removeSealedSite(other);
    } finally {
      removeSealedSite(site);
    }
  });

  test('is planned by its head alone', async () => {
    const head = whole.subarray(0, whole.indexOf('boot.cfg\0'));
    const source = { stream: pieces(head), name: 'the bundle' };
    expect(await planImport(far.store, source, optionsOf(origin), recordingContext())).toMatchObject({
      image: second,
      standing: 'new',
      layers: [
        { role: 'base', from: 'bundle' },
        { role: 'delta', from: 'bundle' },
      ],
    });
    expectNothing(far.store);
  });

  test('tells of an image that is older than what is there', async () => {
    const context = recordingContext();
    await bring(whole);
    await bring(await bundleOf(origin, first), context);
    expect(context.told()).toContainEqual(
      `${first} is older than ${second}, which stays the newest image of tiny`,
    );
  });

  test('mends a damaged image', async () => {
    const { directory } = await bring(whole);
    const [layer = ''] = readdirSync(storePaths.layers(far.store));
    writeFileSync(join(storePaths.layers(far.store), layer), 'damage');
    writeFileSync(join(directory, 'boot.cfg'), 'damage');
    rmSync(join(directory, 'vmlinuz'));
    expect(await bring(whole)).toMatchObject({ standing: 'damaged', unchanged: false });
    expect(await faultsOf(far.store)).toEqual([]);
  });

  test('of a container has no boot files', async () => {
    const site = await makeSealedSite(origin);
    await addSealedImage(site, { version: '20261122.01', profile: 'box', layers: [base], kernel: null });
    await bring(await bundleOf(site, 'box'));
    expect(await faultsOf(far.store)).toEqual([]);
    removeSealedSite(site);
  });
});

const entry = (path: string, content = 'x'): [string, Buffer] => [path, Buffer.from(content)];
/** A header with one field written over, its checksum right. */
const headerWith = (at: number, text: string): Buffer => {
  const header = tarHeader('boot.cfg', 0);
  header.write(text, at, 'latin1');
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
};
const spliced = (header: Buffer): Buffer => {
  const at = whole.indexOf('boot.cfg\0');
  return Buffer.concat([whole.subarray(0, at), header, whole.subarray(at)]);
};

describe('what is refused', () => {
  test('another key, unless it is named', async () => {
    const source = { stream: pieces(whole), name: 'the bundle' };
    await expect(
      importBundle(far.store, source, optionsOf(stranger), recordingContext()),
    ).rejects.toMatchObject({ code: 'not-authentic' });
    expectNothing(far.store);
    const context = recordingContext();
    const again = { stream: pieces(whole), name: 'the bundle' };
    await importBundle(far.store, again, { keyring: origin.armoured, own: stranger.armoured }, context);
    expect(context.told().join('\n')).toContain('a key that is not among the site');
  });

  test('a bundle that is cut off anywhere; what was received is used', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 1 }), async (length) => {
        await expect(bring(whole.subarray(0, length))).rejects.toMatchObject({ code: 'corrupt' });
        expectNothing(far.store);
      }),
      { numRuns: 20 },
    );
    forget();
    const behindBase = whole.indexOf('.verity\0') + 200;
    await expect(bring(whole.subarray(0, behindBase))).rejects.toMatchObject({ code: 'corrupt' });
    expect(await bring(whole)).toMatchObject({ layers: [{ from: 'received' }, { from: 'bundle' }] });
    expect(await faultsOf(far.store)).toEqual([]);
  });

  test('one bit that is another, anywhere', async () => {
    const offsets = fc.oneof(
      fc.integer({ min: 0, max: whole.length - 1 }),
      // Where most kinds of content are: the head and the small files.
      fc.integer({ min: 0, max: whole.indexOf('live/') }),
      // Signatures have bytes that they do not cover.
      fc.integer({ min: 0, max: 700 }).map((offset) => whole.indexOf('manifest.json.sig') + offset),
    );
    await fc.assert(
      fc.asyncProperty(offsets, fc.integer({ min: 0, max: 7 }), async (offset, bit) => {
        forget();
        const turned = Buffer.from(whole);
        turned.writeUInt8(turned.readUInt8(offset) ^ (1 << bit), offset);
        const error: unknown = await bring(turned).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: expect.stringMatching(/^(?:corrupt|not-authentic)$/) });
        expectNothing(far.store);
      }),
      { numRuns: 60 },
    );
  });

  test.each<readonly [string, () => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['another archive', () => archiveOf([entry('readme')])],
    ['something behind its end', () => Buffer.concat([whole, Buffer.from('x')])],
    ['one more entry', () => archiveOf([...entriesOf(whole), entry('live/more')])],
    ['an entry twice', () => archiveOf(entriesOf(whole).flatMap((one) => [one, one]))],
    ['entries in another order', () => archiveOf(entriesOf(whole).toReversed())],
    ['a path that leads out', () => spliced(headerWith(0, '../../evil\0'))],
    ['an absolute path', () => spliced(headerWith(0, '/etc/passwd\0'))],
    ['a symbolic link', () => spliced(headerWith(156, '2/etc/passwd\0'))],
    ['a hard link', () => spliced(headerWith(156, '1manifest.json\0'))],
    ['a device', () => spliced(headerWith(156, '3'))],
    ['a directory', () => spliced(headerWith(156, '5'))],
    ['an extended header', () => spliced(headerWith(156, 'x'))],
    ['a giant manifest', () => tarHeader('manifest.json', 8 ** 11 * 4)],
    ['a manifest larger than any', () => tarHeader('manifest.json', 33 * 1024 * 1024)],
    [
      'an index that names another path',
      () => withIndex(whole, (text) => text.replace('"live/', '"live/../../')),
    ],
    [
      'an index with a giant size',
      () => withIndex(whole, (text) => text.replace('"size": 40000', '"size": 40000000')),
    ],
    [
      'an index with another digest',
      () => withIndex(whole, (text) => text.replace(/"digest": "./g, '"digest": "0')),
    ],
    ['an index that is written otherwise', () => withIndex(whole, (text) => text.replace('\n', '\n '))],
    ['an index with more to say', () => withIndex(whole, (text) => text.replace('{', '{"more": 1,'))],
    ['an index that is not JSON', () => withIndex(whole, () => 'no')],
  ])('%s', async (_, make) => {
    const error: unknown = await bring(make()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'corrupt' });
    expectNothing(far.store);
  });

  test('the manifest of another image with this one’s files', async () => {
    const older = new Map(entriesOf(await bundleOf(origin, first)));
    const mixed = entriesOf(whole).map(([path, content]): [string, Buffer] => [
      path,
      path.startsWith('manifest.json') ? (older.get(path) ?? content) : content,
    ]);
    await expect(bring(archiveOf(mixed))).rejects.toMatchObject({ code: 'corrupt' });
    expectNothing(far.store);
  });

  test('another image under a name that is taken', async () => {
    const site = await makeSealedSite(origin);
    await addSealedImage(site, { version: '20261122.02', layers: [delta] });
    await bring(await bundleOf(site, second));
    removeSealedSite(site);
    await expect(bring(whole)).rejects.toMatchObject(errorLike('exists', second));
    expect(await faultsOf(far.store)).toEqual([]);
  });

  test('a damaged image is not exported, and no file appears', async () => {
    cpSync(origin.store, join(far.directory, 'copy'), { recursive: true });
    const store = join(far.directory, 'copy');
    const layer = readdirSync(storePaths.layers(store)).find((name) => name.endsWith('.squashfs')) ?? '';
    const content = readFileSync(join(storePaths.layers(store), layer));
    content.writeUInt8(content.readUInt8(100) ^ 1, 100);
    writeFileSync(join(storePaths.layers(store), layer), content);
    mkdirSync(join(far.directory, 'out'));
    const output = join(far.directory, 'out/bundle');
    const options = { output, since: undefined, keyring: origin.armoured };
    await expect(exportBundle(store, second, options, recordingContext())).rejects.toMatchObject(
      errorLike('corrupt', 'is not what the manifest says'),
    );
    expect(readdirSync(join(far.directory, 'out'))).toEqual([]);
  });
});

test('a file that is no bundle, and none at all', async () => {
  const context = recordingContext();
  await expect(openBundle(join(far.directory, 'none'), context)).rejects.toMatchObject({ code: 'not-found' });
  await expect(openBundle(far.directory, context)).rejects.toMatchObject({ code: 'usage' });
});
