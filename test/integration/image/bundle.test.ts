import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { addSealedImage, makeSealedSite, removeSealedSite, type SealedSite } from '../../fixtures/sealed.ts';
import { cli } from '../../support.ts';

const first = 'tiny-20261122.01';
const second = 'tiny-20261122.02';
const megabyte = 1024 * 1024;

let near: SealedSite;
let far: SealedSite;
let bundle: string;

beforeAll(async () => {
  near = await makeSealedSite();
  const base = { role: 'base', content: randomBytes(8 * megabyte) } as const;
  const kernel = { role: 'kernel', content: randomBytes(4 * megabyte) } as const;
  await addSealedImage(near, { version: '20261122.01', layers: [base, kernel] });
  const delta = { role: 'delta', content: randomBytes(megabyte) } as const;
  await addSealedImage(near, { version: '20261122.02', layers: [base, kernel, delta] });
  bundle = join(near.directory, 'whole.bundle');
  await succeed(['image', 'export', first, '--bundle', bundle], { site: near.directory });
});
afterAll(() => removeSealedSite(near));
beforeEach(async () => {
  far = await makeSealedSite(near);
});
afterEach(() => removeSealedSite(far));

const atFar = (...words: readonly string[]) => runCommand(['image', ...words], { site: far.directory });

async function expectWhole(...names: readonly string[]): Promise<void> {
  const { status, last } = await atFar('verify');
  expect([status, last?.['images']]).toEqual([0, Object.fromEntries(names.map((name) => [name, 0]))]);
}

test('from one site to another through a pipe, only what is new', async () => {
  expect(await atFar('import', bundle)).toMatchObject({
    status: 0,
    last: { image: first, unchanged: false },
  });
  const command =
    'node "$0" image export tiny --bundle - --since "$1" --site "$2" | node "$0" image import - --json --site "$3"';
  const words = [cli, first, near.directory, far.directory];
  const { stdout } = await promisify(execFile)('bash', ['-o', 'pipefail', '-c', command, ...words]);
  const last = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { bytes: number; image: string };
  expect(last.image).toBe(second);
  expect(last.bytes).toBeLessThan(1.1 * megabyte);
  await expectWhole(first, second);
  expect(await atFar('import', bundle)).toMatchObject({ last: { unchanged: true } });
  expect(statSync(join(far.store, 'images/tiny/20261122.02/vmlinuz')).mode & 0o777).toBe(0o644);
});

test('the plan tells what is missing and writes nothing', async () => {
  const since = join(near.directory, 'since.bundle');
  await succeed(['image', 'export', second, '--bundle', since, '--since', first], { site: near.directory });
  expect(await atFar('import', since, '--plan')).toMatchObject({ status: 2, last: { code: 'not-found' } });
  const { last } = await atFar('import', bundle, '--plan');
  expect(last).toMatchObject({
    plan: { image: first, standing: 'new', layers: [{ from: 'bundle' }, { from: 'bundle' }] },
  });
  expect(existsSync(join(far.store, 'images'))).toBe(false);
});

test('wrong usage', async () => {
  const at = { site: near.directory };
  const exported = async (...words: readonly string[]) =>
    (await runCommand(['image', 'export', second, ...words], at)).last?.['code'];
  expect(await exported('--bundle', '-')).toBe('usage');
  expect(await exported('--tar', join(near.directory, 'x'), '--since', first)).toBe('usage');
  expect(await exported('--bundle', join(near.directory, 'x'), '--since', second)).toBe('usage');
  expect(await exported('--bundle', join(near.directory, 'none/x'))).toBe('usage');
  expect((await atFar('import', join(far.directory, 'none'))).last).toMatchObject({ code: 'not-found' });
});

