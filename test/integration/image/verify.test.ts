import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../../fixtures/command.ts';
import { type BuiltSite, builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { relive, temporaryDirectory } from '../../support.ts';

/** The files of an image that bear a signature, all there are but the signatures themselves and what is on the ISO. */
const signedNames = [
  'manifest.json',
  'boot.cfg',
  'boot.sha256',
  'vmlinuz',
  'initrd.img',
  'SHA256SUMS',
  'SHA512SUMS',
];

let built: BuiltSite;
let site: TestSite;
let directory: string;
let layers: readonly string[];
/** A key that nobody trusts, and what it signs with. */
let stranger: string;

beforeAll(async () => {
  built = await builtSite();
  site = await freshSite({ store: true });
  directory = join(site.store, built.imageDirectory.slice(built.store.length));
  layers = built.manifest.layers.map(({ digest }) =>
    join(site.store, 'live', `${digest.slice(0, 16)}.squashfs`),
  );
  const other = await freshSite({ name: 'other' });
  rmSync(other.keys, { recursive: true });
  await runCommand(['keys', 'create'], { site: other.directory });
  stranger = join(other.keys, 'gnupg');
});
afterAll(() => {
  removeSite(site);
  removeSite({ directory: join(stranger, '../..') });
});

/** The files that a test has damaged. */
const touched = new Set<string>();
afterEach(() => {
  for (const path of touched) {
    const original = join(built.store, path.slice(site.store.length));
    copyFileSync(original, path);
  }
  touched.clear();
});

const inImage = (name: string): string => join(directory, name);
const stack = (): string => join(site.store, 'live', `${built.image}.module`);
const layer = (index: number): string => layers[index] ?? '';

/** Damages a file that is put back after the test. */
function damage(path: string, how: (path: string) => void): void {
  touched.add(path);
  how(path);
}

/** Flips one bit in the middle of a file. */
function flip(path: string): void {
  const content = readFileSync(path);
  const at = Math.floor(content.length / 2);
  content[at] = (content[at] ?? 0) ^ 1;
  writeFileSync(path, content);
}

/** Takes the last bytes off a file. */
function shorten(path: string): void {
  truncateSync(path, readFileSync(path).length - 100);
}

function remove(path: string): void {
  rmSync(path);
}

function sign(path: string, home: string): void {
  execFileSync(
    'gpg',
    ['--homedir', home, '--batch', '--yes', '--detach-sign', '--output', `${path}.sig`, path],
    {
      stdio: 'pipe',
    },
  );
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']);
}

/** Verifies, and gives status and findings: kind and path below the store. */
async function verify(...args: readonly string[]): Promise<{ status: number; found: string[] }> {
  const { status, lines, last } = await runCommand(['image', 'verify', ...args], { site: site.directory });
  const found = lines
    .filter(({ event }) => event === 'finding')
    .map(({ kind, path }) => `${String(kind)} ${String(path).slice(site.store.length + 1)}`);
  expect(last).toMatchObject({ event: 'result', ok: found.length === 0 });
  return { status, found: found.toSorted() };
}

test('an image as it was made', async () => {
  expect(await verify()).toEqual({ status: 0, found: [] });
  expect(await verify('demo')).toEqual({ status: 0, found: [] });
  expect(await verify(built.image)).toEqual({ status: 0, found: [] });
  const { stdout } = await relive(['image', 'verify', '--site', site.directory]);
  expect(stdout).toBe(`${built.image}: ok\n`);
});

describe('names a damaged layer', () => {
  test.each([
    ['one bit', 0, flip, 'corrupt'],
    ['one bit of the kernel layer', 1, flip, 'corrupt'],
    ['cut off', 0, shorten, 'truncated'],
    ['empty', 1, (path: string) => truncateSync(path, 0), 'truncated'],
    ['longer', 0, (path: string) => appendFileSync(path, '\0'), 'corrupt'],
    ['missing', 1, remove, 'missing'],
  ] as const)('%s', async (_, index, how, kind) => {
    damage(layer(index), how);
    expect(await verify()).toEqual({
      status: 1,
      found: [`${kind} live/${layer(index).split('/').at(-1) ?? ''}`],
    });
  });
});

describe('names a damaged hash tree', () => {
  test.each([
    ['one bit', flip, 'corrupt'],
    ['cut off', shorten, 'truncated'],
    ['missing', remove, 'missing'],
  ] as const)('%s', async (_, how, kind) => {
    const tree = layer(0).replace('.squashfs', '.verity');
    damage(tree, how);
    expect(await verify()).toEqual({ status: 1, found: [`${kind} live/${tree.split('/').at(-1) ?? ''}`] });
  });
});

/** What both lists of checksums are found to say of a file that is another one. */
function contradictions(image: string): string[] {
  return [`inconsistent ${image}/SHA256SUMS`, `inconsistent ${image}/SHA512SUMS`];
}

describe('names a damaged file of the image', () => {
  test.each(['manifest.json', 'boot.cfg', 'boot.sha256', 'vmlinuz', 'initrd.img'])(
    '%s, one bit',
    async (name) => {
      damage(inImage(name), flip);
      const image = directory.slice(site.store.length + 1);
      const { status, found } = await verify();
      expect(status).toBe(1);
      expect(found).toEqual(expect.arrayContaining([`corrupt ${image}/${name}`, ...contradictions(image)]));
      const others = found.filter((line) => !line.endsWith(`/${name}`) && !line.includes('SUMS'));
      expect(others).toEqual([]);
    },
  );

  test.each(signedNames)('%s, missing', async (name) => {
    damage(inImage(name), remove);
    const { status, found } = await verify();
    expect(status).toBe(1);
    expect(found).toContain(`missing ${directory.slice(site.store.length + 1)}/${name}`);
    expect(found.filter((line) => !line.endsWith(`/${name}`))).toEqual([]);
  });

  test.each(['SHA256SUMS', 'SHA512SUMS'])('%s, one digit of one digest', async (name) => {
    damage(inImage(name), (path) => {
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, `${text.startsWith('0') ? '1' : '0'}${text.slice(1)}`);
    });
    const image = directory.slice(site.store.length + 1);
    expect(await verify()).toEqual({
      status: 1,
      found: [`corrupt ${image}/${name}`, `inconsistent ${image}/${name}`],
    });
  });

  test('the stack, which live-boot goes by', async () => {
    damage(stack(), (path) =>
      writeFileSync(path, readFileSync(path, 'utf8').split('\n').toReversed().join('\n')),
    );
    expect(await verify()).toEqual({ status: 1, found: [`inconsistent live/${built.image}.module`] });
    remove(stack());
    expect(await verify()).toEqual({ status: 1, found: [`missing live/${built.image}.module`] });
  });

  test('one that does not belong there', async () => {
    writeFileSync(inImage('extra.cfg'), '');
    const found = await verify();
    rmSync(inImage('extra.cfg'));
    expect(found).toEqual({
      status: 1,
      found: [`unreferenced ${directory.slice(site.store.length + 1)}/extra.cfg`],
    });
  });
});

