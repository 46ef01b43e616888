import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PackageEntry } from '../../../src/debian/packages.ts';
import { Transport } from '../../../src/host/download.ts';
import { type SyncOptions, syncIndices } from '../../../src/mirror/indices.ts';
import { readPackages } from '../../../src/mirror/read-packages.ts';
import type { MirroredRepository, Repository } from '../../../src/mirror/repository.ts';
import { type RecordingContext, recordingContext } from '../../fixtures/context.ts';
import { containing, errorLike } from '../../fixtures/expecting.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { publishUpstream, type SuiteOptions } from '../../fixtures/upstream.ts';

const now = new Date('2026-02-01T00:00:00Z');
const later = new Date('2026-01-20T00:00:00Z');
let key: SigningKey;
let stranger: SigningKey;
let mirror: string;
let server: TestServer;
let transport: Transport;
let context: RecordingContext;

beforeAll(() => {
  key = makeSigningKey();
  stranger = makeSigningKey('Stranger');
});
afterAll(() => {
  key.remove();
  stranger.remove();
});
beforeEach(async () => {
  mirror = mkdtempSync(join(tmpdir(), 'relive-test-mirror-'));
  server = await startServer();
  transport = new Transport({ idleSeconds: 1, pauseSeconds: 0.01, rounds: 2 });
  context = recordingContext();
});
afterEach(async () => {
  await transport.close();
  await server.close();
  rmSync(mirror, { recursive: true, force: true });
});

function repository(more: Partial<Repository> = {}): Repository {
  return {
    name: 'test',
    url: [server.url],
    suites: ['stable'],
    components: ['main'],
    architectures: ['amd64'],
    signedBy: key.keyring,
    ...more,
  };
}

async function sync(more: Partial<Repository> = {}, options: SyncOptions = {}): Promise<MirroredRepository> {
  return await syncIndices(mirror, repository(more), { transport, now, ...options }, context);
}

function upstream(options: SuiteOptions = {}, suite = 'stable'): void {
  publishUpstream(server.files, suite, key, options);
}

function published(path: string, suite = 'stable'): Buffer {
  return readFileSync(join(mirror, 'test/dists', suite, path));
}

function generation(): string {
  return readlinkSync(join(mirror, 'test/dists/stable'));
}

/** The names of the packages in the published index. */
async function packages(): Promise<string[]> {
  const found: PackageEntry[] = [];
  const index = { component: 'main', architecture: 'amd64' };
  await readPackages(mirror, repository(), 'stable', index, (entry) => found.push(entry), context);
  return found.map((entry) => `${entry.package} ${entry.version}`);
}