describe('an import that is cut off', () => {
  test('by SIGKILL goes on where it was', async () => {
    // A pipe that stops within the second layer.
    const whole = readFileSync(bundle);
    const cut = whole.indexOf('.verity\0') + 1024 * 1024;
    const child = spawn(process.execPath, [cli, 'image', 'import', '-', '--json', '--site', far.directory], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.on('error', () => undefined);
    const ended = new Promise((done) => child.once('close', done));
    child.stdin.write(whole.subarray(0, cut));
    await new Promise<void>((done) => {
      child.stdout.on('data', (text: Buffer) => {
        // The second layer has begun: the first one has its name.
        const items = text.toString().matchAll(/"item":"live\/([0-9a-f]+)\.squashfs"/g);
        const seen = [...items].map(([, name]) => name);
        if (
          seen.some(
            (name) => !whole.subarray(0, whole.indexOf('.verity\0')).includes(`live/${name}.squashfs\0`),
          )
        )
          done();
      });
    });
    child.kill('SIGKILL');
    await ended;
    expect(existsSync(join(far.store, 'images/tiny'))).toBe(false);
    expect(await atFar('import', bundle, '--plan')).toMatchObject({
      last: { plan: { layers: [{ from: 'received' }, { from: 'bundle' }] } },
    });
    expect(await atFar('import', bundle)).toMatchObject({ status: 0 });
    await expectWhole(first);
    expect(existsSync(join(far.store, '.tmp'))).toBe(false);
  });

  test('by an interrupt while it waits for a pipe', async () => {
    const child = spawn(process.execPath, [cli, 'image', 'import', '-', '--json', '--site', far.directory], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.stdin.on('error', () => undefined);
    const ended = new Promise<number | null>((done) => child.once('close', done));
    const begun = new Promise((done) => child.stdout.once('data', done));
    await pipeline(createReadStream(bundle, { end: 2 * megabyte }), child.stdin, { end: false });
    await begun;
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(await atFar('import', bundle)).toMatchObject({ status: 0 });
    await expectWhole(first);
  });

  test('by a disk that is too small, before it has begun', async () => {
    const { status, last } = await runCommand(['image', 'import', bundle], {
      site: far.directory,
      through: [
        ...['unshare', '--mount', '--propagation', 'private', 'sh', '-ec'],
        'mount -t tmpfs -o size=4m tmpfs "$0/store"; exec "$@"',
        far.directory,
      ],
    });
    expect([status, last?.['code']]).toEqual([3, 'disk-full']);
    expect(last?.['message']).toContain('the import needs');
  });

  test('by a disk that others fill meanwhile', async () => {
    // Room enough at first, and none any more when it has begun to receive.
    const script = `mount -t tmpfs -o size=40m tmpfs "$0/store"
      (until [ -d "$0/store/.tmp/import" ]; do sleep 0.02; done; head -c 100m /dev/zero >"$0/store/filler" 2>/dev/null) &
      { head -c 1000000 "$1"; until [ -s "$0/store/filler" ]; do sleep 0.02; done; sleep 1; tail -c +1000001 "$1"; } |
        "$2" "$3" image import - --json --site "$0" || status=$?
      ls "$0/store/images" 2>/dev/null && exit 99
      rm "$0/store/filler"
      "$2" "$3" image import "$1" --json --site "$0" >/dev/null && "$2" "$3" image verify --site "$0" >/dev/null && exit "$status"`;
    const words = [far.directory, bundle, process.execPath, cli];
    const child = spawn('unshare', ['--mount', '--propagation', 'private', 'bash', '-c', script, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let told = '';
    child.stdout.on('data', (text: Buffer) => {
      told += text.toString();
    });
    const status = await new Promise<number | null>((done) => child.once('close', done));
    expect(JSON.parse(told.trim().split('\n').at(-1) ?? '')).toMatchObject({
      event: 'error',
      code: 'disk-full',
    });
    expect(status).toBe(3);
  });
});

test('a layer that is on the store’s disk is not believed by its name', async () => {
  await atFar('import', bundle);
  const { last } = await runCommand(['image', 'show', first], { site: far.directory });
  const { manifest } = last as unknown as { manifest: { layers: { digest: string }[] } };
  const file = join(far.store, 'live', `${manifest.layers[0]?.digest.slice(0, 16)}.squashfs`);
  const content = readFileSync(file);
  content.writeUInt8(content.readUInt8(77) ^ 1, 77);
  writeFileSync(file, content);
  const since = join(near.directory, 'since2.bundle');
  await succeed(['image', 'export', second, '--bundle', since, '--since', first], { site: near.directory });
  expect(await atFar('import', since)).toMatchObject({
    status: 2,
    last: { code: 'not-found', message: expect.stringContaining('damaged in the store') },
  });
  expect(await atFar('import', bundle)).toMatchObject({ status: 0, last: { standing: 'damaged' } });
  expect(await atFar('import', since)).toMatchObject({ status: 0 });
  await expectWhole(first, second);
});
