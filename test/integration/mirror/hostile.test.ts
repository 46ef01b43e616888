import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ArchiveOptions, hashOf, makeDeb, publishArchive, writeTree } from '../../fixtures/archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { startRelive } from '../../fixtures/relive.ts';
import { type RsyncDaemon, startRsync } from '../../fixtures/rsync-daemon.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { slowTests } from '../../support.ts';

let key: SigningKey;
let server: TestServer;
let site: MirrorSite;
const hello = 'pool/main/h/hello/hello_1.0_amd64.deb';
const old = new Date(Date.now() - 7_200_000);

beforeAll(() => {
  key = makeSigningKey();
});
afterAll(() => key.remove());
beforeEach(async () => {
  server = await startServer();
  site = mirrorSite(key, server.url);
  publishArchive(server.files, 'stable', key, { date: old });
});
afterEach(async () => {
  await server.close();
  site.remove();
});

function publish(options: ArchiveOptions = {}): void {
  publishArchive(server.files, 'stable', key, { date: new Date(Date.now() - 60_000), ...options });
}

/** What is published, byte for byte: signed file and index. */
function published(): string {
  const index = 'test/dists/stable/main/binary-amd64/Packages.xz';
  return hashOf(Buffer.concat([site.read('test/dists/stable/InRelease'), site.read(index)]));
}

function text(path: string): string {
  return server.files.get(path)?.toString() ?? '';
}

describe('what is published stays, and stays whole, when upstream', () => {
  const signed = 'dists/stable/InRelease';
  const evil: readonly [string, () => void, string][] = [
    [
      'names a path that leads out',
      () => publish({ editIndex: (index) => index.replace(hello, '../../etc/cron.d/x') }),
      'unsafe-path',
    ],
    [
      "names a path in relive's own directories",
      () => publish({ editIndex: (index) => index.replace(hello, '.relive/test/verified') }),
      'unsafe-path',
    ],
    [
      'names the index as a package',
      () => publish({ editIndex: (index) => index.replace(hello, 'dists/stable/InRelease') }),
      'unsafe-path',
    ],
    [
      'lists one path with two contents',
      () =>
        publish({
          debs: [makeDeb({ name: 'hello' }), makeDeb({ name: 'hello', size: 900 })],
        }),
      'corrupt',
    ],
    [
      'serves a compressed bomb as index',
      () =>
        publish({
          edit: (release) =>
            release.replace(/ \S+ \d+ (main\/binary-amd64\/Packages)\n/, ` ${'0'.repeat(64)} 10 $1\n`),
        }),
      'corrupt',
    ],
    ['serves an old InRelease', () => publish({ date: new Date(Date.now() - 9_000_000) }), 'not-authentic'],
    [
      'strips the signature',
      () => {
        publish();
        const body = text(signed);
        server.files.delete(signed);
        server.files.set(
          'dists/stable/Release',
          Buffer.from(body.slice(body.indexOf('\n\n') + 2, body.indexOf('-----BEGIN PGP SIG'))),
        );
      },
      'not-authentic',
    ],
    [
      'adds text around the signed part',
      () => {
        publish();
        server.files.set(signed, Buffer.from(`Origin: Evil\n${text(signed)}`));
      },
      'not-authentic',
    ],
    [
      'calls itself something else',
      () => publish({ edit: (release) => release.replace('Label: Test', 'Label: Other') }),
      'not-authentic',
    ],
    [
      'has an index of another generation',
      () => {
        publish({ debs: [makeDeb({ name: 'other' })], byHash: false });
        server.files.set('dists/stable/main/binary-amd64/Packages.xz', Buffer.from('another'));
        server.files.set('dists/stable/main/binary-amd64/Packages.gz', Buffer.from('another'));
      },
      'download-failed',
    ],
    [
      'serves a package with other content',
      () => {
        publish({ debs: [makeDeb({ name: 'other' })] });
        const path = 'pool/main/o/other/other_1.0_amd64.deb';
        server.files.set(path, Buffer.alloc(server.files.get(path)?.length ?? 0));
      },
      'download-failed',
    ],
    [
      'lists its files with MD5 only',
      () => publish({ edit: (release) => release.replace('SHA256:', 'MD5Sum:') }),
      'corrupt',
    ],
  ];
  test.each(evil)('%s', async (_what, change, code) => {
    await site.good(['mirror', 'sync']);
    const before = published();
    change();
    const { status, result } = await site.relive(['mirror', 'sync']);
    expect([status, result['code']]).toEqual([3, code]);
    expect(published()).toBe(before);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    expect(existsSync(join(site.directory, 'etc'))).toBe(false);
    // The next good state is taken.
    publishArchive(server.files, 'stable', key, { debs: [makeDeb({ name: 'next' })], date: new Date() });
    for (const path of ['dists/stable/Release', 'dists/stable/Release.gpg']) server.files.delete(path);
    await site.good(['mirror', 'sync']);
    expect(site.has('test/pool/main/n/next/next_1.0_amd64.deb')).toBe(true);
  });
});