describe('a first sync', () => {
  test('publishes the suite as upstream has it', async () => {
    upstream();
    const result = await sync();
    const inRelease = server.files.get('dists/stable/InRelease');
    expect(published('InRelease').equals(inRelease ?? Buffer.alloc(0))).toBe(true);
    expect(result).toEqual({
      name: 'test',
      root: join(mirror, 'test'),
      components: ['main'],
      architectures: ['amd64'],
      keyring: key.keyring,
      suites: [
        {
          suite: 'stable',
          codename: 'stable',
          date: new Date('2026-01-10T00:00:00Z'),
          releaseDigest: createHash('sha256').update(published('InRelease')).digest('hex'),
        },
      ],
    });
    const digest = createHash('sha256').update(published('main/binary-amd64/Packages.xz')).digest('hex');
    expect(published(`main/binary-amd64/by-hash/SHA256/${digest}`)).toEqual(
      published('main/binary-amd64/Packages.xz'),
    );
    expect(await packages()).toEqual(['hello 1.0']);
    expect(readdirSync(join(mirror, 'test/dists/.suites'))).toHaveLength(1);
  });

  test('asks by hash first', async () => {
    upstream();
    await sync();
    expect(server.requests.map(({ path }) => path)).toEqual([
      'dists/stable/InRelease',
      containing('dists/stable/main/binary-amd64/by-hash/SHA256/'),
    ]);
  });

  test('asks by name where upstream promises by-hash and does not serve it', async () => {
    upstream();
    for (const path of [...server.files.keys()]) if (path.includes('by-hash')) server.files.delete(path);
    await sync();
    expect(await packages()).toEqual(['hello 1.0']);
  });

  test.each([
    ['only gz is served', { serve: ['.gz'] }],
    ['only the uncompressed index is served', { serve: [''] }],
    ['there is no by-hash', { byHash: false }],
    ['there is only SHA-512', { algorithm: 'sha512' }],
    ['there is only Release and Release.gpg', { detached: true }],
  ] as [string, SuiteOptions][])('works where %s', async (_what, options) => {
    upstream(options);
    await sync();
    expect(await packages()).toEqual(['hello 1.0']);
    await sync();
  });

  test('takes inline keys, and gives apt a file of them', async () => {
    upstream();
    const { keyring } = await sync({ signedBy: key.armoured });
    expect(keyring).toMatch(/\.asc$/);
    expect(readFileSync(keyring, 'utf8').trim()).toBe(key.armoured.trim());
  });

  test('takes nested suites', async () => {
    upstream({}, 'stable/updates');
    await sync({ suites: ['stable/updates'] });
    expect(published('InRelease', 'stable/updates').length).toBeGreaterThan(0);
  });

  test('serves from the second upstream what the first lacks', async () => {
    upstream();
    await sync({ url: [`${server.url}/broken`, server.url] });
    expect(await packages()).toEqual(['hello 1.0']);
  });
});

describe('a sync without changes', () => {
  test('costs one request, answered with 304, and changes nothing', async () => {
    upstream();
    await sync();
    const before = generation();
    server.requests.length = 0;
    await sync();
    await expect.poll(() => server.requests.map(({ status }) => status)).toEqual([304]);
    expect(generation()).toBe(before);
  });

  test('is seen by the bytes too, where the server knows no conditions', async () => {
    upstream();
    server.validators = false;
    await sync();
    const before = generation();
    server.requests.length = 0;
    await sync();
    expect(server.requests).toHaveLength(1);
    expect(generation()).toBe(before);
  });

  test('is none when the configuration asks for more', async () => {
    upstream({ components: ['main', 'contrib'] });
    await sync();
    await sync({ components: ['main', 'contrib'] });
    expect(published('contrib/binary-amd64/Packages.xz').length).toBeGreaterThan(0);
  });

  test('is none when a published file is gone: it comes back', async () => {
    upstream();
    await sync();
    unlinkSync(join(mirror, 'test/dists/stable/main/binary-amd64/Packages.xz'));
    await sync();
    expect(await packages()).toEqual(['hello 1.0']);
  });
});

describe('a changed upstream', () => {
  test('is published; the indices of before are still there by hash, the old generation is not', async () => {
    upstream();
    await sync();
    const old = createHash('sha256').update(published('main/binary-amd64/Packages.xz')).digest('hex');
    upstream({ date: later, packages: [{ name: 'hello', version: '2.0' }] });
    await sync();
    expect(await packages()).toEqual(['hello 2.0']);
    expect(published(`main/binary-amd64/by-hash/SHA256/${old}`).length).toBeGreaterThan(0);
    expect(readdirSync(join(mirror, 'test/dists/.suites'))).toHaveLength(1);
    expect(readdirSync(join(mirror, '.relive/test/suites'))).toHaveLength(1);
    upstream({ date: new Date('2026-03-01T00:00:00Z'), packages: [] });
    await sync({}, { now: new Date('2026-03-02T00:00:00Z') });
    expect(existsSync(join(mirror, 'test/dists/stable/main/binary-amd64/by-hash/SHA256', old))).toBe(false);
  });

  test('that changes while it is read is read anew', async () => {
    upstream({ byHash: false });
    let changed = false;
    server.fault = (request) => {
      if (!changed && request.url?.includes('Packages') === true) {
        changed = true;
        upstream({ byHash: false, date: later, packages: [{ name: 'hello', version: '2.0' }] });
      }
      return false;
    };
    await sync();
    expect(await packages()).toEqual(['hello 2.0']);
    expect(context.told().join()).toContain('changed while it was read');
  });

  test('that lacks an index leaves what was published', async () => {
    upstream();
    await sync();
    const before = generation();
    upstream({ date: later, packages: [{ name: 'hello', version: '2.0' }], serve: [] });
    await expect(sync()).rejects.toMatchObject(errorLike('download-failed', 'status 404'));
    expect(generation()).toBe(before);
    expect(await packages()).toEqual(['hello 1.0']);
    upstream({ date: later, packages: [{ name: 'hello', version: '2.0' }] });
    await sync();
    expect(await packages()).toEqual(['hello 2.0']);
  });
});

