import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { isReliveError } from '../../src/core/error.ts';
import { readChannel, requireCurrent } from '../../src/image/channel.ts';
import type { BootManifest } from '../../src/image/manifest.ts';
import { layerFile } from '../../src/image/manifest.ts';
import { type StoredImage, storePaths } from '../../src/image/store.ts';
import { type Pulled, type PullOptions, pullImage } from '../../src/live/pull.ts';
import {
  type CommandEnd,
  type RunningCommand,
  runCommand,
  startCommand,
  succeed,
} from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { addTinyImage } from '../fixtures/tiny-store.ts';
import { repository } from '../support.ts';

let top: string;
let site: { readonly directory: string; readonly store: string; readonly keys: string };
let serving: RunningCommand;
let url: string;
let first: { readonly image: StoredImage; readonly manifest: BootManifest };
let second: typeof first;
const base = randomBytes(300_000);
/** Of both images. */
const initrd = randomBytes(200_000);

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'relive-test-serve-'));
  const directory = join(top, 'site');
  await succeed(['init', directory]);
  await succeed(['keys', 'create'], { site: directory });
  site = { directory, store: join(directory, 'store'), keys: join(directory, 'keys') };
  first = await addTinyImage(site, 'demo-20261101.01', [base], initrd);
  second = await addTinyImage(site, 'demo-20261102.01', [base, randomBytes(100_000)], initrd);
  // A link that leads out of the store, under a name that is published.
  symlinkSync('/etc/hostname', join(site.store, 'live', `${'f'.repeat(16)}.squashfs`));
  mkdirSync(join(directory, 'mirror/debian/dists'), { recursive: true });
  writeFileSync(join(directory, 'mirror/debian/dists/Release'), 'a release\n');
  serving = startCommand(['serve', '--listen', '127.0.0.1:0'], { site: directory });
  const line = await serving.line(({ message }) => String(message).startsWith('the store is at '));
  url = String(line?.['message']).replace('the store is at ', '');
});
afterAll(async () => {
  serving.child.kill('SIGTERM');
  await serving.ended;
  rmSync(top, { recursive: true, force: true });
});

/** What the server answers to a path, which goes out as it is. */
async function get(
  path: string,
  headers: Record<string, string> = {},
): Promise<{ readonly status: number; readonly body: Buffer }> {
  const { port } = new URL(url);
  const asked = request({ host: '127.0.0.1', port, path, headers });
  asked.end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return { status: answer.statusCode ?? 0, body: Buffer.concat(chunks) };
}

describe('relive serve', () => {
  test('offers images, layers and mirrors, in parts too, and tells of each answer', async () => {
    const { body } = await get('/store/images.json');
    expect(JSON.parse(body.toString())).toEqual({ schema: 1, images: [second.image.name, first.image.name] });
    const layer = `/store/live/${layerFile(first.manifest.layers[0] ?? { digest: '' })}`;
    expect((await get(layer)).body.equals(base)).toBe(true);
    const part = await get(layer, { range: 'bytes=100-199' });
    expect(part).toMatchObject({ status: 206 });
    expect(part.body.equals(base.subarray(100, 200))).toBe(true);
    expect(await get('/store/images/demo/20261101.01/manifest.json.sig')).toMatchObject({ status: 200 });
    expect((await get('/mirror/debian/dists/Release')).body.toString()).toBe('a release\n');
    const told = await serving.line(
      ({ source, message }) =>
        source === 'access' && / GET \/store\/live\/\w+\.squashfs 206 /.test(String(message)),
    );
    expect(told).toBeDefined();
  });

  test.each([
    '/',
    '/store',
    '/store/',
    '/store/live',
    '/store/.lock',
    '/store/.tmp/x',
    '/store/../keys/public.asc',
    '/store/live/../../relive.yaml',
    '/store/live/%2e%2e/%2e%2e/relive.yaml',
    '/store/live/..%2f..%2frelive.yaml',
    `/store/live/${'f'.repeat(16)}.squashfs`,
    '/store/images/demo/20261101.01',
    '/store/images/demo/20261101.01/..%2fmanifest.json',
    '/store/pins/demo',
    '/mirror/debian',
    '/mirror/../relive.yaml',
    '/relive.yaml',
    '/keys/public.asc',
  ])('refuses %s', async (path) => {
    expect((await get(path)).status).toBe(404);
  });

  test('needs a store or a mirror', async () => {
    const directory = join(top, 'empty');
    await succeed(['init', directory]);
    expect(await runCommand(['serve', '--listen', '127.0.0.1:0'], { site: directory })).toMatchObject({
      status: 2,
      last: { code: 'not-found' },
    });
  });
});

/** The file of the channel stable. */
const channelFile = (): string => join(site.store, 'channels/demo/stable.asc');

