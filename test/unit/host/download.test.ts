import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ErrorCode, ReliveError } from '../../../src/core/error.ts';
import { addressOf, type DownloadRequest, Transport } from '../../../src/host/download.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';

const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));
/** How much of a broken answer arrives is up to the kernel: some of it does. */
const someRange: unknown = expect.stringMatching(/^bytes=[1-9]\d*-$/);
let directory: string;
let server: TestServer;
let transport: Transport;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'relive-test-download-'));
  server = await startServer();
  server.files.set('a.deb', content);
  transport = new Transport({ idleSeconds: 1, pauseSeconds: 0.01, rounds: 3, connections: 4 });
});

afterEach(async () => {
  await transport.close();
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

function wanted(sources: readonly string[] = [`${server.url}/a.deb`], bytes = content): DownloadRequest {
  return {
    sources,
    target: join(directory, 'pool', 'a.deb'),
    expected: {
      size: bytes.length,
      algorithm: 'sha256',
      digest: createHash('sha256').update(bytes).digest('hex'),
    },
  };
}

/** Does `fault` to the first `times` requests. */
function faulty(times: number, fault: (response: ServerResponse) => void): void {
  let left = times;
  server.fault = (_request, response) => {
    left -= 1;
    if (left < 0) return false;
    fault(response);
    return true;
  };
}

/** What is in the directory of the target. */
function names(): string[] {
  return existsSync(join(directory, 'pool')) ? readdirSync(join(directory, 'pool')) : [];
}

/** What is there after a download that succeeds. */
async function arrived(request: DownloadRequest): Promise<{ right: boolean; names: string[] }> {
  await transport.download(request, recordingContext());
  return { right: readFileSync(request.target).equals(content), names: names() };
}
const whole = { right: true, names: ['a.deb'] };

/** What is there after a download that fails. */
async function failed(request: DownloadRequest): Promise<{ error: unknown; appeared: boolean }> {
  const error = await transport.download(request, recordingContext()).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return { error, appeared: existsSync(request.target) };
}

function failure(message: string, code: ErrorCode = 'download-failed'): object {
  return { error: errorLike(code, message), appeared: false };
}

function many(count: number): DownloadRequest[] {
  return Array.from({ length: count }, (_, index) => {
    const bytes = Buffer.from(`file ${index}`);
    server.files.set(`${index}.deb`, bytes);
    return { ...wanted([`${server.url}/${index}.deb`], bytes), target: join(directory, `${index}.deb`) };
  });
}

describe('download', () => {
  test('brings a file with one request, and says how many bytes came', async () => {
    expect(await arrived(wanted())).toEqual(whole);
    expect(server.requests).toHaveLength(1);
  });

  test('checks SHA-512 where that is wanted', async () => {
    const request = wanted();
    const digest = createHash('sha512').update(content).digest('hex');
    expect(
      await arrived({ ...request, expected: { size: content.length, algorithm: 'sha512', digest } }),
    ).toEqual(whole);
  });

  test('goes on with the part that a broken answer left, and asks only for the rest', async () => {
    faulty(1, (response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 100_000), () => response.socket?.end());
    });
    const seen: number[] = [];
    const bytes = await transport.download(wanted(), recordingContext(), (more) => seen.push(more));
    expect(bytes).toBe(content.length);
    expect(seen.reduce((sum, more) => sum + more, 0)).toBe(content.length);
    expect(server.requests.map(({ range }) => range)).toEqual([undefined, someRange]);
    expect(readFileSync(wanted().target).equals(content)).toBe(true);
  });

  test('a later run goes on with the part of an earlier one', async () => {
    faulty(100, (response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 100_000), () => response.socket?.end());
    });
    expect(await failed(wanted())).toMatchObject(failure('broke off'));
    server.fault = undefined;
    const [part = ''] = names();
    const { size } = statSync(join(directory, 'pool', part));
    expect(size).toBeGreaterThan(0);
    expect(await transport.download(wanted(), recordingContext())).toBe(content.length - size);
  });

  test('a part with wrong bytes is thrown away', async () => {
    faulty(1, (response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(Buffer.alloc(100_000, 'x'), () => response.socket?.end());
    });
    expect(await arrived(wanted())).toEqual(whole);
    expect(server.requests.map(({ range }) => range)).toEqual([undefined, someRange, undefined]);
  });

  test('a server without ranges is read from the start', async () => {
    faulty(1, (response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 1000), () => response.socket?.end());
    });
    const once = server.fault;
    server.fault = (request, response) => {
      delete request.headers.range;
      return once?.(request, response) ?? false;
    };
    expect(await arrived(wanted())).toEqual(whole);
  });

  test('a complete part that was not renamed needs no request', async () => {
    const request = wanted();
    mkdirSync(join(directory, 'pool'));
    writeFileSync(join(directory, 'pool', `.part-a.deb-${request.expected.digest.slice(0, 16)}`), content);
    expect(await transport.download(request, recordingContext())).toBe(0);
    expect(server.requests).toEqual([]);
  });

  test.each([
    ['another part than was asked for', 206, { 'content-range': 'bytes 5-299999/300000' }],
    ['416', 416, {}],
  ])('a server that answers a range with %s is read from the start', async (_what, status, headers) => {
    const request = wanted();
    mkdirSync(join(directory, 'pool'));
    const part = join(directory, 'pool', `.part-a.deb-${request.expected.digest.slice(0, 16)}`);
    writeFileSync(part, content.subarray(0, 1000));
    server.fault = (asked, response) => {
      if (asked.headers.range === undefined) return false;
      response.writeHead(status, headers).end(content.subarray(5));
      return true;
    };
    expect(await arrived(request)).toEqual(whole);
  });

  test('trouble of the server is waited out', async () => {
    faulty(2, (response) => response.writeHead(503).end());
    expect(await arrived(wanted())).toEqual(whole);
    expect(server.requests).toHaveLength(3);
  });

  test('trouble that stays is an error that names the status', async () => {
    faulty(100, (response) => response.writeHead(500).end());
    expect(await failed(wanted())).toMatchObject(failure('status 500'));
    expect(server.requests).toHaveLength(3);
    expect(names()).toEqual([]);
  });

  test('a file that is not there is asked for once at each source', async () => {
    expect(await failed(wanted([`${server.url}/b.deb`, `${server.url}/c.deb`]))).toMatchObject(
      failure('status 404'),
    );
    expect(server.requests.map(({ path }) => path)).toEqual(['b.deb', 'c.deb']);
    expect(names()).toEqual([]);
  });

  test('the next source serves where the first has nothing, or something wrong', async () => {
    server.files.set('wrong.deb', Buffer.alloc(content.length));
    expect(
      await arrived(wanted([`${server.url}/b.deb`, `${server.url}/wrong.deb`, `${server.url}/a.deb`])),
    ).toEqual(whole);
  });

  test('wrong content is asked for once more, past caches, and never appears', async () => {
    server.files.set('a.deb', Buffer.alloc(content.length));
    const headers: (string | undefined)[] = [];
    server.fault = (request) => {
      headers.push(request.headers['cache-control']);
      return false;
    };
    expect(await failed(wanted())).toMatchObject(failure('SHA256'));
    expect(headers).toEqual([undefined, 'no-cache']);
    expect(names()).toEqual([]);
  });

  test.each([
    ['shorter', 1000],
    ['longer', 400_000],
  ])('a file that is %s is refused by its length', async (_what, size) => {
    server.files.set('a.deb', Buffer.alloc(size));
    expect(await failed(wanted())).toMatchObject(failure(`${size} bytes where 300000 are expected`));
  });

  test('an answer without end is cut off at the expected size', async () => {
    let sent = 0;
    server.fault = (_request, response) => {
      response.writeHead(200);
      const more = (): void => {
        while (!response.destroyed && sent < 1e9) {
          sent += 65536;
          if (!response.write(Buffer.alloc(65536))) break;
        }
      };
      response.on('drain', more);
      more();
      return true;
    };
    expect(await failed(wanted())).toMatchObject(failure('more than the 300000 bytes'));
    expect(sent).toBeLessThan(1e8);
  });

  test('a length that promises more than comes is a broken answer', async () => {
    faulty(1, (response) => {
      response.writeHead(200);
      response.end(content.subarray(0, 1000));
    });
    expect(await arrived(wanted())).toEqual(whole);
  });

  test('a server that falls silent is given up', async () => {
    faulty(1, (response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 1000));
    });
    expect(await arrived(wanted([`${server.url}/a.deb`]))).toEqual(whole);
    faulty(100, () => undefined);
    rmSync(wanted().target);
    await transport.close();
    transport = new Transport({ idleSeconds: 1, rounds: 1 });
    expect(await failed(wanted())).toMatchObject(failure('fell silent'));
  });

  test('redirects are followed, but not for ever, and not to local files', async () => {
    faulty(2, (response) => response.writeHead(302, { location: '/a.deb' }).end());
    expect(await arrived(wanted([`${server.url}/elsewhere`]))).toEqual(whole);
    rmSync(wanted().target);
    server.fault = (_request, response) => {
      response.writeHead(301, { location: '/again' }).end();
      return true;
    };
    expect(await failed(wanted())).toMatchObject(failure('redirects more than'));
    const local = join(directory, 'secret');
    writeFileSync(local, content);
    server.fault = (_request, response) => {
      response.writeHead(302, { location: pathToFileURL(local).href }).end();
      return true;
    };
    expect(await failed(wanted())).toMatchObject(failure('it redirects to'));
  });

  test('a file: source is checked like any other', async () => {
    const path = join(directory, 'up+stream %3a.deb');
    writeFileSync(path, content);
    expect(await arrived(wanted([addressOf(pathToFileURL(directory).href, 'up+stream %3a.deb')]))).toEqual(
      whole,
    );
    rmSync(wanted().target);
    writeFileSync(path, Buffer.alloc(content.length));
    expect(
      await failed(wanted([addressOf(pathToFileURL(directory).href, 'up+stream %3a.deb')])),
    ).toMatchObject(failure('SHA256'));
    expect(await failed(wanted([addressOf(pathToFileURL(directory).href, 'gone.deb')]))).toMatchObject(
      failure('no such file'),
    );
  });

  test('where nothing can be reached, the host is named', async () => {
    const { url } = server;
    await server.close();
    expect(await failed(wanted([`${url}/a.deb`]))).toMatchObject(
      failure('connection is refused', 'no-network'),
    );
    expect(await failed(wanted(['http://archive.invalid/a.deb']))).toMatchObject(
      failure('cannot reach archive.invalid', 'no-network'),
    );
  });

  test('an interrupt ends it at once and leaves nothing under its name', async () => {
    const context = recordingContext();
    faulty(100, (response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 1000));
      context.abort(new ReliveError('interrupted', 'interrupted by the test'));
    });
    await expect(transport.download(wanted(), context)).rejects.toMatchObject({ code: 'interrupted' });
    expect(existsSync(wanted().target)).toBe(false);
  });
});