describe('trust', () => {
  test('a stranger is refused, and named', async () => {
    publishUpstream(server.files, 'stable', stranger);
    await expect(sync()).rejects.toMatchObject(errorLike('not-authentic', stranger.fingerprint.slice(-16)));
    expect(existsSync(join(mirror, 'test/dists/stable'))).toBe(false);
  });

  test('a changed InRelease is refused', async () => {
    upstream();
    const signed = server.files.get('dists/stable/InRelease')?.toString('utf8') ?? '';
    server.files.set('dists/stable/InRelease', Buffer.from(signed.replace('Label: Test', 'Label: Evil')));
    await expect(sync()).rejects.toMatchObject(errorLike('not-authentic', 'bad signature'));
  });

  test('a stripped signature is refused', async () => {
    upstream({ detached: true });
    server.files.delete('dists/stable/Release.gpg');
    await expect(sync()).rejects.toMatchObject(errorLike('not-authentic', 'there is no Release.gpg'));
    server.files.set('dists/stable/InRelease', server.files.get('dists/stable/Release') ?? Buffer.alloc(0));
    await expect(sync()).rejects.toMatchObject(errorLike('not-authentic', 'not one clear-signed message'));
  });

  test('an index that is not the one in Release never appears', async () => {
    upstream();
    for (const [path, content] of server.files) {
      if (path.includes('Packages') || path.includes('by-hash'))
        server.files.set(path, Buffer.alloc(content.length));
    }
    await expect(sync()).rejects.toMatchObject(errorLike('download-failed', 'SHA256'));
    expect(existsSync(join(mirror, 'test/dists/stable'))).toBe(false);
  });

  test('a changed keyring makes it look at the signature again', async () => {
    upstream();
    await sync();
    await expect(sync({ signedBy: stranger.keyring })).rejects.toMatchObject(
      errorLike('not-authentic', 'not signed by an allowed key'),
    );
  });

  test.each([
    ['from the future', 'future', { date: new Date('2026-02-01T00:01:00Z') }],
    ['expired', 'expired', { validUntil: new Date('2026-01-31T00:00:00Z') }],
  ] as const)('a Release %s is refused, unless that is allowed by name', async (_what, rule, options) => {
    upstream(options);
    await expect(sync()).rejects.toMatchObject(
      errorLike('not-authentic', rule === 'future' ? 'in the future' : 'expired'),
    );
    await sync({ override: [rule] });
    expect(context.told().join()).toContain(`override: [${rule}]`);
  });

  test('an upstream that is frozen past its Valid-Until is refused although nothing changed', async () => {
    upstream({ validUntil: new Date('2026-02-02T00:00:00Z') });
    await sync();
    await expect(sync({}, { now: new Date('2026-02-03T00:00:00Z') })).rejects.toMatchObject(
      errorLike('not-authentic', 'expired'),
    );
    expect(await packages()).toEqual(['hello 1.0']);
  });

  test('an older Release than the one before is refused', async () => {
    upstream({ date: later, packages: [{ name: 'hello', version: '2.0' }] });
    await sync();
    upstream();
    await expect(sync()).rejects.toMatchObject(errorLike('not-authentic', 'older'));
    expect(await packages()).toEqual(['hello 2.0']);
    await sync({ override: ['older'] });
    expect(await packages()).toEqual(['hello 1.0']);
  });

  test('a Release that is another one now is refused', async () => {
    upstream();
    await sync();
    upstream({ date: later, codename: 'next' });
    await expect(sync()).rejects.toMatchObject(
      errorLike('not-authentic', 'Codename from "stable" to "next"'),
    );
    await sync({ override: ['renamed'] });
  });

  test('a path that leads out is refused', async () => {
    upstream({ edit: (text) => `${text} ${'0'.repeat(64)} 1 ../../x\n` });
    await expect(sync()).rejects.toMatchObject(errorLike('unsafe-path', '../../x'));
  });
});

