import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  createReadStream,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BootManifest } from '../../src/image/manifest.ts';
import { layerFile, verityFile } from '../../src/image/manifest.ts';
import { type CommandEnd, runCommand, succeed } from '../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { temporaryDirectory } from '../support.ts';

let site: TestSite;
let iso: string;
let manifest: BootManifest;
let served: string;
let server: Server;

/** A medium that starts the kernel, and has no layer; the store is served by a plain web server. */
beforeAll(async () => {
  site = await freshSite({ cache: true });
  served = join(site.directory, 'served');
  // Paths of the store, which have nothing in them that would lead out of it.
  server = createServer(({ url = '/' }, response) => {
    const file = join(served, url);
    if (existsSync(file)) createReadStream(file).pipe(response);
    else response.writeHead(404).end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const profile = join(site.directory, 'profiles/demo.yaml');
  // QEMU's own network shows this machine's loopback interface there.
  const http = `boot:\n  http: http://10.0.2.2:${address.port}/store\n`;
  writeFileSync(profile, readFileSync(profile, 'utf8').replace(/^boot:\n/m, http));
  await succeed(['build', 'demo', '--offline'], { site: site.directory });
  iso = join(site.directory, 'demo.iso');
  const whole = join(site.directory, 'whole.iso');
  await succeed(['image', 'export', 'demo', '--iso', whole], { site: site.directory });
  const { last } = await succeed(['image', 'show', 'demo'], { site: site.directory });
  ({ manifest } = last as unknown as { manifest: BootManifest });
  const layers = manifest.layers.flatMap((layer) => [layerFile(layer), verityFile(layer)]);
  execFileSync(
    'xorriso',
    [
      ...['-indev', whole, '-outdev', iso, '-boot_image', 'any', 'replay'],
      ...layers.flatMap((name) => ['-rm', `/live/${name}`, '--']),
    ],
    { stdio: 'ignore' },
  );
  rmSync(whole);
  cpSync(site.store, join(served, 'store'), { recursive: true });
});
afterAll(() => {
  server.close();
  removeSite(site);
});

async function boot(): Promise<CommandEnd & { readonly console: string }> {
  const log = join(temporaryDirectory(), 'console.log');
  const end = await runCommand(
    [
      ...['vm', iso, '--accel', 'tcg', '--net', 'user', '--timeout', '400', '--log', log],
      ...['--cpus', '1', '--power-off', '0'],
    ],
    { site: site.directory },
  );
  return { ...end, console: readFileSync(log, 'utf8') };
}

test('an image is fetched over the network into RAM, and boots; a changed byte stops it', async () => {
  const good = await boot();
  expect(good.last).toMatchObject({ event: 'result', ok: true, image: manifest.image });
  const [base] = manifest.layers;
  if (base === undefined) throw new Error('no layers');
  expect(good.console).toContain(`relive: fetching live/${layerFile(base)}`);

  const layer = join(served, 'store/live', layerFile(base));
  const descriptor = openSync(layer, 'r+');
  writeSync(descriptor, Buffer.from([0x5a, 0xa5]), 0, 2, Math.floor(base.size / 2));
  closeSync(descriptor);
  const bad = await boot();
  expect(bad.status).toBe(3);
  expect(bad.last?.['message']).toContain(
    `it stopped: live/${layerFile(base)} is damaged: it has another SHA-256 than its manifest says`,
  );
});