describe('downloadAll', () => {
  test('brings all files, over few connections, and reports the bytes', async () => {
    const sockets = new Set<unknown>();
    server.fault = (request) => {
      sockets.add(request.socket);
      return false;
    };
    const requests = many(100);
    const context = recordingContext();
    const total = requests.reduce((sum, { expected }) => sum + (expected.size ?? 0), 0);
    const summary = await transport.downloadAll(requests, 'packages', context);
    expect(summary).toEqual({ files: 100, bytes: total, failures: [] });
    expect(sockets.size).toBeLessThanOrEqual(4);
    for (const [index, { target }] of requests.entries())
      expect(readFileSync(target, 'utf8')).toBe(`file ${index}`);
    expect(context.events.at(-2)).toMatchObject({ event: 'progress', stage: 'packages', done: total, total });
  });

  test('a file that cannot be had does not hold up the others', async () => {
    const requests = many(20);
    server.files.delete('7.deb');
    server.files.set('9.deb', Buffer.from('file X'));
    const { files, failures } = await transport.downloadAll(requests, 'packages', recordingContext());
    expect(files).toBe(18);
    expect(failures.map(({ request }) => request.target).toSorted()).toEqual([
      join(directory, '7.deb'),
      join(directory, '9.deb'),
    ]);
  });

  test('where the network is gone, all ends with one error', async () => {
    const requests = many(20);
    await server.close();
    await expect(transport.downloadAll(requests, 'packages', recordingContext())).rejects.toMatchObject({
      code: 'no-network',
    });
  });
});

