import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeDeb, publishArchive } from '../../fixtures/archive.ts';
import { cacheDirectory } from '../../fixtures/cache.ts';
import { debianKeyring, hostArchive } from '../../fixtures/host-archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { privateApt } from '../../fixtures/private-apt.ts';
import { startRelive } from '../../fixtures/relive.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { slowTests } from '../../support.ts';

let key: SigningKey;
let upstream: TestServer;
let site: MirrorSite;
let serving: Serving;
let url: string;
let scratch: string;
const old = makeDeb({ name: 'hello' });
const current = makeDeb({ name: 'hello', version: '2.0' });
const other = makeDeb({ name: 'other' });

interface Serving {
  readonly url: string;
  readonly stop: () => Promise<void>;
}

/** Starts `relive mirror serve` on a port that the kernel chooses, and waits until it says where it is. */
async function serve({ directory }: Pick<MirrorSite, 'directory'>): Promise<Serving> {
  const child = startRelive(directory, ['mirror', 'serve', '--listen', '127.0.0.1:0']);
  if (child.stderr === null) throw new Error('no output');
  for await (const line of createInterface({ input: child.stderr })) {
    const match = /(http:\/\/127\.0\.0\.1:\d+)\/REPOSITORY/.exec(line);
    if (match?.[1] === undefined) continue;
    const stop = async (): Promise<void> => {
      child.kill('SIGTERM');
      await once(child, 'exit');
    };
    return { url: match[1], stop };
  }
  throw new Error('relive mirror serve did not start');
}

beforeAll(async () => {
  key = makeSigningKey();
  upstream = await startServer();
  site = mirrorSite(key, upstream.url);
  scratch = mkdtempSync(join(tmpdir(), 'relive-test-clients-'));
  publishArchive(upstream.files, 'stable', key, { debs: [old, other], source: 'tool' });
  site.configure({ test: { kinds: ['packages', 'sources'] } });
  await site.good(['mirror', 'sync']);
  await site.good(['mirror', 'snapshot', 'create', 'test', 'first']);
  publishArchive(upstream.files, 'stable', key, {
    debs: [current, makeDeb({ name: 'fresh' })],
    source: 'tool',
    date: new Date(),
  });
  await site.good(['mirror', 'sync']);
  serving = await serve(site);
  ({ url } = serving);
});
afterAll(async () => {
  await serving.stop();
  await upstream.close();
  rmSync(scratch, { recursive: true, force: true });
  site.remove();
  key.remove();
});

describe('apt', () => {
  test.each([
    ['file', '', '2.0'],
    ['http', '', '2.0'],
    ['file', '/snapshots/first', '1.0'],
    ['http', '/snapshots/first', '1.0'],
  ])('takes the mirror by %s%s', async (method, place, version) => {
    const root = join(scratch, `${method}${place.replaceAll('/', '-')}`);
    const base = method === 'file' ? `file://${site.at(`test${place}`)}` : `${url}/test${place}`;
    const types = ['deb', 'deb-src'];
    // The server is another process, so that waiting for apt keeps nobody from answering.
    const apt = privateApt(
      root,
      'amd64',
      types.map((type) => `${type} [signed-by=${key.keyring} by-hash=force] ${base} stable main`),
    );
    expect(apt.run(['update'])).not.toContain('Err:');
    apt.run(['download', 'hello']);
    expect(readdirSync(root)).toContain(`hello_${version}_amd64.deb`);
    apt.run(['source', '--download-only', 'tool']);
    expect(readdirSync(root)).toContain('tool_1.0.dsc');
  });
});

test('the difference of a snapshot and what is published', async () => {
  const { status, result } = await site.relive(['mirror', 'snapshot', 'diff', 'test', 'first']);
  const changes = result['changes'] as { kind: string; package: string; before: string[]; after: string[] }[];
  expect([
    status,
    changes.map(({ kind, package: name, before, after }) => [kind, name, ...before, ...after]),
  ]).toEqual([
    1,
    [
      ['added', 'fresh', '1.0'],
      ['upgraded', 'hello', '1.0', '2.0'],
      ['removed', 'other', '1.0'],
    ],
  ]);
  expect((await site.relive(['mirror', 'snapshot', 'diff', 'test', 'first', 'first'])).status).toBe(0);
});

test('a snapshot that is there already, or is not, is said', async () => {
  expect((await site.relive(['mirror', 'snapshot', 'create', 'test', 'first'])).result).toMatchObject({
    code: 'exists',
  });
  expect((await site.relive(['mirror', 'snapshot', 'remove', 'test', 'none'])).result).toMatchObject({
    code: 'not-found',
    hint: 'it has: first',
  });
  expect((await site.relive(['mirror', 'snapshot', 'create', 'test', '../x'])).status).toBe(2);
});

async function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return await fetch(`${url}${path}`, { headers });
}

