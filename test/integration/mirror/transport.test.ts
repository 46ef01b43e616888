import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createPlain, request, type Server } from 'node:http';
import { createServer as createSecure } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { makeDeb, publishArchive, writeTree } from '../../fixtures/archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { startRelive } from '../../fixtures/relive.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';

let key: SigningKey;
let stranger: SigningKey;
let first: TestServer;
let second: TestServer;
let site: MirrorSite;
const hello = 'pool/main/h/hello/hello_1.0_amd64.deb';

beforeAll(() => {
  key = makeSigningKey();
  stranger = makeSigningKey('Stranger');
});
afterAll(() => {
  key.remove();
  stranger.remove();
});
beforeEach(async () => {
  first = await startServer();
  second = await startServer();
  site = mirrorSite(key, first.url);
  site.configure({ test: { url: [first.url, second.url] } });
  publishArchive(first.files, 'stable', key);
  publishArchive(second.files, 'stable', key);
});
afterEach(async () => {
  await first.close();
  await second.close();
  site.remove();
});

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

describe('several upstreams', () => {
  test.each([
    [
      'is signed by nobody known',
      () => publishArchive(first.files, 'stable', stranger),
      'not signed by an allowed key',
    ],
    [
      'was changed on its way',
      () => {
        const text =
          first.files.get('dists/stable/InRelease')?.toString().replace('Label: Test', 'Label: Best') ?? '';
        first.files.set('dists/stable/InRelease', Buffer.from(text));
      },
      'bad signature',
    ],
    [
      'has expired',
      () => publishArchive(first.files, 'stable', key, { validUntil: new Date(Date.now() - 1000) }),
      'expired',
    ],
    [
      'answers with a login page',
      () => first.files.set('dists/stable/InRelease', Buffer.from('<html>')),
      'clear-signed',
    ],
    ['has no such suite', () => first.files.clear(), 'no suite'],
  ])('the next one serves where the first %s', async (_what, spoil, told) => {
    spoil();
    const { lines } = await site.good(['mirror', 'sync']);
    expect(site.read('test/dists/stable/InRelease')).toEqual(second.files.get('dists/stable/InRelease'));
    expect(lines.find(({ event }) => event === 'warning')?.['message']).toContain(told);
  });

  test('one that lags behind is passed over once a newer state was accepted', async () => {
    publishArchive(second.files, 'stable', key, { debs: [makeDeb({ name: 'newer' })], date: new Date() });
    site.configure({ test: { url: [second.url] } });
    await site.good(['mirror', 'sync']);
    site.configure({ test: { url: [first.url, second.url] } });
    expect((await site.good(['mirror', 'sync'])).stdout).toContain('older than the one');
    expect(site.has('test/pool/main/n/newer/newer_1.0_amd64.deb')).toBe(true);
  });

  test('a package that one has wrong comes from the other', async () => {
    first.files.set(hello, Buffer.alloc(first.files.get(hello)?.length ?? 0));
    await site.good(['mirror', 'sync']);
    expect(site.read(`test/${hello}`)).toEqual(second.files.get(hello));
  });

  test('one that is away is no error', async () => {
    await first.close();
    await site.good(['mirror', 'sync']);
    expect(site.has(`test/${hello}`)).toBe(true);
    first = await startServer();
  });
});

function placeOf(number: number): string {
  return `pool/main/p/p${number}/p${number}_1.0_amd64.deb`;
}

describe('much to fetch, by several threads', () => {
  const debs = Array.from({ length: 72 }, (_, number) => {
    const deb = makeDeb({ name: `p${number}` });
    return { ...deb, content: Buffer.concat([deb.content, Buffer.alloc(1_000_000, number)]) };
  });
  beforeEach(() => {
    for (const server of [first, second]) publishArchive(server.files, 'stable', key, { debs });
  });

  test('comes whole; what one upstream lacks or has wrong comes from the other', async () => {
    first.files.delete(placeOf(3));
    first.files.set(placeOf(40), Buffer.alloc(first.files.get(placeOf(40))?.length ?? 0));
    const { result } = await site.good(['mirror', 'sync']);
    expect(result).toMatchObject({ repositories: [{ suites: [{ downloaded: 72 }] }] });
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    expect(site.read(`test/${placeOf(40)}`).equals(debs[40]?.content ?? Buffer.alloc(0))).toBe(true);
  });

  test('what nobody has is named, the rest is kept for the next run', async () => {
    for (const { files } of [first, second]) files.delete(placeOf(3));
    const { status, result } = await site.relive(['mirror', 'sync']);
    expect([status, result]).toMatchObject([
      3,
      { code: 'download-failed', message: expect.stringContaining('p3_1.0_amd64.deb') },
    ]);
    expect(site.has('test/dists/stable')).toBe(false);
    publishArchive(first.files, 'stable', key, { debs });
    first.requests.length = 0;
    await site.good(['mirror', 'sync']);
    expect(first.requests.flatMap((asked) => (asked.path.endsWith('.deb') ? asked.path : []))).toEqual([
      placeOf(3),
    ]);
  });

  test('an interrupt ends all threads, and the next run goes on', async () => {
    let answered = 0;
    const child = startRelive(site.directory, ['mirror', 'sync', '--quiet']);
    first.fault = () => {
      answered += 1;
      if (answered === 30) child.kill('SIGINT');
      return false;
    };
    child.stdout?.resume();
    child.stderr?.resume();
    expect((await once(child, 'exit'))[0]).toBe(130);
    expect(site.has('test/dists/stable')).toBe(false);
    first.fault = undefined;
    first.requests.length = 0;
    await site.good(['mirror', 'sync']);
    expect(first.requests.length).toBeLessThan(72);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    const left = readdirSync(site.at('test'), { recursive: true, encoding: 'utf8' });
    expect(left.filter((name) => name.includes('.part-'))).toEqual([]);
  });
});