describe('document', () => {
  const options = { maximumSize: 1000 };

  test('is fetched once, then asked for on condition', async () => {
    const body = Buffer.from('signed');
    server.files.set('InRelease', body);
    const sources = [`${server.url}/InRelease`];
    const first = await transport.document(sources, options, recordingContext());
    if (first.state !== 'fetched') throw new Error(first.state);
    expect(first.body.equals(body)).toBe(true);
    const { validators } = first;
    expect(await transport.document(sources, { ...options, validators }, recordingContext())).toEqual({
      state: 'unchanged',
    });
    server.files.set('InRelease', Buffer.from('changed'));
    expect(await transport.document(sources, { ...options, validators }, recordingContext())).toMatchObject({
      state: 'fetched',
    });
  });

  test('is absent only when every source says so', async () => {
    const sources = [`${server.url}/x/InRelease`, `${server.url}/y/InRelease`];
    expect(await transport.document(sources, options, recordingContext())).toEqual({ state: 'absent' });
    server.fault = (request, response) => {
      if (request.url?.startsWith('/y') !== true) return false;
      response.writeHead(503).end();
      return true;
    };
    await expect(transport.document(sources, options, recordingContext())).rejects.toThrow('status 503');
  });

  test('is refused when it is too large', async () => {
    await expect(transport.document([`${server.url}/a.deb`], options, recordingContext())).rejects.toThrow(
      'larger than the 1000 bytes',
    );
  });
});

test('names are encoded, never decoded', () => {
  expect(addressOf('http://host/debian/', 'pool/g++_1%3a2~rc_amd64.deb')).toBe(
    'http://host/debian/pool/g%2B%2B_1%253a2~rc_amd64.deb',
  );
});