describe('serve', () => {
  const release = '/test/dists/stable/InRelease';

  test('answers ranges and conditional requests', async () => {
    const whole = await get(release);
    const body = Buffer.from(await whole.arrayBuffer());
    expect(body.equals(site.read('test/dists/stable/InRelease'))).toBe(true);
    const etag = whole.headers.get('etag') ?? '';
    expect((await get(release, { 'if-none-match': etag })).status).toBe(304);
    const since = whole.headers.get('last-modified') ?? '';
    expect((await get(release, { 'if-modified-since': since })).status).toBe(304);
    const part = await get(release, { range: 'bytes=10-19' });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes 10-19/${body.length}`]);
    expect(Buffer.from(await part.arrayBuffer())).toEqual(body.subarray(10, 20));
    const tail = await get(release, { range: 'bytes=-5' });
    expect(Buffer.from(await tail.arrayBuffer())).toEqual(body.subarray(-5));
    expect((await get(release, { range: `bytes=${body.length}-` })).status).toBe(416);
    const stale = await get(release, { range: 'bytes=10-19', 'if-range': '"another"' });
    expect(stale.status).toBe(200);
  });

  test('shows no directory, nothing hidden, and nothing outside', async () => {
    symlinkSync('/etc', site.at('test/pool/etc'));
    symlinkSync('/etc/passwd', site.at('test/pool/passwd'));
    mkdirSync(site.at('second/pool'), { recursive: true });
    writeFileSync(site.at('second/pool/x.deb'), 'x');
    symlinkSync('../../second/pool', site.at('test/pool/second'));
    const refused = [
      ...[
        '/',
        '/test',
        '/test/',
        '/test/pool/',
        '/test/dists/.suites/',
        '/.relive/.lock',
        '/.relive/test/verified',
      ],
      ...['/test/pool/etc/passwd', '/test/pool/passwd', '/test/pool/second/x.deb', '/test/none'],
      ...['/test/..%2f..%2frelive.yaml', '/test/%2e%2e/%2e%2e/relive.yaml', '/test/pool%00', '/%'],
    ];
    for (const path of refused) expect([path, (await get(path)).status]).toEqual([path, 404]);
    expect((await fetch(`${url}${release}`, { method: 'POST' })).status).toBe(405);
    expect((await fetch(`${url}${release}`, { method: 'HEAD' })).status).toBe(200);
    for (const name of ['etc', 'passwd', 'second']) rmSync(site.at(`test/pool/${name}`));
  });

  test('an address that is taken is said', async () => {
    const { result } = await site.relive(['mirror', 'serve', '--listen', url.replace('http://', '')]);
    expect(result).toMatchObject({ code: 'host-unable' });
  });
});

describe('with the real archive', () => {
  const essential =
    'base-files base-passwd bash bsdutils coreutils dash debianutils diffutils dpkg findutils grep';
  const more = 'gzip hostname init-system-helpers libc-bin login ncurses-base ncurses-bin perl-base sed';
  const needed = 'sysvinit-utils tar util-linux apt debian-archive-keyring mount passwd tzdata';
  let real: MirrorSite;
  let cache: string;
  let offer: Serving;

  beforeAll(async () => {
    // The mirror is kept between runs.
    cache = cacheDirectory('mirror-clients');
    real = mirrorSite(key, '');
    symlinkSync(cache, join(real.directory, 'mirror'));
    real.configure({
      debian: {
        url: [hostArchive()],
        suites: ['trixie'],
        signedBy: debianKeyring,
        select: 'filters',
        filters: { priorities: ['required'], closureOf: `${essential} ${more} ${needed}`.split(' ') },
      },
    });
    await real.good(['mirror', 'sync']);
    await real.relive(['mirror', 'snapshot', 'remove', 'debian', 'frozen']);
    await real.good(['mirror', 'snapshot', 'create', 'debian', 'frozen']);
    offer = await serve(real);
  });
  afterAll(async () => {
    await offer.stop();
    await real.relive(['mirror', 'snapshot', 'remove', 'debian', 'frozen']);
    rmSync(join(real.directory, 'mirror'));
    real.remove();
  });

  // mmdebstrap runs apt inside the new system, where a file: address leads nowhere: its own documentation says copy:.
  test.each([
    // What is done with packages once they are fetched is not the mirror's, and takes long.
    ['mmdebstrap', 'http', 'debian', slowTests ? 'apt' : 'extract'],
    ['mmdebstrap', 'copy', 'debian/snapshots/frozen', 'extract'],
    ['debootstrap', 'http', 'debian/snapshots/frozen', 'minbase'],
    // It takes the same files as by http.
    ...(slowTests ? [['debootstrap', 'file', 'debian', 'minbase'] as const] : []),
  ] as const)('%s by %s makes a system from %s (variant %s)', async (tool, method, path, variant) => {
    const root = join(scratch, `${tool}-${method}`);
    const place = method === 'http' ? `${offer.url}/${path}` : `${method}://${cache}/${path}`;
    const args =
      tool === 'mmdebstrap'
        ? ['--mode=root', `--variant=${variant}`, '--format=directory', '--include=dpkg,apt']
        : [`--variant=${variant}`, '--foreign'];
    await promisify(execFile)(tool, [...args, `--keyring=${debianKeyring}`, 'trixie', root, place], {
      env: { PATH: process.env['PATH'] },
      maxBuffer: 64 * 1024 * 1024,
    });
    expect(existsSync(join(root, 'usr/bin/dpkg'))).toBe(true);
    rmSync(root, { recursive: true, force: true });
  });
});
