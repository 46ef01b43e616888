import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Transport } from '../../../src/host/download.ts';
import {
  type FetchedPool,
  type FetchPoolOptions,
  fetchPool,
  type PoolFile,
} from '../../../src/mirror/pool.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';

let mirror: string;
let server: TestServer;
let transport: Transport;

beforeEach(async () => {
  mirror = mkdtempSync(join(tmpdir(), 'relive-test-pool-'));
  server = await startServer();
  transport = new Transport({ pauseSeconds: 0.01, rounds: 2 });
});
afterEach(async () => {
  await transport.close();
  await server.close();
  rmSync(mirror, { recursive: true, force: true });
});

function offer(path: string, text: string): PoolFile {
  const content = Buffer.from(text);
  server.files.set(path, content);
  return { path, size: content.length, sha256: createHash('sha256').update(content).digest('hex') };
}

function local(path: string): string {
  return join(mirror, 'test', path);
}

async function fetch(files: readonly PoolFile[], options: FetchPoolOptions = {}): Promise<FetchedPool> {
  const repository = { name: 'test', url: [server.url] };
  return await fetchPool(mirror, repository, files, { transport, ...options }, recordingContext());
}

test('brings what is missing, and only that', async () => {
  const a = offer('pool/a/a+b_1%3a2~rc_amd64.deb', 'first');
  const b = offer('pool/b/b.deb', 'second');
  expect(await fetch([a, a])).toEqual({ downloaded: 1, bytes: 5 });
  expect(await fetch([a, b])).toEqual({ downloaded: 1, bytes: 6 });
  expect(await fetch([a, b])).toEqual({ downloaded: 0, bytes: 0 });
  expect(server.requests.map(({ path }) => path)).toEqual([a.path, b.path]);
  expect(readFileSync(local(a.path), 'utf8')).toBe('first');
});

/** Whoever reads a file adds to the record. */
function record(): number {
  return statSync(join(mirror, '.relive/test/verified')).size;
}

test('a file that looks as it did when it was verified is not read again; one that was touched is', async () => {
  const a = offer('pool/a.deb', 'first');
  await fetch([a]);
  const before = record();
  expect(await fetch([a])).toEqual({ downloaded: 0, bytes: 0 });
  expect(record()).toBe(before);
  const then = new Date('2026-01-01T00:00:00Z');
  utimesSync(local(a.path), then, then);
  expect(await fetch([a])).toEqual({ downloaded: 0, bytes: 0 });
  expect(record()).toBeGreaterThan(before);
  // The time of the last change of an inode cannot be set back: what hides its modification does not pass.
  writeFileSync(local(a.path), 'FIRST');
  utimesSync(local(a.path), then, then);
  expect(await fetch([a])).toEqual({ downloaded: 1, bytes: 5 });
});

test('a file that somebody else put there is read, and kept when it is right', async () => {
  const a = offer('pool/a.deb', 'first');
  await fetch([offer('pool/b.deb', 'x')]);
  writeFileSync(local(a.path), 'first');
  server.requests.length = 0;
  expect(await fetch([a])).toEqual({ downloaded: 0, bytes: 0 });
  expect(server.requests).toEqual([]);
});

test.each([
  ['changed', 'FIRST'],
  ['truncated', 'fir'],
  ['emptied', ''],
])('a %s file is replaced', async (_what, damage) => {
  const a = offer('pool/a.deb', 'first');
  await fetch([a]);
  writeFileSync(local(a.path), damage);
  expect(await fetch([a])).toMatchObject({ downloaded: 1 });
  expect(readFileSync(local(a.path), 'utf8')).toBe('first');
});

test('one that upstream lacks is named; the others are there', async () => {
  const a = offer('pool/a.deb', 'first');
  const gone = { ...offer('pool/gone.deb', 'gone'), path: 'pool/lost.deb' };
  await expect(fetch([gone, a])).rejects.toMatchObject(errorLike('download-failed', 'pool/lost.deb'));
  expect(readFileSync(local(a.path), 'utf8')).toBe('first');
  const wrong = offer('pool/wrong.deb', 'right');
  server.files.set('pool/wrong.deb', Buffer.from('wrong'));
  await expect(fetch([gone, wrong])).rejects.toThrow(
    /2 files of test cannot be fetched[^]*lost\.deb[^]*wrong\.deb/,
  );
  expect(existsSync(local('pool/wrong.deb'))).toBe(false);
});

test('one path with two contents is refused', async () => {
  const a = offer('pool/a.deb', 'first');
  await expect(fetch([a, { ...a, sha256: '0'.repeat(64) }])).rejects.toMatchObject({ code: 'corrupt' });
});

test.each([
  '../../etc/cron.d/x',
  '/etc/passwd',
  'dists/stable/InRelease',
  'snapshots/x',
  '.relive/x',
  'pool/.part-x',
])('the path %s is refused before anything is asked for', async (path) => {
  await expect(fetch([{ ...offer(path, 'evil'), path }])).rejects.toMatchObject({ code: 'unsafe-path' });
  expect(server.requests).toEqual([]);
  expect(existsSync(join(mirror, dirname(path), 'x'))).toBe(false);
});

test('offline it says what is missing', async () => {
  const a = offer('pool/a.deb', 'first');
  await expect(fetch([a], { offline: true })).rejects.toMatchObject(errorLike('no-network', 'pool/a.deb'));
  await fetch([a]);
  expect(await fetch([a], { offline: true })).toEqual({ downloaded: 0, bytes: 0 });
});

test('what cannot fit is refused before it is fetched', async () => {
  const a = { ...offer('pool/a.deb', 'first'), size: 1e15 };
  await expect(fetch([a])).rejects.toMatchObject({ code: 'disk-full' });
  expect(server.requests).toEqual([]);
});
