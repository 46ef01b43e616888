import { execFile } from 'node:child_process';
import { lstatSync, readdirSync, readlinkSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { hashOf, makeDeb, publishArchive } from '../../fixtures/archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';

let key: SigningKey;
let server: TestServer;
let site: MirrorSite;
const hello = makeDeb({ name: 'hello' });
const helloPath = 'pool/main/h/hello/hello_1.0_amd64.deb';

beforeAll(() => {
  key = makeSigningKey();
});
afterAll(() => key.remove());
beforeEach(async () => {
  server = await startServer();
  site = mirrorSite(key, server.url);
});
afterEach(async () => {
  await server.close();
  site.remove();
});

function belowDists({ name }: { readonly name: string }): string {
  return `dists/stable/pool/${name}_1.0_amd64.deb`;
}

describe('mirror sync', () => {
  test('brings a whole suite; a run without changes costs one conditional request', async () => {
    publishArchive(server.files, 'stable', key);
    const first = await site.good(['mirror', 'sync']);
    expect(first.result).toMatchObject({
      ok: true,
      repositories: [{ name: 'test', suites: [{ suite: 'stable', changed: true, downloaded: 1 }] }],
    });
    expect(site.read(`test/${helloPath}`).equals(hello.content)).toBe(true);
    server.requests.length = 0;
    const again = await site.good(['mirror', 'sync']);
    expect(again.result).toMatchObject({ repositories: [{ suites: [{ changed: false }] }] });
    expect(server.requests.map(({ path, status }) => `${path} ${status}`)).toEqual([
      'dists/stable/InRelease 304',
    ]);
  });

  test('mends a pool file that is gone or truncated, with one request for it', async () => {
    publishArchive(server.files, 'stable', key);
    await site.good(['mirror', 'sync']);
    for (const damage of [rmSync, (path: string) => truncateSync(path, 10)]) {
      damage(site.at(`test/${helloPath}`));
      server.requests.length = 0;
      await site.good(['mirror', 'sync']);
      expect(site.read(`test/${helloPath}`).equals(hello.content)).toBe(true);
      expect(server.requests.map(({ path }) => path)).toEqual(['dists/stable/InRelease', helloPath]);
    }
  });

  test('a pool file that upstream lacks keeps the suite from being published, unless it is tolerated by name', async () => {
    publishArchive(server.files, 'stable', key);
    await site.good(['mirror', 'sync']);
    const before = readlinkSync(site.at('test/dists/stable'));
    publishArchive(server.files, 'stable', key, { debs: [hello, makeDeb({ name: 'mbrola' })] });
    server.files.delete('pool/main/m/mbrola/mbrola_1.0_amd64.deb');
    const refused = await site.relive(['mirror', 'sync']);
    expect(refused.status).toBe(3);
    expect(refused.result).toMatchObject({
      code: 'download-failed',
      message: expect.stringContaining('mbrola'),
    });
    expect(readlinkSync(site.at('test/dists/stable'))).toBe(before);

    site.configure({ test: { missing: { tolerate: ['pool/main/m/mbrola/*'] } } });
    for (const changed of [true, false]) {
      const tolerated = await site.good(['mirror', 'sync']);
      expect(tolerated.result).toMatchObject({
        repositories: [{ suites: [{ changed, missing: ['pool/main/m/mbrola/mbrola_1.0_amd64.deb'] }] }],
      });
      expect(tolerated.stdout).toContain('is published without pool/main/m/mbrola');
    }
    // It came back upstream: the next run brings it.
    publishArchive(server.files, 'stable', key, { debs: [hello, makeDeb({ name: 'mbrola' })] });
    expect((await site.good(['mirror', 'sync'])).result).toMatchObject({
      repositories: [{ suites: [{ downloaded: 1, missing: [] }] }],
    });
  });

  test('brings all kinds', async () => {
    const image = Buffer.from('the kernel of the installer');
    const patch = Buffer.from('a compressed patch');
    const installer = 'main/installer-amd64/current/images';
    publishArchive(server.files, 'stable', key, {
      source: 'tool',
      udebs: [makeDeb({ name: 'small-udeb' })],
      more: {
        [`${installer}/SHA256SUMS`]: Buffer.from(`${hashOf(image)}  ./netboot/linux\n`),
        'main/i18n/Translation-en.xz': Buffer.from('en'),
        'main/i18n/Translation-de.bz2': Buffer.from('de'),
        'main/i18n/Translation-fr.bz2': Buffer.from('fr'),
        'main/Contents-amd64.gz': Buffer.from('contents'),
        'main/Contents-all.gz': Buffer.from('contents of all'),
        'main/Contents-arm64.gz': Buffer.from('contents of another'),
        'Contents-amd64.gz': Buffer.from('contents of their own place'),
        'main/dep11/Components-amd64.yml.gz': Buffer.from('dep11'),
        'main/dep11/icons-64x64.tar.gz': Buffer.from('icons'),
        'main/cnf/Commands-amd64.xz': Buffer.from('cnf'),
        'main/binary-amd64/Packages.diff/Index': Buffer.from(
          `SHA256-Download:\n ${hashOf(patch)} ${patch.length} T-1.gz\n`,
        ),
      },
      unlisted: {
        [`${installer}/netboot/linux`]: image,
        'main/binary-amd64/Packages.diff/T-1.gz': patch,
      },
    });
    const kinds = [
      'packages',
      'sources',
      'udebs',
      'installer',
      'translations',
      'contents',
      'dep11',
      'cnf',
      'pdiff',
    ];
    site.configure({ test: { kinds, languages: ['en', 'd*'] } });
    await site.good(['mirror', 'sync']);
    for (const path of [
      'pool/main/t/tool/tool_1.0.dsc',
      'pool/main/t/tool/tool_1.0.tar.gz',
      'pool/main/s/small-udeb/small-udeb_1.0_amd64.udeb',
      `dists/stable/${installer}/netboot/linux`,
      'dists/stable/main/i18n/Translation-en.xz',
      'dists/stable/main/i18n/Translation-de.bz2',
      'dists/stable/main/Contents-amd64.gz',
      'dists/stable/main/Contents-all.gz',
      'dists/stable/Contents-amd64.gz',
      'dists/stable/main/dep11/Components-amd64.yml.gz',
      'dists/stable/main/dep11/icons-64x64.tar.gz',
      'dists/stable/main/cnf/Commands-amd64.xz',
      'dists/stable/main/binary-amd64/Packages.diff/T-1.gz',
    ]) {
      expect([path, site.has(`test/${path}`)]).toEqual([path, true]);
    }
    for (const path of ['main/i18n/Translation-fr.bz2', 'main/Contents-arm64.gz']) {
      expect(site.has(`test/dists/stable/${path}`)).toBe(false);
    }
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    server.requests.length = 0;
    await site.good(['mirror', 'sync']);
    expect(server.requests).toHaveLength(1);
  });

  test('takes the architectures that are asked for, and all where it is a part of its own', async () => {
    const index = (name: string, architecture: string): Buffer => {
      const deb = makeDeb({ name, architecture });
      const path = `pool/main/${name}_1.0_${architecture}.deb`;
      server.files.set(path, deb.content);
      return Buffer.from(
        `${deb.control}Filename: ${path}\nSize: ${deb.content.length}\nSHA256: ${hashOf(deb.content)}\n`,
      );
    };
    publishArchive(server.files, 'stable', key, {
      more: {
        'main/binary-arm64/Packages': index('arm', 'arm64'),
        'main/binary-armhf/Packages': index('hard', 'armhf'),
        'main/binary-all/Packages': index('every', 'all'),
      },
      edit: (release) => release.replace('Architectures: amd64', 'Architectures: all amd64 arm64 armhf'),
    });
    site.configure({ test: { architectures: ['amd64', 'arm64'] } });
    await site.good(['mirror', 'sync']);
    expect(readdirSync(site.at('test/pool/main')).toSorted()).toEqual([
      'arm_1.0_arm64.deb',
      'every_1.0_all.deb',
      'h',
    ]);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    site.configure({ test: { architectures: ['i386'] } });
    expect((await site.relive(['mirror', 'sync'])).result).toMatchObject({
      code: 'configuration',
      message: expect.stringContaining('component main for i386'),
      hint: expect.stringContaining('main for armhf'),
    });
  });

  test('indices of before stay by hash for their grace period, and no longer', async () => {
    const hashes = (): string[] => readdirSync(site.at('test/dists/stable/main/binary-amd64/by-hash/SHA256'));
    const next = (name: string, seconds: number): void =>
      publishArchive(server.files, 'stable', key, {
        debs: [makeDeb({ name })],
        date: new Date(Date.now() - seconds * 1000),
      });
    publishArchive(server.files, 'stable', key);
    await site.good(['mirror', 'sync']);
    const [first] = hashes();
    next('second', 60);
    await site.good(['mirror', 'sync']);
    expect(hashes()).toContain(first);
    site.configure({ test: { keep: { indices: 0 } } });
    next('third', 30);
    await site.good(['mirror', 'sync']);
    expect(hashes()).not.toContain(first);
  });

  test.each(['.xz', '.gz', '.bz2', '.zst', '.lzma', ''])(
    'takes an index that is there as Packages%s only',
    async (ending) => {
      publishArchive(server.files, 'stable', key, { serve: [ending] });
      await site.good(['mirror', 'sync']);
      expect(site.has(`test/dists/stable/main/binary-amd64/Packages${ending}`)).toBe(true);
      expect(site.has(`test/${helloPath}`)).toBe(true);
    },
  );

  test('brings all forms of an index where that is wanted', async () => {
    publishArchive(server.files, 'stable', key, { serve: ['.xz', '.gz', '.zst'] });
    site.configure({ test: { compressions: 'all' } });
    await site.good(['mirror', 'sync']);
    for (const ending of ['.xz', '.gz', '.zst']) {
      expect(site.has(`test/dists/stable/main/binary-amd64/Packages${ending}`)).toBe(true);
    }
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('an optional index that is listed and not there is told and left out; a required one keeps the suite back', async () => {
    const more = { 'main/i18n/Translation-en.xz': Buffer.from('en') };
    publishArchive(server.files, 'stable', key, { more, byHash: false });
    server.files.delete('dists/stable/main/i18n/Translation-en.xz');
    site.configure({ test: { kinds: ['packages', 'translations'] } });
    const told = await site.good(['mirror', 'sync']);
    expect(told.stdout).toContain('is published without main/i18n/Translation-en');
    site.configure({ test: { kinds: ['packages', 'translations'], optional: [] } });
    expect((await site.relive(['mirror', 'sync'])).result).toMatchObject({ code: 'download-failed' });
  });

  test('of an index of another day the error tells the form that upstream has', async () => {
    publishArchive(server.files, 'stable', key, { serve: ['.xz'] });
    for (const path of [...server.files.keys()])
      if (path.includes('/binary-amd64/by-hash/')) server.files.delete(path);
    server.files.set('dists/stable/main/binary-amd64/Packages.xz', Buffer.from('of yesterday'));
    const { result } = await site.relive(['mirror', 'sync']);
    expect(result).toMatchObject({
      code: 'download-failed',
      message: expect.stringMatching(/binary-amd64\/Packages\.xz: it has 12 bytes where \d+ are expected/),
      hint: expect.stringContaining('in the middle of an update'),
    });
  });

  test('closure brings indices, and no packages', async () => {
    publishArchive(server.files, 'stable', key);
    site.configure({ test: { select: 'closure' } });
    await site.good(['mirror', 'sync']);
    expect(site.has('test/dists/stable/main/binary-amd64/Packages.xz')).toBe(true);
    expect(site.has('test/pool')).toBe(false);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test.each([
    [{ names: ['lib*'] }, ['liba', 'libb']],
    [{ sections: ['web'] }, ['server']],
    [{ priorities: ['required'] }, ['base']],
    [{ sources: ['suite'] }, ['server', 'liba']],
    [{ closureOf: ['server'] }, ['server', 'liba', 'libb']],
  ])('filters %j choose %j', async (filters, chosen) => {
    const debs = [
      makeDeb({ name: 'server', section: 'web', source: 'suite', depends: 'liba (>= 1), nothing | b-api' }),
      makeDeb({ name: 'liba', source: 'suite (1.1)' }),
      makeDeb({ name: 'libb', provides: 'b-api (= 2)' }),
      makeDeb({ name: 'base', priority: 'required' }),
    ];
    publishArchive(server.files, 'stable', key, { debs });
    site.configure({ test: { select: 'filters', filters } });
    await site.good(['mirror', 'sync']);
    const there = debs
      .map(({ name }) => name)
      .filter((name) => site.has(`test/pool/main/${name[0]}/${name}`));
    expect(there.toSorted()).toEqual(chosen.toSorted());
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('takes Release with Release.gpg, and SHA-512 alone', async () => {
    publishArchive(server.files, 'stable', key, { detached: true, algorithm: 'sha512' });
    await site.good(['mirror', 'sync']);
    expect(site.has('test/dists/stable/Release.gpg')).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test.each(['./', 'packages/'])('mirrors the flat repository %s, and switches it at once', async (suite) => {
    const place = (name: string): string => `${suite === './' ? './' : suite}${name}_1.0_amd64.deb`;
    const options = { place: ({ name }: { readonly name: string }) => place(name) };
    publishArchive(server.files, suite, key, options);
    site.configure({ test: { suites: [suite], components: undefined } });
    await site.good(['mirror', 'sync']);
    const directory = suite.replace('./', '');
    expect(site.read(`test/${directory}InRelease`)).toEqual(server.files.get(`${directory}InRelease`));
    expect(site.has(`test/${directory}hello_1.0_amd64.deb`)).toBe(true);
    expect(lstatSync(site.at(`test/${directory}Packages.xz`)).isSymbolicLink()).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    publishArchive(server.files, suite, key, {
      ...options,
      debs: [makeDeb({ name: 'second' })],
      serve: ['.gz'],
      date: new Date(),
    });
    await site.good(['mirror', 'sync']);
    expect(site.has(`test/${directory}second_1.0_amd64.deb`)).toBe(true);
    expect(site.has(`test/${directory}Packages.gz`)).toBe(true);
    // What the new generation does not have is not offered any more.
    expect(site.has(`test/${directory}Packages.xz`)).toBe(false);
  });

  test('pool files below dists are there under their path', async () => {
    publishArchive(server.files, 'stable', key, { place: belowDists });
    await site.good(['mirror', 'sync']);
    expect(site.read('test/dists/stable/pool/hello_1.0_amd64.deb').equals(hello.content)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    publishArchive(server.files, 'stable', key, { place: belowDists, date: new Date() });
    server.requests.length = 0;
    await site.good(['mirror', 'sync']);
    expect(site.has('test/dists/stable/pool/hello_1.0_amd64.deb')).toBe(true);
    expect(server.requests.some(({ path }) => path.endsWith('.deb'))).toBe(false);
  });

  test('overrides are used by name, and shouted about', async () => {
    publishArchive(server.files, 'stable', key, { validUntil: new Date(Date.now() - 60_000) });
    const refused = await site.relive(['mirror', 'sync']);
    expect(refused.result).toMatchObject({
      code: 'not-authentic',
      message: expect.stringContaining('expired'),
    });
    site.configure({ test: { override: ['expired'] } });
    for (const run of ['first', 'unchanged']) {
      const { lines } = await site.good(['mirror', 'sync']);
      const warning = lines.find(({ event }) => event === 'warning');
      expect([run, warning?.['message']]).toEqual([run, expect.stringContaining('override: [expired]')]);
    }
  });

  test('only the named fingerprints count', async () => {
    publishArchive(server.files, 'stable', key);
    site.configure({ test: { fingerprints: ['0'.repeat(40)] } });
    expect((await site.relive(['mirror', 'sync'])).result).toMatchObject({ code: 'not-authentic' });
    site.configure({ test: { fingerprints: [key.fingerprint] } });
    await site.good(['mirror', 'sync']);
  });

  test('a Release binds the next one to the keys in its Signed-By, until it expires', async () => {
    const soon = new Date(Date.now() + 3_600_000);
    const other = '0123456789ABCDEF0123456789ABCDEF01234567';
    const publish = (age: number, signedBy: string, validUntil: Date | undefined): void =>
      publishArchive(server.files, 'stable', key, {
        date: new Date(Date.now() - age * 1000),
        ...(validUntil === undefined ? {} : { validUntil }),
        edit: (release) => `Signed-By: ${signedBy}\n${release}`,
      });
    // Without Valid-Until it binds nobody; the next one names the key that it is signed with, the one after it another.
    publish(900, other, undefined);
    await site.good(['mirror', 'sync']);
    publish(800, `${other}, ${key.fingerprint}!`, soon);
    await site.good(['mirror', 'sync']);
    publish(700, other, soon);
    await site.good(['mirror', 'sync']);
    publish(600, other, soon);
    const refused = await site.relive(['mirror', 'sync']);
    expect([refused.status, refused.result]).toMatchObject([
      3,
      { code: 'not-authentic', message: expect.stringContaining(`Signed-By: ${other}`) },
    ]);
    site.configure({ test: { override: ['signer'] } });
    const { lines } = await site.good(['mirror', 'sync']);
    expect(lines.find(({ event }) => event === 'warning')?.['message']).toContain('override: [signer]');
  });

  test('one repository in trouble does not hold up another', async () => {
    publishArchive(server.files, 'stable', key);
    site.configure({ broken: { suites: ['unknown'] }, test: {} });
    const { status, result } = await site.relive(['mirror', 'sync']);
    expect([status, result]).toEqual([
      1,
      expect.objectContaining({
        ok: false,
        failed: [expect.objectContaining({ name: 'broken' })],
        repositories: [expect.objectContaining({ name: 'test' })],
      }),
    ]);
  });

  test('a name that relive.yaml does not have is refused, with the one that is meant', async () => {
    const { status, result } = await site.relive(['mirror', 'sync', 'tset']);
    expect([status, result['hint']]).toEqual([2, 'did you mean test?']);
  });
});

test('mirror import prints what relive.yaml takes, and names what is left', async () => {
  publishArchive(server.files, 'stable', key);
  const list = join(site.directory, 'mirror.list');
  writeFileSync(
    list,
    `set nthreads 3\nset unlink 1\ndeb [arch=amd64 signed-by=${key.keyring}] ${server.url} stable main\n`,
  );
  const { result } = await site.good(['mirror', 'import', list]);
  expect(result).toMatchObject({ format: 'mirror.list', left: ['set unlink 1'] });
  const text = await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, '../../../dist/cli.cjs'),
    ...['mirror', 'import', list],
  ]);
  expect(text.stdout).toContain('#   set unlink 1');
  writeFileSync(join(site.directory, 'relive.yaml'), `version: 1\n${text.stdout}`);
  const [name = ''] = Object.keys(result['repositories'] as object);
  await site.good(['mirror', 'sync']);
  expect(site.has(`${name}/${helloPath}`)).toBe(true);
  writeFileSync(list, 'nonsense\n');
  expect((await site.relive(['mirror', 'import', list])).status).toBe(2);
});

describe('mirror list', () => {
  test('tells state, size and the last verification', async () => {
    publishArchive(server.files, 'stable', key);
    expect((await site.good(['mirror', 'list'])).result).toMatchObject({
      repositories: [{ suites: [{ state: 'absent' }] }],
    });
    await site.good(['mirror', 'sync']);
    await site.good(['mirror', 'verify']);
    expect((await site.good(['mirror', 'list'])).result).toMatchObject({
      repositories: [
        {
          name: 'test',
          suites: [{ state: 'published', poolFiles: 1, poolBytes: hello.content.length }],
          verification: { findings: 0 },
        },
      ],
    });
    writeFileSync(site.at('test/dists/stable/main/binary-amd64/Packages.xz'), 'x');
    expect((await site.good(['mirror', 'list'])).result).toMatchObject({
      repositories: [{ suites: [{ state: 'incomplete' }] }],
    });
  });
});