describe('pull', () => {
  let target: string;
  beforeEach(() => {
    target = mkdtempSync(join(top, 'target-'));
  });

  async function pull(
    wanted: PullOptions['wanted'],
    from = url,
    options: Partial<PullOptions> = {},
  ): Promise<Pulled> {
    return await pullImage(
      {
        from,
        wanted,
        keys: join(site.keys, 'public.asc'),
        architecture: 'amd64',
        target: { store: target, inRam: false, release: async () => undefined },
        at: [],
        ...options,
      },
      recordingContext(),
    );
  }

  /** The code of the error that a pull ends with; the image must not have appeared. */
  async function failure(pulling: Promise<Pulled>): Promise<string> {
    const error: unknown = await pulling.then(
      () => new Error('it did not fail'),
      (reason: unknown) => reason,
    );
    if (existsSync(join(target, 'images'))) return 'an image has appeared';
    return isReliveError(error) ? `${error.code}: ${error.message}` : String(error);
  }

  test('brings the newest image of a profile, and of the next one only what is missing', async () => {
    expect(await pull({ by: 'name', name: first.image.name })).toMatchObject({
      layers: { fetched: 1, shared: 0 },
      present: false,
    });
    // What a run has left that was cut off before an image on this machine had the same initrd.
    const staging = join(target, '.pull', second.image.name);
    mkdirSync(staging, { recursive: true });
    writeFileSync(join(staging, `.part-initrd.img-${second.manifest.initrd.digest.slice(0, 16)}`), 'cut off');
    const newest = await pull({ by: 'profile', profile: 'demo' });
    expect(newest).toMatchObject({ image: { name: second.image.name }, layers: { fetched: 1, shared: 1 } });
    expect(newest.bytes).toBeLessThan(150_000);
    // The initrd, which both have, is there once, and did not come again.
    expect(statSync(join(newest.image.directory, 'initrd.img')).nlink).toBe(2);
    expect(await pull({ by: 'profile', profile: 'demo' })).toMatchObject({ present: true, bytes: 0 });
    // It is the same store as on the site, and nothing is left over.
    expect(readdirSync(target).toSorted()).toEqual(['.lock', 'images', 'live']);
    for (const { image } of [first, second]) {
      const own = { ...image, directory: storePaths.image(target, image) };
      expect(readdirSync(own.directory)).toEqual(readdirSync(image.directory));
    }
  });

  test('goes on where it was cut off, and asks for the rest alone', async () => {
    const path = new URL(url).origin;
    let broken = true;
    const ranges: (string | undefined)[] = [];
    // A proxy whose line breaks in the middle of the layer.
    const proxy: Server = createServer((incoming, answer) => {
      void get(
        incoming.url ?? '',
        incoming.headers.range === undefined ? {} : { range: incoming.headers.range },
      ).then(({ status, body }) => {
        if (incoming.url?.endsWith('squashfs') !== true) return answer.writeHead(status).end(body);
        ranges.push(incoming.headers.range);
        const offset = Number(/bytes=(\d+)/.exec(incoming.headers.range ?? '')?.[1] ?? 0);
        answer.writeHead(status, {
          'content-length': body.length,
          ...(status === 206 ? { 'content-range': `bytes ${offset}-${base.length - 1}/${base.length}` } : {}),
        });
        if (!broken) return answer.end(body);
        answer.write(body.subarray(0, 50_000), () => answer.destroy());
        return answer;
      });
    }).listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const address = proxy.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const from = url.replace(path, `http://127.0.0.1:${address.port}`);
    try {
      expect(await failure(pull({ by: 'name', name: first.image.name }, from))).toMatch(/^download-failed/);
      broken = false;
      ranges.length = 0;
      await pull({ by: 'name', name: first.image.name }, from);
      expect(ranges).toHaveLength(1);
      expect(Number(/^bytes=(\d+)-$/.exec(ranges[0] ?? '')?.[1])).toBeGreaterThanOrEqual(50_000);
    } finally {
      proxy.closeAllConnections();
      proxy.close();
    }
  }, 60_000);

  test('a layer that is not what was signed never appears', async () => {
    const file = storePaths.layer(site.store, first.manifest.layers[0] ?? { digest: '' });
    const change = (bytes: Buffer): void => {
      const descriptor = openSync(file, 'r+');
      writeSync(descriptor, bytes, 0, bytes.length, 1000);
      closeSync(descriptor);
    };
    change(Buffer.from('damage'));
    try {
      expect(await failure(pull({ by: 'name', name: first.image.name }))).toMatch(
        /^download-failed.*\n.*SHA256/,
      );
      expect(readdirSync(join(target, 'live')).filter((name) => name.endsWith('.squashfs'))).toEqual([]);
    } finally {
      change(base.subarray(1000, 1006));
    }
  });

  test('another key is not believed', async () => {
    const other = join(top, 'other');
    await succeed(['init', other]);
    await succeed(['keys', 'create'], { site: other });
    const keys = join(other, 'keys/public.asc');
    expect(await failure(pull({ by: 'name', name: first.image.name }, url, { keys }))).toMatch(
      /^not-authentic/,
    );
  });

  test('for another architecture, and one that is not there', async () => {
    const wanted = { by: 'name', name: first.image.name } as const;
    expect(await failure(pull(wanted, url, { architecture: 'arm64' }))).toMatch(/^usage/);
    expect(await failure(pull({ by: 'name', name: 'demo-20200101.01' }))).toMatch(/^not-found/);
    expect(await failure(pull({ by: 'profile', profile: 'nobody' }))).toMatch(/^not-found/);
  });

  test('in RAM, layers that the machine has elsewhere are named and not fetched', async () => {
    const store = { store: target, inRam: true, release: async (): Promise<void> => undefined };
    const options = { target: store, at: [storePaths.layers(site.store)] };
    const pulled = await pull({ by: 'name', name: second.image.name }, url, options);
    expect(pulled).toMatchObject({ layers: { fetched: 0, shared: 2 } });
    // Kernel and initrd are copied from there.
    expect(pulled.bytes).toBeLessThan(initrd.length);
    expect(readFileSync(join(pulled.image.directory, 'initrd.img'))).toEqual(initrd);
    expect(statSync(storePaths.layer(target, second.manifest.layers[0] ?? { digest: '' })).size).toBe(
      base.length,
    );
  });

  describe('by a channel', () => {
    const stable = { by: 'channel', profile: 'demo', channel: 'stable' } as const;

    test('follows it, back to an older image too, but not to an older channel', async () => {
      await succeed(['channel', 'set', 'stable', second.image.name], { site: site.directory });
      const before = readFileSync(channelFile());
      expect(await pull(stable)).toMatchObject({ image: { name: second.image.name } });
      await succeed(['channel', 'set', 'stable', first.image.name], { site: site.directory });
      expect(await pull(stable)).toMatchObject({ image: { name: first.image.name } });
      const current = readFileSync(channelFile());
      writeFileSync(channelFile(), before);
      await expect(pull(stable)).rejects.toMatchObject({ code: 'not-authentic' });
      // What is in a channel stays.
      writeFileSync(channelFile(), current);
      expect(await runCommand(['image', 'remove', first.image.name], { site: site.directory })).toMatchObject(
        {
          status: 2,
          last: { code: 'configuration' },
        },
      );
      const { last } = await succeed(['channel', 'list'], { site: site.directory });
      expect(last).toMatchObject({ channels: [{ channel: 'stable', image: first.image.name }] });
    });

    test('a changed word, another name and another profile are refused', async () => {
      await succeed(['channel', 'set', 'stable', second.image.name], { site: site.directory });
      const good = readFileSync(channelFile(), 'utf8');
      writeFileSync(channelFile(), good.replace(second.image.name, first.image.name));
      expect(await failure(pull(stable))).toMatch(/^not-authentic/);
      writeFileSync(channelFile(), good);
      writeFileSync(join(site.store, 'channels/demo/testing.asc'), good);
      expect(await failure(pull({ ...stable, channel: 'testing' }))).toMatch(/^not-authentic/);
    });

    test('is not believed when it has expired', async () => {
      await succeed(['channel', 'set', 'stable', 'demo', '--days', '1'], { site: site.directory });
      const context = recordingContext();
      const wanted = { profile: 'demo', channel: 'stable' };
      const channel = await readChannel(channelFile(), join(site.keys, 'public.asc'), wanted, context);
      const day = 86_400_000;
      expect(() => requireCurrent(channel, channel.serial, new Date(Date.now() + 0.9 * day))).not.toThrow();
      expect(() => requireCurrent(channel, channel.serial, new Date(Date.now() + 1.1 * day))).toThrow(
        /expired/,
      );
      expect(() => requireCurrent(channel, channel.serial + 1, new Date())).toThrow(/older one/);
    });
  });
});