describe('names a damaged signature', () => {
  test.each(signedNames)('of %s: one bit', async (name) => {
    damage(inImage(`${name}.sig`), flip);
    expect(await verify()).toEqual({
      status: 1,
      found: [`corrupt ${directory.slice(site.store.length + 1)}/${name}`],
    });
  });

  test('missing', async () => {
    for (const name of signedNames) damage(inImage(`${name}.sig`), remove);
    expect(await verify()).toEqual({
      status: 1,
      found: signedNames
        .map((name) => `unsigned ${directory.slice(site.store.length + 1)}/${name}`)
        .toSorted(),
    });
  });

  test.each([
    ['empty', (path: string) => truncateSync(path, 0)],
    ['cut off', shorten],
    ['something else', (path: string) => writeFileSync(path, 'not a signature\n')],
    ['of another file', (path: string) => copyFileSync(inImage('boot.cfg.sig'), path)],
  ])('%s', async (_, how) => {
    damage(inImage('vmlinuz.sig'), how);
    expect(await verify()).toEqual({
      status: 1,
      found: [`corrupt ${directory.slice(site.store.length + 1)}/vmlinuz`],
    });
  });

  test('by another key, although all else is consistent', async () => {
    for (const name of signedNames) damage(inImage(`${name}.sig`), () => sign(inImage(name), stranger));
    const { status, found } = await verify();
    expect(status).toBe(1);
    expect(found).toEqual(
      signedNames.map((name) => `corrupt ${directory.slice(site.store.length + 1)}/${name}`).toSorted(),
    );
  });
});

