import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  type ArchiveOptions,
  type Deb,
  hashOf,
  makeDeb,
  publishArchive,
  writeTree,
} from '../../fixtures/archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { cli } from '../../support.ts';

let key: SigningKey;
let stranger: SigningKey;
let server: TestServer;
let site: MirrorSite;
/** A tree that no relive.yaml describes. */
let tree: string;

const debs: readonly Deb[] = ['alpha', 'beta', 'gamma'].map((name) => makeDeb({ name, size: 5000 }));
const pool = (name: string): string => `pool/main/${name.slice(0, 1)}/${name}/${name}_1.0_amd64.deb`;
const packages = 'dists/stable/main/binary-amd64/Packages';

beforeAll(() => {
  key = makeSigningKey();
  stranger = makeSigningKey('Stranger');
});
afterAll(() => {
  key.remove();
  stranger.remove();
});
beforeEach(async () => {
  server = await startServer();
  site = mirrorSite(key, server.url);
  tree = join(site.directory, 'tree');
});
afterEach(async () => {
  await server.close();
  site.remove();
});

function make(options: ArchiveOptions = {}, suite = 'stable', by = key): void {
  publishArchive(server.files, suite, by, { debs, source: 'tool', ...options });
  writeTree(tree, server.files);
}

/** What is found in the tree, paths relative to it. */
async function found(...options: string[]): Promise<readonly string[]> {
  const { findings, status } = await site.relive([
    ...['mirror', 'verify', `${tree}/`, '--keyring', key.keyring],
    ...options,
  ]);
  expect(status).toBe(findings.length === 0 ? 0 : 1);
  return findings.map((finding) => finding.replace(`${tree}/`, '')).toSorted();
}

function edit(path: string, change: (content: Buffer) => Buffer): void {
  writeFileSync(join(tree, path), change(readFileSync(join(tree, path))));
}

function flip(path: string, at = 100): void {
  edit(path, (content) => {
    const changed = Buffer.from(content);
    changed[at] = (changed[at] ?? 0) ^ 1;
    return changed;
  });
}