/**
 * Runs a command where an image seems to have been started: a root that can be written over one layer, and relive's
 * records; a medium where there is the file of one. Nothing is mounted outside.
 */
async function onMachine(
  words: readonly string[],
  medium: string,
  after = '',
  before = '',
): Promise<CommandEnd> {
  const work = mkdtempSync(join(top, 'machine-'));
  for (const name of ['memory', 'records']) mkdirSync(join(work, name));
  const running = join(site.store, 'images/demo/20261101.01/manifest.json');
  writeFileSync(join(work, 'records/manifest.json'), readFileSync(running));
  writeFileSync(join(work, 'records/keys.asc'), readFileSync(join(site.keys, 'public.asc')));
  const script = `set -e
cd ${work}
mount -t tmpfs tmpfs memory
mkdir memory/rw memory/work memory/root
mount -t overlay -o lowerdir=/,upperdir=memory/rw,workdir=memory/work overlay memory/root
root=${work}/memory/root
mount --bind /proc $root/proc
mount --rbind /dev $root/dev
mount -t tmpfs tmpfs $root/run
mount -t tmpfs tmpfs $root/tmp
# It may lie below /tmp.
mkdir -p $root${repository}
mount --bind ${repository} $root${repository}
mkdir -p $root/run/relive $root/run/live/medium $root/etc/relive
cp records/manifest.json $root/run/relive
cp records/keys.asc $root/etc/relive
printf 'from: ${url}\nchannel: stable\n' >$root/etc/relive/live.yaml
if [ -n "${medium}" ]; then
	loop=$(losetup --find --show "${medium}")
	mount -o ro $loop $root/run/live/medium
	# It goes with the last mount.
	losetup --detach $loop
fi
${before}
status=0
chroot $root "$@" || status=$?
${after}
exit $status`;
  const through = ['unshare', '--mount', '--propagation', 'private', '--fork', '--kill-child', '--'];
  return await runCommand(words, { through: [...through, 'sh', '-c', script, 'sh'] });
}