describe('a server in trouble', () => {
  test('is asked again after the pause that it wants', async () => {
    site.configure({ test: { url: [first.url] } });
    const times: number[] = [];
    first.fault = (asked, response) => {
      if (!asked.url?.endsWith('.deb')) return false;
      times.push(performance.now());
      if (times.length > 1) return false;
      response.writeHead(503, { 'retry-after': '2' }).end();
      return true;
    };
    await site.good(['mirror', 'sync']);
    // No sooner than it said; the usual pause would be half a second.
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(1900);
  });

  test('is given up when it wants too long a pause', async () => {
    site.configure({ test: { url: [first.url] } });
    first.fault = (_asked, response) => {
      response.writeHead(429, { 'retry-after': '86400' }).end();
      return true;
    };
    expect((await site.relive(['mirror', 'sync'])).result).toMatchObject({ code: 'download-failed' });
    expect(first.requests).toHaveLength(1);
  });
});

test('the bandwidth is kept', async () => {
  const debs = ['a1', 'a2', 'a3', 'a4'].map((name) => makeDeb({ name }));
  const big = debs.map((deb) => ({ ...deb, content: Buffer.concat([deb.content, Buffer.alloc(100_000)]) }));
  publishArchive(first.files, 'stable', key, { debs: big });
  site.configure({ test: { url: [first.url], transport: { bandwidth: '200 kB/s' } } });
  const started = performance.now();
  await site.good(['mirror', 'sync']);
  // 400 kB at 200 kB/s cannot take less than two seconds, less what may come at once in the end.
  expect(performance.now() - started).toBeGreaterThan(1500);
});

describe('credentials', () => {
  test('come from netrc, only for the host they are for, and show nowhere', async () => {
    const asked: (string | undefined)[] = [];
    first.fault = (incoming, response) => {
      asked.push(incoming.headers.authorization);
      if (incoming.headers.authorization === 'Basic dXNlcjpzZWNyZXQ=') return false;
      response.writeHead(401).end();
      return true;
    };
    site.configure({ test: { url: [first.url] } });
    const refused = await site.relive(['mirror', 'sync']);
    expect(refused.result).toMatchObject({
      code: 'download-failed',
      message: expect.stringContaining('auth.conf'),
    });
    const netrc = join(site.directory, 'netrc');
    writeFileSync(
      netrc,
      `machine other.example.org login x password y\nmachine ${first.url} login user password secret\n`,
    );
    const { stdout, stderr } = await site.good(['mirror', 'sync'], { NETRC: netrc });
    expect(`${stdout}${stderr}`).not.toContain('secret');
    expect(asked.at(-1)).toBe('Basic dXNlcjpzZWNyZXQ=');
  });

  test('are not handed on to where a redirect leads', async () => {
    const seen: (string | undefined)[] = [];
    second.fault = (incoming) => {
      seen.push(incoming.headers.authorization);
      return false;
    };
    first.fault = (incoming, response) => {
      response.writeHead(302, { location: `${second.url}${incoming.url ?? ''}` }).end();
      return true;
    };
    const netrc = join(site.directory, 'netrc');
    writeFileSync(netrc, `machine ${first.url} login user password secret\n`);
    site.configure({ test: { url: [first.url] } });
    await site.good(['mirror', 'sync'], { NETRC: netrc });
    expect(new Set(seen)).toEqual(new Set([undefined]));
  });
});

