import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PlainHttp, Unfit } from '../../../src/host/plain-http.ts';

/** What a connection of the scripted server does with the requests that came on it so far. */
type Script = (
  socket: Socket,
  request: { readonly path: string; readonly text: string; readonly number: number },
) => void;

/** What became of a request. */
interface Outcome {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly error: Error | undefined;
}

let server: Server;
let client: PlainHttp;
let url: string;
let script: Script;
/** For each connection the paths that were asked for on it. */
let connections: string[][];
let sockets: Socket[];

function listen(): Server {
  return createServer((socket) => {
    const asked: string[] = [];
    connections.push(asked);
    sockets.push(socket);
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      text += data.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
        const request = text.slice(0, end);
        text = text.slice(end + 4);
        const path = request.split(' ')[1] ?? '';
        asked.push(path);
        script(socket, { path, text: request, number: asked.length });
      }
    });
  });
}

beforeEach(async () => {
  connections = [];
  sockets = [];
  server = listen();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  url = `http://127.0.0.1:${address.port}`;
  client = new PlainHttp({ connections: 1, connectSeconds: 5, idleSeconds: 5 });
  script = (socket, { path }) => socket.write(answer(`body of ${path}`));
});
afterEach(async () => {
  client.close();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

function answer(body: string, ...headers: string[]): string {
  return [`HTTP/1.1 200 OK`, `content-length: ${body.length}`, ...headers, '', body].join('\r\n');
}

/** Asks for a path; the outcome settles at its end or failure. */
function ask(
  path: string,
  options: {
    readonly wanted?: boolean;
    readonly stopAt?: AbortSignal;
    readonly onHead?: () => void;
    readonly onData?: () => void;
  } = {},
): Promise<Outcome> {
  return new Promise((resolve) => {
    const got = { status: undefined as number | undefined, headers: {}, body: '' };
    const stop = client.ask(
      new URL(path, url),
      { 'user-agent': 'test' },
      {
        head: (status, headers) => {
          options.onHead?.();
          got.status = status;
          got.headers = headers;
          return options.wanted ?? status === 200;
        },
        data: (chunk) => {
          options.onData?.();
          got.body += chunk.toString('latin1');
        },
        end: () => resolve({ ...got, error: undefined }),
        fail: (error) => resolve({ ...got, error }),
      },
    );
    options.stopAt?.addEventListener('abort', () => {
      stop();
      resolve({ ...got, error: new Error('stopped') });
    });
  });
}

async function askMany(count: number): Promise<string[]> {
  const outcomes = await Promise.all(Array.from({ length: count }, (_, number) => ask(`/${number}`)));
  return outcomes.map(({ body, error }) => error?.message ?? body);
}

function bodies(count: number): string[] {
  return Array.from({ length: count }, (_, number) => `body of /${number}`);
}

describe('a good server', () => {
  test('gets requests with host and headers, and more than one at a time once it has answered', async () => {
    let mostAhead = 0;
    const answered: string[] = [];
    let text = '';
    script = (socket, request) => {
      text = request.text;
      mostAhead = Math.max(mostAhead, request.number - answered.length);
      // Later, so that what is pipelined gathers.
      setTimeout(() => {
        answered.push(request.path);
        socket.write(answer(`body of ${request.path}`));
      }, 5);
    };
    expect(await askMany(20)).toEqual(bodies(20));
    expect(connections).toHaveLength(1);
    expect(mostAhead).toBeGreaterThan(3);
    expect(mostAhead).toBeLessThanOrEqual(8);
    expect(text).toBe(`GET /19 HTTP/1.1\r\nhost: ${new URL(url).host}\r\nuser-agent: test`);
  });

  test('may deliver its answers in pieces of any size', async () => {
    const whole = ['a', 'bb', ''].map((body) => answer(body, 'etag: "x"')).join('');
    for (const size of [1, 2, 3, 7, 50]) {
      script = (socket, { number }) => {
        if (number !== 1) return;
        void (async () => {
          for (let at = 0; at < whole.length; at += size) {
            socket.write(whole.slice(at, at + size));
            await delay(0);
          }
        })();
      };
      const outcomes = await Promise.all(['/a', '/b', '/c'].map((path) => ask(path)));
      expect(outcomes.map(({ body, headers }) => [body, headers['etag']])).toEqual([
        ['a', '"x"'],
        ['bb', '"x"'],
        ['', '"x"'],
      ]);
      client.close();
    }
  });

  test('that ends connections after some answers gets the rest on others', async () => {
    script = (socket, { path, number }) => {
      if (number < 4) socket.write(answer(`body of ${path}`));
      else if (number === 4) socket.end(answer(`body of ${path}`, 'connection: close'));
    };
    expect(await askMany(20)).toEqual(bodies(20));
    expect(connections.length).toBeGreaterThan(3);
  });

  test.each(['end', 'resetAndDestroy'] as const)(
    'that closes an idle connection by %s is asked on a new one',
    async (how) => {
      expect((await ask('/first')).body).toBe('body of /first');
      sockets[0]?.[how]();
      expect((await ask('/second')).body).toBe('body of /second');
    },
  );

  test('answers without a body leave the connection usable', async () => {
    const heads = [
      '304 Not Modified\r\ncontent-length: 500',
      '204 No Content',
      '404 Not Found\r\ncontent-length: 0',
    ];
    script = (socket, { path, number }) =>
      socket.write(number <= 3 ? `HTTP/1.1 ${heads[number - 1] ?? ''}\r\n\r\n` : answer(`body of ${path}`));
    const outcomes = [];
    for (const path of ['/1', '/2', '/3', '/4']) outcomes.push(await ask(path));
    expect(outcomes.map(({ status }) => status)).toEqual([304, 204, 404, 200]);
    expect(connections).toHaveLength(1);
  });

  test('an unwanted body is read when it is short, and costs the connection when it is long', async () => {
    script = (socket, { path, number }) => {
      if (number === 1) socket.write(answer('x'.repeat(1000)).replace('200 OK', '404 No'));
      else if (number === 2) socket.write(answer('x'.repeat(1_000_000)).replace('200 OK', '404 No'));
      else socket.write(answer(`body of ${path}`));
    };
    expect(await ask('/1')).toMatchObject({ status: 404, body: '', error: undefined });
    expect(await ask('/2')).toMatchObject({ status: 404, body: '', error: undefined });
    expect(connections).toHaveLength(1);
    expect(await ask('/3')).toMatchObject({ status: 404 });
    expect(connections).toHaveLength(2);
  });
});

describe('what is left to the general client', () => {
  test.each([
    ['a chunked answer', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'],
    [
      'a length beside chunks',
      'HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['an answer without a length', 'HTTP/1.1 200 OK\r\n\r\nabc'],
    ['a length that is no number', 'HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc'],
    ['a negative length', 'HTTP/1.1 206 OK\r\ncontent-length: -3\r\n\r\nabc'],
    ['a length beyond all numbers', `HTTP/1.1 200 OK\r\ncontent-length: ${'9'.repeat(30)}\r\n\r\nabc`],
    ['HTTP/1.0', 'HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc'],
    ['a preliminary answer', `HTTP/1.1 103 Early Hints\r\n\r\n${answer('abc')}`],
    ['something else altogether', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\n${'x-more: and more\r\n'.repeat(10_000)}`],
    ['one header without end', `HTTP/1.1 200 OK\r\nx-more: ${'y'.repeat(200_000)}`],
  ])('%s', async (_what, text) => {
    script = (socket) => socket.write(text, 'latin1');
    const { error, body } = await ask('/');
    expect([error, body]).toEqual([expect.any(Unfit), '']);
    // Nothing that follows on this connection is believed.
    expect(sockets).toHaveLength(1);
  });
});

describe('a head is refused', () => {
  test.each([
    ['with two lengths', 'content-length: 3\r\ncontent-length: 30'],
    ['with two ranges', 'content-length: 3\r\ncontent-range: bytes 0-2/3\r\ncontent-range: bytes 1-3/4'],
    ['with two places to go', 'content-length: 0\r\nlocation: /a\r\nlocation: /b'],
    ['with a line that is no header', 'content-length: 3\r\nno colon here'],
    ['with a blank before the colon', 'content-length : 3'],
    ['with a folded line', 'x-long: a\r\n b: c\r\ncontent-length: 3'],
    ['with a bare line feed', 'etag: "x"\nif-match: evil\r\ncontent-length: 3'],
    ['with a bare carriage return', 'etag: "x"\rif-match: evil\r\ncontent-length: 3'],
    ['with a NUL', 'etag: "\0"\r\ncontent-length: 3'],
    ['with an empty name', ': x\r\ncontent-length: 3'],
  ])('%s', async (_what, headers) => {
    script = (socket) => socket.write(`HTTP/1.1 200 OK\r\n${headers}\r\n\r\nabc`);
    const { error, body } = await ask('/');
    expect(error).toMatchObject({ code: 'ERR_HTTP_HEAD' });
    expect(body).toBe('');
  });

  test('but the same length twice is one length, and names are as they come', async () => {
    script = (socket) =>
      socket.write(
        'HTTP/1.1 200\r\nContent-Length: 3\r\ncontent-length:3\r\n__proto__: x\r\nX-Latin: \u00e9\t\r\n\r\nabc',
        'latin1',
      );
    const { body, headers } = await ask('/');
    expect([body, headers['x-latin'], Object.hasOwn(headers, '__proto__')]).toEqual(['abc', '\u00e9', true]);
  });
});

describe('a hostile or broken server', () => {
  test('that promises more than it sends: that request fails, the others are asked again', async () => {
    let bad = 0;
    script = (socket, { path }) => {
      if (path !== '/3' || bad > 0) {
        socket.write(answer(`body of ${path}`));
        return;
      }
      bad += 1;
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf');
    };
    const expected = bodies(10);
    expected[3] = 'other side closed';
    expect(await askMany(10)).toEqual(expected);
  });

  test("that sends more than it promises: the surplus is nobody's answer", async () => {
    script = (socket, { path }) =>
      socket.write(path === '/evil' ? `${answer('body of /evil')}and more` : answer(`body of ${path}`));
    expect((await ask('/evil')).body).toBe('body of /evil');
    // What came unasked ended the connection; what is asked now is answered by a new one.
    expect((await ask('/next')).body).toBe('body of /next');
    expect(connections.length).toBeGreaterThan(1);
  });

  test('that smuggles a whole answer behind one: it is not taken for what is asked later', async () => {
    script = (socket, { path }) =>
      socket.write(
        path === '/evil' ? `${answer('body of /evil')}${answer('smuggled')}` : answer(`body of ${path}`),
      );
    expect((await ask('/evil')).body).toBe('body of /evil');
    await delay(20);
    expect((await ask('/next')).body).toBe('body of /next');
  });

  test('that closes in the middle of a pipeline, each time: all is answered in the end', async () => {
    script = (socket, { path, number }) => {
      if (number <= 2) socket.write(answer(`body of ${path}`));
      else socket.destroy();
    };
    expect(await askMany(12)).toEqual(bodies(12));
  });

  test('that never answers anything is no endless loop', async () => {
    script = (socket) => socket.destroy();
    const outcome = await askMany(5);
    expect(new Set(outcome)).not.toContain('body of /0');
    expect(connections.length).toBeLessThanOrEqual(20);
  });

  test('that answers once and never again is no endless loop', async () => {
    let answered = false;
    script = (socket, { path }) => {
      if (answered) socket.destroy();
      else socket.write(answer(`body of ${path}`));
      answered = true;
    };
    const [first, ...others] = await askMany(6);
    expect(first).toBe('body of /0');
    expect(others.some((body) => body.startsWith('body'))).toBe(false);
    expect(connections.length).toBeLessThanOrEqual(40);
  });

  test('that falls silent is given up: before its answer, in the head, in the body', async () => {
    client.close();
    client = new PlainHttp({ connections: 1, connectSeconds: 5, idleSeconds: 0.1 });
    for (const beginning of [
      '',
      'HTTP/1.1 200 OK\r\ncont',
      'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc',
    ]) {
      script = (socket) => socket.write(beginning);
      expect((await ask('/')).error).toMatchObject({ code: 'UND_ERR_HEADERS_TIMEOUT' });
    }
  });

  test('where nobody listens', async () => {
    await new Promise((resolve) => server.close(resolve));
    expect((await ask('/')).error).toMatchObject({ code: 'ECONNREFUSED' });
    server = listen();
  });
});

describe('whoever asks', () => {
  test('and gives up in the middle takes nothing from the others', async () => {
    const abort = new AbortController();
    script = (socket, { path }) => {
      if (path === '/slow')
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf', () => abort.abort());
      else socket.write(answer(`body of ${path}`));
    };
    const slow = ask('/slow', { stopAt: abort.signal });
    const others = askMany(5);
    expect((await slow).error?.message).toBe('stopped');
    expect(await others).toEqual(bodies(5));
  });

  test('and gives up before it was sent is not sent', async () => {
    const abort = new AbortController();
    const stopped = ask('/never', { stopAt: abort.signal });
    abort.abort();
    await stopped;
    expect((await ask('/next')).body).toBe('body of /next');
    expect(connections.flat()).toEqual(['/next']);
  });

  test.each(['onHead', 'onData'] as const)('and throws from %s fails alone', async (where) => {
    const thrown = new Error('of the sink');
    const broken = ask('/broken', {
      [where]: () => {
        throw thrown;
      },
    });
    const others = askMany(5);
    expect((await broken).error).toBe(thrown);
    expect(await others).toEqual(bodies(5));
  });

  test('and closes the client gets an error for each request', async () => {
    script = () => undefined;
    const waiting = askMany(12);
    await delay(20);
    client.close();
    expect((await waiting).every((text) => !text.startsWith('body'))).toBe(true);
  });
});