/** A file system with the first image. */
function mediumFile(): string {
  const file = join(mkdtempSync(join(top, 'medium-')), 'store.img');
  const tree = join(top, 'medium-tree');
  rmSync(tree, { recursive: true, force: true });
  for (const part of ['live', 'images'])
    cpSync(join(site.store, part), join(tree, part), { recursive: true });
  rmSync(join(tree, 'images/demo/20261102.01'), { recursive: true });
  rmSync(storePaths.layer(tree, second.manifest.layers[1] ?? { digest: '' }));
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', tree, file, '16M'], { stdio: 'ignore' });
  return file;
}

describe('relive live pull', () => {
  test('fills the medium, which is read-only again afterwards; by the channel of its configuration', async () => {
    await succeed(['channel', 'set', 'stable', second.image.name], { site: site.directory });
    const medium = mediumFile();
    const after = 'grep "/run/live/medium ext4 ro," /proc/mounts >&2';
    const end = await onMachine(['live', 'pull'], medium, after);
    expect(end).toMatchObject({
      status: 0,
      last: {
        image: second.image.name,
        store: '/run/live/medium',
        inRam: false,
        layers: { fetched: 1, shared: 1 },
        channel: 'stable',
        runs: false,
      },
    });
    expect(end.stderr).toContain('/run/live/medium ext4 ro,');
    const listed = execFileSync('debugfs', ['-R', 'ls -p /images/demo/20261102.01', medium], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(listed).toContain('/manifest.json/');
  });

  test('into RAM where there is no medium; a profile goes before the channel', async () => {
    const end = await onMachine(['live', 'pull', 'demo'], '', 'ls $root/run/relive/store/images/demo >&2');
    expect(end).toMatchObject({ status: 0, last: { image: second.image.name, inRam: true } });
    expect(end.stderr).toContain('20261102.01');
  });

  test('to the volume of the profile where that is there, else into RAM', async () => {
    const configured = 'echo "volume: DATA" >>$root/etc/relive/live.yaml; mkdir -p $root/volumes/DATA';
    const volume = `${configured}; mount -t tmpfs tmpfs $root/volumes/DATA`;
    const after = 'ls $root/volumes/DATA/store/images/demo >&2';
    const end = await onMachine(['live', 'pull'], mediumFile(), after, volume);
    expect(end).toMatchObject({
      status: 0,
      last: { image: second.image.name, store: '/volumes/DATA/store', inRam: false },
    });
    expect(end.stderr).toContain('20261102.01');
    const without = await onMachine(['live', 'pull'], '', '', configured);
    expect(without).toMatchObject({ status: 0, last: { store: '/run/relive/store', inRam: true } });
  });

  test('before anything is fetched it says that there is no room', async () => {
    const medium = mediumFile();
    const big = await addTinyImage(site, 'big-20261101.01', [randomBytes(20_000_000)]);
    const end = await onMachine(['live', 'pull', big.image.name], medium);
    expect(end).toMatchObject({ status: 3, last: { code: 'disk-full' } });
    rmSync(join(site.store, 'images/big'), { recursive: true });
  });

  test('elsewhere than on a machine that an image has started it says so', async () => {
    expect(await runCommand(['live', 'pull', '--from', url])).toMatchObject({
      status: 3,
      last: { code: 'host-unable' },
    });
  });
});