describe('TLS', () => {
  let server: Server;
  let url: string;
  let directory: string;
  const at = (name: string): string => join(directory, name);

  beforeEach(async () => {
    directory = join(site.directory, 'tls');
    mkdirSync(directory);
    const openssl = (...args: string[]): Buffer =>
      execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
    openssl(
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
      ],
      ...['-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Test CA'],
    );
    for (const name of ['server', 'client']) {
      openssl(
        ...[
          'req',
          '-newkey',
          'ec',
          '-pkeyopt',
          'ec_paramgen_curve:prime256v1',
          '-nodes',
          '-keyout',
          `${name}.key`,
        ],
        ...['-out', `${name}.csr`, '-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1'],
      );
      openssl(
        ...[
          'x509',
          '-req',
          '-in',
          `${name}.csr`,
          '-CA',
          'ca.pem',
          '-CAkey',
          'ca.key',
          '-CAcreateserial',
          '-days',
          '2',
        ],
        ...['-copy_extensions', 'copy', '-out', `${name}.pem`],
      );
    }
    server = createSecure(
      {
        key: readFileSync(at('server.key')),
        cert: readFileSync(at('server.pem')),
        ca: readFileSync(at('ca.pem')),
        requestCert: true,
        rejectUnauthorized: true,
      },
      (incoming, response) => {
        const content = first.files.get(decodeURIComponent((incoming.url ?? '').slice(1)));
        if (content === undefined) response.writeHead(404).end();
        else response.writeHead(200, { 'content-length': content.length }).end(content);
      },
    );
    url = `https://127.0.0.1:${await listening(server)}`;
  });
  afterEach(async () => closed(server));

  test('an unknown authority is refused; a named one and a certificate of ours open the door', async () => {
    site.configure({ test: { url: [url] } });
    expect((await site.relive(['mirror', 'sync'])).result).toMatchObject({
      code: 'download-failed',
      message: expect.stringContaining('encrypted connection is refused'),
    });
    site.configure({ test: { url: [url], transport: { ca: 'tls/ca.pem' } } });
    expect((await site.relive(['mirror', 'sync'])).status).toBe(3);
    const transport = { ca: 'tls/ca.pem', certificate: 'tls/client.pem', key: 'tls/client.key' };
    site.configure({ test: { url: [url], transport } });
    await site.good(['mirror', 'sync']);
    expect(site.has(`test/${hello}`)).toBe(true);
  });

  test('goes through a proxy by a tunnel', async () => {
    const proxied: string[] = [];
    const proxy = createPlain((_incoming, response) => response.writeHead(400).end());
    proxy.on('connect', (incoming, socket, head) => {
      proxied.push(incoming.url ?? '');
      const [host = '', port = ''] = (incoming.url ?? '').split(':');
      const onward = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        onward.write(head);
        onward.pipe(socket);
        socket.pipe(onward);
      });
      onward.on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
    });
    const port = await listening(proxy);
    const transport = { ca: 'tls/ca.pem', certificate: 'tls/client.pem', key: 'tls/client.key' };
    site.configure({ test: { url: [url], transport } });
    await site.good(['mirror', 'sync'], { https_proxy: `http://127.0.0.1:${port}` });
    expect(new Set(proxied)).toEqual(new Set([new URL(url).host]));
    await closed(proxy);
  });
});

describe('an http proxy', () => {
  let proxy: Server;
  let port: number;
  const proxied: string[] = [];

  beforeEach(async () => {
    proxied.length = 0;
    proxy = createPlain((incoming, response) => {
      if (incoming.headers['proxy-authorization'] !== `Basic ${Buffer.from('me:word').toString('base64')}`) {
        response.writeHead(407).end();
        return;
      }
      proxied.push(incoming.url ?? '');
      const { 'proxy-authorization': _, ...headers } = incoming.headers;
      const onward = request(incoming.url ?? '', { headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      onward.on('error', () => response.writeHead(502).end());
      onward.end();
    });
    port = await listening(proxy);
    site.configure({ test: { url: [first.url] } });
  });
  afterEach(async () => closed(proxy));

  test('is asked with the whole address, with its user and password', async () => {
    await site.good(['mirror', 'sync'], { http_proxy: `http://me:word@127.0.0.1:${port}` });
    expect(proxied[0]).toBe(`${first.url}/dists/stable/InRelease`);
    expect(site.has(`test/${hello}`)).toBe(true);
  });

  test('that wants a password says so', async () => {
    const { result } = await site.relive(['mirror', 'sync'], { http_proxy: `http://127.0.0.1:${port}` });
    expect(result).toMatchObject({ code: 'download-failed' });
    expect(String(result['message'])).toContain('407');
  });

  test('is left out where no_proxy says so', async () => {
    await site.good(['mirror', 'sync'], { http_proxy: 'http://127.0.0.1:9', no_proxy: '127.0.0.1' });
    expect(proxied).toEqual([]);
  });
});

test('file: upstreams, with names that need care', async () => {
  const debs = [makeDeb({ name: 'g++', version: '4:14.2~rc1-1' })];
  const path = 'pool/main/g/g++/g++_4%3a14.2~rc1-1_amd64.deb';
  const files = new Map<string, Buffer>();
  publishArchive(files, 'stable', key, { debs, place: () => path });
  writeTree(join(site.directory, 'up'), files);
  site.configure({ test: { url: [`file://${site.directory}/up`] } });
  await site.good(['mirror', 'sync']);
  expect(site.read(`test/${path}`)).toEqual(debs[0]?.content);
  // The same over HTTP.
  for (const [name, content] of files) first.files.set(name, content);
  site.configure({ web: { url: [first.url] } });
  await site.good(['mirror', 'sync']);
  expect(site.read(`web/${path}`)).toEqual(debs[0]?.content);
});