describe('configuration', () => {
  test('what the suite lacks is said, and what it has', async () => {
    upstream();
    await expect(sync({ components: ['mane'] })).rejects.toMatchObject({
      code: 'configuration',
      message: containing('no component mane for amd64'),
      hint: containing('main for amd64'),
    });
  });

  test.each([
    [{ name: '../x' }, 'cannot be the name'],
    [{ suites: ['../x/'] }, 'refused'],
    [{ suites: ['./', 'a/'] }, 'is flat, and has more than one suite'],
    [{ suites: ['../x'] }, 'refused'],
    [{ suites: ['a', 'a/b'] }, 'inside of its suite'],
  ] as [Partial<Repository>, string][])('%j is refused', async (more, message) => {
    await expect(sync(more)).rejects.toThrow(message);
    expect(server.requests).toEqual([]);
  });

  test('a suite that upstream lacks is named', async () => {
    await expect(sync()).rejects.toMatchObject(errorLike('download-failed', 'has no suite stable'));
  });
});

describe('offline', () => {
  test('uses what is there and asks nobody', async () => {
    upstream();
    const before = await sync();
    server.requests.length = 0;
    expect(await sync({}, { offline: true })).toEqual(before);
    expect(server.requests).toEqual([]);
  });

  test('says what is not there', async () => {
    await expect(sync({}, { offline: true })).rejects.toMatchObject(
      errorLike('no-network', 'not in the mirror yet'),
    );
    upstream({ components: ['main', 'contrib'] });
    await sync();
    await expect(sync({ components: ['contrib'] }, { offline: true })).rejects.toThrow('other components');
  });

  test('an unreachable upstream leaves everything as it was', async () => {
    upstream();
    await sync();
    await server.close();
    await expect(sync()).rejects.toMatchObject(errorLike('no-network', 'cannot reach'));
    expect(await packages()).toEqual(['hello 1.0']);
  });
});

describe('readPackages', () => {
  test('a compressed bomb ends as soon as it is larger than the Release says', async () => {
    upstream({
      serve: ['.gz'],
      packages: [{ name: 'x'.repeat(5_000_000) }],
      edit: (text) =>
        text.replace(
          / \S+ \d+ main\/binary-amd64\/Packages$/m,
          ` ${'0'.repeat(64)} 100 main/binary-amd64/Packages`,
        ),
    });
    await sync();
    await expect(packages()).rejects.toMatchObject(
      errorLike('corrupt', 'does not decompress to what its Release lists'),
    );
  });

  test('an index with a path that leads out is refused', async () => {
    upstream({ packages: [{ name: 'hello', filename: '../../etc/cron.d/x' }] });
    await sync();
    await expect(packages()).rejects.toMatchObject({ code: 'unsafe-path' });
  });

  test('what is not mirrored is said', async () => {
    upstream();
    await sync();
    await expect(
      readPackages(
        mirror,
        repository(),
        'stable',
        { component: 'main', architecture: 'arm64' },
        () => undefined,
        context,
      ),
    ).rejects.toMatchObject({ code: 'not-found' });
  });
});