describe('an image that its own key has signed is no other one', () => {
  test('an image under another name', async () => {
    const renamed = join(directory, '../20990101.01');
    cpSync(directory, renamed, { recursive: true });
    copyFileSync(stack(), join(site.store, 'live/demo-20990101.01.module'));
    const { status, found } = await verify('demo-20990101.01');
    rmSync(renamed, { recursive: true });
    rmSync(join(site.store, 'live/demo-20990101.01.module'));
    expect({ status, found }).toEqual({
      status: 1,
      found: ['inconsistent images/demo/20990101.01/manifest.json'],
    });
  });

  test('a manifest that was changed and signed with the sums as they were', async () => {
    for (const name of ['manifest.json', 'manifest.json.sig']) touched.add(inImage(name));
    const text = readFileSync(inImage('manifest.json'), 'utf8');
    writeFileSync(inImage('manifest.json'), text.replace('"verify": "signature"', '"verify": "none"'));
    sign(inImage('manifest.json'), join(site.keys, 'gnupg'));
    const image = directory.slice(site.store.length + 1);
    expect(await verify()).toEqual({
      status: 1,
      found: [
        `inconsistent ${image}/SHA256SUMS`,
        `inconsistent ${image}/SHA512SUMS`,
        `inconsistent ${image}/boot.cfg`,
        `inconsistent ${image}/boot.sha256`,
      ],
    });
  });
});

describe('all images of the store', () => {
  test('are checked, and each has its own verdict', async () => {
    const twin = join(directory, '../20990101.01');
    cpSync(directory, twin, { recursive: true });
    const { status, last } = await runCommand(['image', 'verify'], { site: site.directory });
    rmSync(twin, { recursive: true });
    expect(status).toBe(1);
    expect(last?.['images']).toEqual({ 'demo-20990101.01': expect.any(Number), [built.image]: 0 });
  });

  test('one that is not there is an error of usage that names those which are', async () => {
    const { status, last } = await runCommand(['image', 'verify', 'demo-20010101.01'], {
      site: site.directory,
    });
    expect(status).toBe(2);
    expect(last).toMatchObject({ code: 'not-found', hint: expect.stringContaining(built.image) });
  });

  test('without public keys nothing is called good', async () => {
    renameSync(join(site.keys, 'public.asc'), join(site.keys, 'hidden.asc'));
    const { status, last } = await runCommand(['image', 'verify'], { site: site.directory });
    renameSync(join(site.keys, 'hidden.asc'), join(site.keys, 'public.asc'));
    expect(status).toBe(2);
    expect(last).toMatchObject({ code: 'not-found', message: expect.stringContaining('public.asc') });
  });

  test('an empty store has nothing to find fault with, and the list says so', async () => {
    const empty = join(temporaryDirectory(), 'site');
    mkdirSync(empty);
    for (const name of ['relive.yaml', 'keys'])
      cpSync(join(site.directory, name), join(empty, name), { recursive: true });
    expect((await runCommand(['image', 'verify'], { site: empty })).status).toBe(0);
    const { stdout } = await relive(['image', 'list', '--site', empty]);
    expect(stdout).toContain('relive build PROFILE makes one');
  });
});

describe('image list and image show', () => {
  test('tell of the image', async () => {
    const { last } = await runCommand(['image', 'list'], { site: site.directory });
    expect(last?.['images']).toEqual([
      expect.objectContaining({ name: built.image, kind: 'full', packages: built.manifest.packages.length }),
    ]);
    const { stdout } = await relive(['image', 'show', 'demo', '--packages', '--site', site.directory]);
    expect(stdout).toContain(built.image);
    expect(stdout).toMatch(/^live-boot +\S+ +all +debian$/m);
    expect(stdout).toContain(`sha256:${built.manifest.tree}`);
  });

  test('a damaged manifest damages the list only where it stands', async () => {
    damage(inImage('manifest.json'), (path) => writeFileSync(path, '{"schema": 1}'));
    const { status, last } = await runCommand(['image', 'list'], { site: site.directory });
    expect(status).toBe(0);
    expect(last?.['images']).toEqual([expect.objectContaining({ name: built.image, damaged: true })]);
    const shown = await runCommand(['image', 'show', 'demo'], { site: site.directory });
    expect(shown.status).toBe(3);
    expect(shown.last).toMatchObject({ code: 'corrupt', message: expect.stringContaining('manifest.json') });
  });
});