describe('a server that', () => {
  const big = makeDeb({ name: 'big', size: 300_000 });
  const path = 'pool/main/b/big/big_1.0_amd64.deb';
  const content = Buffer.concat([big.content, Buffer.alloc(900_000, 7)]);
  const misdeeds: readonly [string, (response: ServerResponse, request: IncomingMessage) => void][] = [
    [
      'serves half a file',
      (response) => {
        response.writeHead(200, { 'content-length': content.length });
        response.write(content.subarray(0, 500_000), () => response.socket?.end());
      },
    ],
    ['answers 500', (response) => response.writeHead(500).end()],
    ['answers 416', (response) => response.writeHead(416).end()],
    [
      'lies about the length',
      (response) => response.writeHead(200, { 'content-length': 10 }).end('0123456789'),
    ],
    [
      'redirects in a circle once',
      (response, request) => response.writeHead(302, { location: request.url ?? '' }).end(),
    ],
    ['ends a chunked answer early', (response) => response.writeHead(200).end(content.subarray(0, 100))],
  ];
  test.each(misdeeds)('%s at first does not hold up the sync', async (_what, misdeed) => {
    publish({ debs: [{ ...big, content }] });
    let times = 0;
    server.fault = (request, response) => {
      if (!request.url?.endsWith('big_1.0_amd64.deb')) return false;
      times += 1;
      if (times > 1) return false;
      misdeed(response, request);
      return true;
    };
    await site.good(['mirror', 'sync']);
    expect(site.read(`test/${path}`).equals(content)).toBe(true);
  });
});

test('an upstream that changes while it is read is begun anew, and published as one state', async () => {
  publish({ debs: [makeDeb({ name: 'first' })] });
  let changed = false;
  server.fault = (request) => {
    if (changed || !request.url?.endsWith('.deb')) return false;
    changed = true;
    server.files.delete('pool/main/f/first/first_1.0_amd64.deb');
    publishArchive(server.files, 'stable', key, { debs: [makeDeb({ name: 'second' })], date: new Date() });
    return false;
  };
  const { stdout } = await site.good(['mirror', 'sync']);
  expect(stdout).toContain('begun anew');
  expect(site.has('test/pool/main/s/second/second_1.0_amd64.deb')).toBe(true);
  expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
});

describe('symbolic links of an upstream', () => {
  let daemon: RsyncDaemon | undefined;
  afterEach(async () => {
    await daemon?.stop();
    daemon = undefined;
  });

  test('by rsync are no way to files of the mirror', async () => {
    const upstream = join(site.directory, 'upstream');
    writeTree(upstream, server.files);
    const secret = join(site.directory, 'secret');
    writeFileSync(secret, 'private');
    symlinkSync(secret, join(upstream, 'pool/main/link.deb'));
    daemon = await startRsync(upstream);
    site.configure({ test: { url: [daemon.url] } });
    await site.good(['mirror', 'sync']);
    const there = readdirSync(site.at('test'), { recursive: true, encoding: 'utf8' });
    expect(there.some((name) => name.endsWith('link.deb'))).toBe(false);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });

  test('that somebody put into the pool are not written through', async () => {
    await site.good(['mirror', 'sync']);
    const outside = join(site.directory, 'outside');
    writeFileSync(outside, 'precious');
    const next = makeDeb({ name: 'hello', version: '2.0' });
    symlinkSync(outside, site.at('test/pool/main/h/hello/hello_2.0_amd64.deb'));
    publish({ debs: [next] });
    await site.good(['mirror', 'sync']);
    expect(readFileSync(outside, 'utf8')).toBe('precious');
    expect(site.read('test/pool/main/h/hello/hello_2.0_amd64.deb').equals(next.content)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  });
});

describe('SIGKILL', () => {
  const states = Array.from({ length: 4 }, (_, state) =>
    Array.from({ length: 8 }, (_unused, number) => makeDeb({ name: `p${state}${number}`, size: 2000 })),
  );

  /** Whether a client that comes now finds a whole suite: the index is the signed one, every package is there. */
  function isWhole(): boolean {
    const release = site.read('test/dists/stable/InRelease').toString();
    const index = site.read('test/dists/stable/main/binary-amd64/Packages.gz');
    if (!release.includes(hashOf(index))) return false;
    const state = states.find(
      (debs) => server.files.get(`state ${hashOf(index)}`)?.toString() === debs[0]?.name,
    );
    return (
      (state ?? []).length === 8 &&
      (state ?? []).every(({ name, content }) => {
        return site.read(`test/pool/main/p/${name}/${name}_1.0_amd64.deb`).equals(content);
      })
    );
  }

  const turns = slowTests ? 100 : 40;
  test(`at ${turns} random points: the published suite is whole each time, the next run finishes`, async () => {
    let date = Date.now() - 3_600_000;
    const next = (turn: number): void => {
      date += 1000;
      const debs = states[turn % states.length] ?? [];
      publishArchive(server.files, 'stable', key, { debs, date: new Date(date), serve: ['.gz'] });
      const index = server.files.get('dists/stable/main/binary-amd64/Packages.gz') ?? Buffer.alloc(0);
      server.files.set(`state ${hashOf(index)}`, Buffer.from(debs[0]?.name ?? ''));
    };
    next(0);
    const begun = performance.now();
    await site.good(['mirror', 'sync']);
    const whole = performance.now() - begun;
    let killed = 0;
    for (let turn = 0; turn < turns; turn += 1) {
      if (turn % 3 === 0) next(turn);
      const child = startRelive(site.directory, ['mirror', 'sync', '--quiet']);
      child.stdout?.resume();
      child.stderr?.resume();
      const ended = once(child, 'exit');
      // From before it has read its configuration until after it is done.
      const timer = delay(Math.random() * whole * 0.9);
      await Promise.race([timer, ended]);
      if (child.exitCode === null && child.kill('SIGKILL')) killed += 1;
      await ended;
      expect([turn, isWhole()]).toEqual([turn, true]);
    }
    expect(killed).toBeGreaterThan(turns / 4);
    next(1);
    await site.good(['mirror', 'sync']);
    expect(isWhole()).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    // Nothing is left of the runs that were cut off.
    const left = readdirSync(site.at('test'), { recursive: true, encoding: 'utf8' });
    expect(left.filter((name) => /\.(?:part|tmp)-|\.incoming/.test(name))).toEqual([]);
    expect(readdirSync(site.at('test/dists/.suites'))).toHaveLength(1);
  });
});