describe('a tree without relive.yaml', () => {
  test('that is whole has no findings', async () => {
    make({
      udebs: [makeDeb({ name: 'small-udeb' })],
      detached: 'both',
      validUntil: new Date(Date.now() + 1e6),
    });
    expect(await found()).toEqual([]);
    expect(await found('--deep')).toEqual([]);
  });

  const faults: readonly [string, () => void, readonly string[]][] = [
    ['a package with one byte flipped', () => flip(pool('beta')), [`corrupt ${pool('beta')}`]],
    ['a truncated package', () => truncateSync(join(tree, pool('beta')), 10), [`truncated ${pool('beta')}`]],
    [
      'a package that is too long',
      () => appendFileSync(join(tree, pool('beta')), 'x'),
      [`corrupt ${pool('beta')}`],
    ],
    ['a package that is gone', () => rmSync(join(tree, pool('beta'))), [`missing ${pool('beta')}`]],
    [
      'a directory in place of a package',
      () => {
        rmSync(join(tree, pool('beta')));
        mkdirSync(join(tree, pool('beta')));
      },
      [`unsafe-path ${pool('beta')}`],
    ],
    [
      'a package that nothing lists',
      () => writeFileSync(join(tree, 'pool/main/a/alpha/alpha_0.9_amd64.deb'), 'old'),
      ['unreferenced pool/main/a/alpha/alpha_0.9_amd64.deb'],
    ],
    [
      'a package by a link that leads out',
      () => {
        writeFileSync(join(site.directory, 'outside'), readFileSync(join(tree, pool('beta'))));
        rmSync(join(tree, pool('beta')));
        symlinkSync(join(site.directory, 'outside'), join(tree, pool('beta')));
      },
      [`unsafe-path ${pool('beta')}`],
    ],
    [
      'a directory by a link that leads out',
      () => {
        renameSync(join(tree, 'pool/main/b'), join(site.directory, 'b'));
        symlinkSync(join(site.directory, 'b'), join(tree, 'pool/main/b'));
      },
      // Once as what is listed, once as what lies there.
      ['unsafe-path pool/main/b', `unsafe-path ${pool('beta')}`],
    ],
    [
      'a link in the pool that stays inside',
      () => {
        renameSync(join(tree, pool('beta')), join(tree, 'kept.deb'));
        symlinkSync(join(tree, 'kept.deb'), join(tree, pool('beta')));
      },
      [],
    ],
    [
      'a source that is damaged',
      () => flip('pool/main/t/tool/tool_1.0.dsc'),
      ['corrupt pool/main/t/tool/tool_1.0.dsc'],
    ],
    ['a damaged index of two', () => flip(`${packages}.xz`, 20), [`corrupt ${packages}.xz`]],
    [
      'an index that is gone in all forms',
      () => {
        for (const ending of ['.xz', '.gz']) rmSync(join(tree, `${packages}${ending}`));
        writeFileSync(join(tree, `${packages}.old`), '');
      },
      [
        `missing ${packages}`,
        `unreferenced ${packages}.old`,
        ...debs.map(({ name }) => `unreferenced ${pool(name)}`),
      ],
    ],
    [
      'a file by hash that does not have it',
      () => {
        const directory = 'dists/stable/main/binary-amd64/by-hash/SHA256';
        const [name = ''] = readdirSync(join(tree, directory));
        writeFileSync(join(tree, directory, name), 'other');
      },
      [expect.stringMatching(/^corrupt dists\/stable\/main\/binary-amd64\/by-hash\/SHA256\//)],
    ],
    [
      'a changed InRelease',
      () =>
        edit('dists/stable/InRelease', (text) =>
          Buffer.from(text.toString().replace('Label: Test', 'Label: Best')),
        ),
      ['unsigned dists/stable/InRelease'],
    ],
    [
      'a stripped signature',
      () => {
        const body = readFileSync(join(tree, 'dists/stable/InRelease'), 'utf8');
        rmSync(join(tree, 'dists/stable/InRelease'));
        writeFileSync(
          join(tree, 'dists/stable/Release'),
          body.slice(body.indexOf('\n\n') + 2, body.indexOf('-----BEGIN PGP SIGNATURE')),
        );
      },
      ['unsigned dists/stable/Release'],
    ],
    [
      'a Release of another generation beside the InRelease',
      () => {
        const release = Buffer.from(
          readFileSync(join(tree, 'dists/stable/InRelease'), 'utf8')
            .replace(/^[^]*?\n\n/, '')
            .replace(/\n-----BEGIN PGP SIGNATURE[^]*$/, '\n')
            .replace('Label: Test', 'Label: Rest'),
        );
        writeFileSync(join(tree, 'dists/stable/Release'), release);
        writeFileSync(join(tree, 'dists/stable/Release.gpg'), key.detachSign(release));
      },
      ['inconsistent dists/stable/Release'],
    ],
  ];
  test.each(faults)('%s', async (_what, damage, expected) => {
    make();
    damage();
    expect(await found()).toEqual(expected);
  });

  test.each([
    ['expired', { validUntil: new Date(Date.now() - 1000) }],
    ['from the future', { date: new Date(Date.now() + 3_600_000) }],
  ])('a Release that is %s', async (_what, options) => {
    make(options);
    expect(await found()).toEqual(['expired dists/stable/InRelease']);
  });

  test('a Release by a key that nobody trusts', async () => {
    make({}, 'stable', stranger);
    expect(await found()).toEqual(['unsigned dists/stable/InRelease']);
  });

  test('an index that names paths which lead out, beside good ones', async () => {
    make({
      editIndex: (text, path) =>
        path.endsWith('Packages') ? text.replace(pool('beta'), '../../etc/cron.d/x') : text,
    });
    expect(await found()).toEqual([`unreferenced ${pool('beta')}`, `unsafe-path ${packages}.xz`]);
  });

  test('one path with two contents', async () => {
    make();
    const alpha = makeDeb({ name: 'alpha', size: 5000 });
    // Longer for certain: how well a package is compressed depends on its time stamps too.
    const longer = { ...alpha, content: Buffer.concat([alpha.content, Buffer.alloc(100)]) };
    make({ debs: [longer] }, 'testing');
    // The tree has the second one; the first suite wants the other.
    expect(await found()).toEqual([`corrupt ${pool('alpha')}`, `inconsistent ${pool('alpha')}`]);
  });

  test('an index that lies about what it lists is caught by --deep only', async () => {
    make({ editIndex: (text) => text.replace('Package: beta\nVersion: 1.0', 'Package: beta\nVersion: 1.1') });
    expect(await found()).toEqual([]);
    expect(await found('--deep')).toEqual([`inconsistent ${pool('beta')}`]);
  });

  test('a part of a tree, with --partial', async () => {
    make();
    rmSync(join(tree, pool('beta')));
    flip(pool('alpha'));
    expect(await found('--partial')).toEqual([`corrupt ${pool('alpha')}`]);
  });

  test('a flat repository, and one below a directory', async () => {
    publishArchive(server.files, './', key, { debs });
    writeTree(join(tree, 'vendor/apt'), server.files);
    expect(await found()).toEqual([]);
    flip('vendor/apt/beta_1.0_amd64.deb');
    writeFileSync(join(tree, 'vendor/apt/old_1.0_amd64.deb'), '');
    expect(await found()).toEqual([
      'corrupt vendor/apt/beta_1.0_amd64.deb',
      'unreferenced vendor/apt/old_1.0_amd64.deb',
    ]);
  });

  test('a directory that holds no archive is refused', async () => {
    mkdirSync(tree);
    const { status, result } = await site.relive(['mirror', 'verify', tree]);
    expect([status, result['code']]).toEqual([2, 'not-found']);
  });

  test('a compressed bomb in place of an index ends early', async () => {
    const bomb = join(site.directory, 'bomb');
    writeFileSync(bomb, '');
    truncateSync(bomb, 3e8);
    const packed = execFileSync('xz', ['-0', '--stdout', bomb], { maxBuffer: 1e9 });
    make({
      serve: ['.xz'],
      edit: (text) =>
        text.replace(
          / \S+ \d+ main\/binary-amd64\/Packages\.xz/,
          ` ${hashOf(packed)} ${packed.length} main/binary-amd64/Packages.xz`,
        ),
    });
    writeFileSync(join(tree, `${packages}.xz`), packed);
    rmSync(join(tree, 'dists/stable/main/binary-amd64/by-hash'), { recursive: true });
    expect(await found()).toEqual([
      `corrupt ${packages}.xz`,
      ...debs.map(({ name }) => `unreferenced ${pool(name)}`),
    ]);
  });
});

describe('what was verified before', () => {
  test('--changed reads what was touched, and nothing else', async () => {
    make();
    const read = async (...options: string[]): Promise<number> => {
      const { result } = await site.relive([
        'mirror',
        'verify',
        `${tree}/`,
        '--keyring',
        key.keyring,
        ...options,
      ]);
      const [{ skipped } = { skipped: -1 }] = result['trees'] as { skipped: number }[];
      return 5 - skipped;
    };
    expect(await read('--changed')).toBe(5);
    expect(await read('--changed')).toBe(0);
    const { atime, mtime } = statSync(join(tree, pool('beta')));
    flip(pool('beta'));
    utimesSync(join(tree, pool('beta')), atime, mtime);
    expect(await read('--changed')).toBe(1);
    expect(await found('--changed')).toEqual([`corrupt ${pool('beta')}`]);
    expect(await read()).toBe(5);
  });

  test('--sample goes through the pool in slices, the oldest first', async () => {
    make({
      debs: Array.from({ length: 10 }, (_, number) => makeDeb({ name: `p${number}` })),
      source: 'tool',
    });
    for (const name of readdirSync(join(tree, 'pool/main/p'))) flip(pool(name));
    // Twelve files with those of the source; what is found damaged stays the oldest.
    const first = await found('--sample', '50%');
    expect(first.length).toBeGreaterThanOrEqual(4);
    expect(first.length).toBeLessThanOrEqual(6);
    for (const name of readdirSync(join(tree, 'pool/main/p'))) flip(pool(name));
    for (let slice = 0; slice < 3; slice += 1) expect(await found('--sample', '34%')).toEqual([]);
    // All were read by now: a file that is damaged later is not among the oldest of the same second, but with all it is.
    flip(pool('p3'));
    expect(await found('--sample', '100%')).toEqual([`corrupt ${pool('p3')}`]);
  });

  test('a wrong sample is refused', async () => {
    const { status } = await site.relive(['mirror', 'verify', '--sample', '0%']);
    expect(status).toBe(2);
  });
});

describe('repair', () => {
  test('fetches what is bad and nothing else, keeps it, and verifies again', async () => {
    publishArchive(server.files, 'stable', key, { debs });
    await site.good(['mirror', 'sync']);
    tree = site.at('test');
    flip(pool('beta'));
    rmSync(join(tree, pool('gamma')));
    const damaged = readFileSync(join(tree, pool('beta')));
    server.requests.length = 0;
    const { result } = await site.good(['mirror', 'repair']);
    expect(server.requests.map(({ path }) => path).toSorted()).toEqual([pool('beta'), pool('gamma')]);
    const [{ mended, quarantine } = { mended: 0, quarantine: '' }] = result['repositories'] as {
      mended: number;
      quarantine: string;
    }[];
    expect(mended).toBe(2);
    expect(readFileSync(join(quarantine, pool('beta'))).equals(damaged)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('mends a damaged index of the published suite', async () => {
    publishArchive(server.files, 'stable', key, { debs });
    await site.good(['mirror', 'sync']);
    const place = site.at(`test/${packages}.xz`);
    const content = Buffer.from(readFileSync(place));
    content[30] = (content[30] ?? 0) ^ 1;
    writeFileSync(place, content);
    expect((await site.relive(['mirror', 'verify'])).findings).toContain(`corrupt test/${packages}.xz`);
    await site.good(['mirror', 'repair']);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('fetches a signed file anew that was changed; leaves it where upstream has no better one', async () => {
    publishArchive(server.files, 'stable', key, { debs });
    await site.good(['mirror', 'sync']);
    const release = 'dists/stable/InRelease';
    const good = readFileSync(site.at(`test/${release}`));
    const bad = Buffer.from(good.toString('latin1').replace('Label: Test', 'Label: Best'), 'latin1');
    writeFileSync(site.at(`test/${release}`), bad);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([`unsigned test/${release}`]);
    server.files.set(release, bad);
    expect((await site.relive(['mirror', 'repair'])).status).toBe(3);
    expect(readFileSync(site.at(`test/${release}`)).equals(bad)).toBe(true);
    server.files.set(release, good);
    await site.good(['mirror', 'repair']);
    expect(readFileSync(site.at(`test/${release}`)).equals(good)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('what upstream does not have either stays a finding', async () => {
    publishArchive(server.files, 'stable', key, { debs });
    await site.good(['mirror', 'sync']);
    rmSync(site.at(`test/${pool('beta')}`));
    server.files.delete(pool('beta'));
    expect((await site.relive(['mirror', 'repair'])).result).toMatchObject({ code: 'download-failed' });
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([`missing test/${pool('beta')}`]);
  });
});

describe('prune', () => {
  const many = Array.from({ length: 30 }, (_, number) => makeDeb({ name: `p${number}` }));

  test('removes what nothing needs, after its grace period, and no more than the limit', async () => {
    publishArchive(server.files, 'stable', key, { debs: many });
    await site.good(['mirror', 'sync']);
    publishArchive(server.files, 'stable', key, { debs: many.slice(5), date: new Date() });
    await site.good(['mirror', 'sync']);
    // In its grace period it is nothing to worry about.
    expect(site.has(`test/${pool('p3')}`)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    expect((await site.good(['mirror', 'prune'])).result).toMatchObject({
      repositories: [{ removed: [], waiting: 5, kept: 30 }],
    });
    const refused = await site.relive(['mirror', 'prune', '--grace', '0', '--limit', '10']);
    expect([refused.status, refused.result['message']]).toEqual([
      2,
      expect.stringContaining('5 of the 30 files'),
    ]);
    expect(site.has(`test/${pool('p3')}`)).toBe(true);
    const told = await site.good(['mirror', 'prune', '--grace', '0', '--dry-run']);
    expect(told.result).toMatchObject({ repositories: [{ removed: expect.arrayContaining([pool('p3')]) }] });
    expect(site.has(`test/${pool('p3')}`)).toBe(true);
    await site.good(['mirror', 'prune', '--grace', '0']);
    expect(site.has(`test/${pool('p3')}`)).toBe(false);
    expect(existsSync(dirname(site.at(`test/${pool('p3')}`)))).toBe(false);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('asks on a terminal before it removes more than the limit', async () => {
    publishArchive(server.files, 'stable', key, { debs: many });
    await site.good(['mirror', 'sync']);
    publishArchive(server.files, 'stable', key, { debs: many.slice(5), date: new Date() });
    await site.good(['mirror', 'sync']);
    const asked = `'${process.execPath}' '${cli}' --site '${site.directory}' mirror prune --grace 0 --limit 10`;
    for (const [answer, status] of [
      ['n\n', 2],
      ['\n', 2],
      ['\u0004', 2],
      ['y\n', 0],
    ] as const) {
      const terminal = spawnSync('script', ['-qec', asked, '/dev/null'], { input: answer, encoding: 'utf8' });
      expect(terminal.stdout).toContain('more than 10 %: remove them? [y/N]');
      expect({ answer, status: terminal.status }).toEqual({ answer, status });
      expect(site.has(`test/${pool('p3')}`)).toBe(status !== 0);
    }
  });

  test('keeps what a snapshot needs until it is gone', async () => {
    publishArchive(server.files, 'stable', key, { debs: many });
    await site.good(['mirror', 'sync']);
    await site.good(['mirror', 'snapshot', 'create', 'test', 'before']);
    publishArchive(server.files, 'stable', key, { debs: many.slice(5), date: new Date() });
    await site.good(['mirror', 'sync']);
    await site.good(['mirror', 'prune', '--grace', '0']);
    expect(site.has(`test/snapshots/before/${pool('p3')}`)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    await site.good(['mirror', 'snapshot', 'remove', 'test', 'before']);
    expect(site.has('test/snapshots/before')).toBe(false);
    await site.good(['mirror', 'prune', '--grace', '0']);
    expect(site.has(`test/${pool('p3')}`)).toBe(false);
  });

  test('keeps what a lock names', async () => {
    const gone = makeDeb({ name: 'p3' });
    publishArchive(server.files, 'stable', key, { debs: many });
    site.configure({ test: { select: 'closure' } });
    const lock = {
      schema: 1,
      profile: 'demo',
      suite: 'stable',
      architecture: 'amd64',
      wishes: '0'.repeat(64),
      repositories: [],
      bootstrap: [],
      packages: [
        {
          ...{ name: 'p3', version: '1.0', architecture: 'amd64', repository: 'test', path: pool('p3') },
          ...{ size: gone.content.length, sha256: hashOf(gone.content), why: 'profile' },
        },
      ],
    };
    mkdirSync(join(site.directory, 'locks'));
    writeFileSync(join(site.directory, 'locks/demo.amd64.json'), JSON.stringify(lock));
    // With select: closure a sync brings what locks name, and nothing else.
    expect((await site.good(['mirror', 'sync'])).result).toMatchObject({
      repositories: [{ lockedDownloaded: 1 }],
    });
    expect(readdirSync(site.at('test/pool/main/p'))).toEqual(['p3']);
    publishArchive(server.files, 'stable', key, { debs: many.slice(5), date: new Date() });
    await site.good(['mirror', 'sync']);
    await site.good(['mirror', 'prune', '--grace', '0']);
    expect(site.has(`test/${pool('p3')}`)).toBe(true);
    // No index lists it any more; the lock does.
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    rmSync(site.at(`test/${pool('p3')}`));
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([`missing test/${pool('p3')}`]);
  });
});

test('what is published is one link for each suite', async () => {
  publishArchive(server.files, 'stable', key, { debs });
  await site.good(['mirror', 'sync']);
  expect(readlinkSync(site.at('test/dists/stable'))).toMatch(/^\.suites\/stable\.\d{8}T\d{6}Z-/);
});
