import { connect, type Socket } from 'node:net';
import { asError, systemCode } from '../core/error.ts';

/*
 * HTTP/1.1 over plain connections, for what mirrors do most: many files with a known length from one server. Requests are
 * pipelined (RFC 9112, 9.3.2) as apt does it, and what comes is read into one buffer that is used again and again, so that a file
 * costs little more than its bytes. An answer of another kind (chunked, without a length, HTTP/1.0, preliminary) is not read here:
 * its server is `Unfit`, and the caller asks it in the general way, which is undici's.
 *
 * Why not undici for all: 5,000 files of 377 MB from nginx on the same machine of two cores, each hashed and written, took 1.53 s
 * this way, and 2.15 s (2.15 to 2.39 with 2, 4 or 8 connections and `pipelining` 1, 4, 8 or 16) by undici 7.30, the best of five;
 * apt-mirror, which checks nothing, took 0.97 s. A run that asks for one small file takes 0.27 s instead of 0.41: undici is
 * not even loaded. Measure again (`npm run bench -- mirror`) when undici changes.
 */

/** How many requests may wait at one connection for their answers. */
const deepest = 8;
const readBuffer = 256 * 1024;
/** The head of an answer that is longer is no answer. */
const longestHead = 64 * 1024;
/** The body of an answer that is of no use is read up to here, so that its connection can serve again. */
const drained = 64 * 1024;
/** How often a request is sent again whose connection closed before any of its answer came. */
const resends = 3;

/** The server answers in a way that is left to the general client. */
export class Unfit extends Error {}

export type PlainHeaders = Readonly<Record<string, string>>;

/** What becomes of one request. Bytes are valid during the call only. */
export interface PlainHandler {
  /** The head of the answer. @returns whether the body is wanted; throws to end it all */
  readonly head: (status: number, headers: PlainHeaders) => boolean;
  readonly data: (chunk: Buffer) => void;
  readonly end: () => void;
  readonly fail: (error: Error) => void;
}

/** Fields whose values decide what the body is. */
const single = new Set(['content-length', 'transfer-encoding', 'content-range', 'location']);
/** A connection that ended between two answers, in whichever way the kernel tells it. */
const endings = new Set(['ECONNRESET', 'EPIPE']);

interface Pending {
  readonly text: string;
  readonly handler: PlainHandler;
  /** How often a connection ended at which it was next. */
  lost: number;
  begun: boolean;
  done: boolean;
}

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/**
 * The status and the headers of an answer (RFC 9112, 2 to 6), names in small letters. A field that may stand once and
 * stands twice with different values is refused: readers that disagree on it disagree on where the answer ends.
 */
function parseHead(text: string): { readonly status: number; readonly headers: PlainHeaders } | Error {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first)?.[1];
  if (status === undefined) return new Unfit('that is no answer of HTTP/1.1');
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const key = line.slice(0, Math.max(0, colon)).toLowerCase();
    // No blank before the colon, no folded lines, no control characters but tabs.
    if (!/^[!#$%&'*+.^_`|~\w-]+$/.test(key) || /[^\t\u0020-\u007e\u0080-\u00ff]/.test(line)) {
      return coded('ERR_HTTP_HEAD', 'a line of its head is no header');
    }
    const value = line.slice(colon + 1).trim();
    const known = headers.get(key);
    if (known !== undefined && known !== value && single.has(key)) {
      return coded('ERR_HTTP_HEAD', `its head has two different values of ${key}`);
    }
    if (known === undefined) headers.set(key, value);
  }
  return { status: Number(status), headers: Object.fromEntries(headers) };
}

/** One connection and the requests whose answers it owes. */
class Connection {
  readonly #server: PlainServer;
  readonly #socket: Socket;
  readonly #queue: Pending[] = [];
  #head = '';
  /** Bytes of the body that are still to come; -1 while the head is read. */
  #left = -1;
  #wanted = false;
  #answered = false;
  /** Whether an answer has come that lets more requests follow. */
  proven = false;
  closed = false;

  constructor(
    server: PlainServer,
    host: string,
    port: number,
    connectMilliseconds: number,
    idleMilliseconds: number,
  ) {
    this.#server = server;
    const buffer = Buffer.allocUnsafe(readBuffer);
    this.#socket = connect({
      host,
      port,
      noDelay: true,
      onread: {
        buffer,
        callback: (bytes: number) => {
          this.#take(buffer.subarray(0, bytes));
          return !this.closed;
        },
      },
    });
    const timer = setTimeout(
      () => this.#fail(coded('UND_ERR_CONNECT_TIMEOUT', 'no answer to the connection')),
      connectMilliseconds,
    );
    this.#socket.once('connect', () => {
      clearTimeout(timer);
      this.#socket.setTimeout(idleMilliseconds);
    });
    this.#socket.on('timeout', () => {
      if (this.#queue.length === 0) this.destroy();
      else this.#fail(coded('UND_ERR_HEADERS_TIMEOUT', 'the server fell silent'));
    });
    this.#socket.once('error', (error) => this.#fail(error));
    this.#socket.once('close', () => {
      clearTimeout(timer);
      this.#fail(undefined);
    });
  }

  get waiting(): number {
    return this.#queue.length;
  }

  send(requests: readonly Pending[]): void {
    this.#queue.push(...requests);
    this.#socket.ref();
    this.#socket.write(requests.map(({ text }) => text).join(''), 'latin1');
  }

  /** Ends the connection; what it owes is asked for elsewhere. */
  destroy(): void {
    this.#fail(undefined);
  }

  /** Ends one request; one that is being answered, or is to be, takes its connection with it. */
  drop(request: Pending): void {
    request.done = true;
    if (this.#queue.includes(request)) this.destroy();
  }

  /** @param error what befell the request that is being answered; undefined: the connection just ended */
  #fail(error: Error | undefined): void {
    if (this.closed) return;
    this.closed = true;
    this.#socket.destroy();
    const queue = this.#queue.splice(0);
    const [first, ...others] = queue;
    const again: Pending[] = others;
    if (first !== undefined && !first.done) {
      const ended = error === undefined || endings.has(systemCode(error) ?? '');
      if (ended && !first.begun && first.lost < resends && this.#answered) {
        first.lost += 1;
        again.unshift(first);
      } else {
        first.done = true;
        first.handler.fail(error ?? coded('UND_ERR_SOCKET', 'other side closed'));
      }
    }
    this.#server.lost(
      this,
      again.filter(({ done }) => !done),
    );
  }

  #take(piece: Buffer): void {
    let bytes = piece;
    while (bytes.length > 0 && !this.closed) {
      const request = this.#queue[0];
      if (request === undefined) {
        // Nobody has asked for this.
        this.destroy();
        return;
      }
      bytes = this.#left === -1 ? this.#takeHead(request, bytes) : this.#takeBody(request, bytes);
    }
  }

  #takeHead(request: Pending, bytes: Buffer): Buffer {
    request.begun = true;
    const before = this.#head.length;
    const text = this.#head + bytes.toString('latin1', 0, Math.min(bytes.length, longestHead));
    const end = text.indexOf('\r\n\r\n', Math.max(0, before - 3));
    if (end === -1) {
      this.#head = text;
      if (text.length > longestHead) this.#fail(new Unfit('the head of the answer has no end'));
      return bytes.subarray(Math.min(bytes.length, longestHead));
    }
    this.#head = '';
    const rest = bytes.subarray(end + 4 - before);
    const parsed = parseHead(text.slice(0, end));
    if (parsed instanceof Error) {
      this.#fail(parsed);
      return rest;
    }
    const { status: code, headers } = parsed;
    const bodiless = code === 304 || code === 204;
    const length = headers['content-length'] ?? (bodiless ? '0' : '');
    const unknown = headers['transfer-encoding'] !== undefined || !/^\d{1,15}$/.test(length);
    if (code < 200 || (unknown && (code === 200 || code === 206))) {
      this.#fail(new Unfit('the answer has no length'));
      return rest;
    }
    // Of an error page without a length nothing is read: its connection ends.
    this.#left = bodiless ? 0 : unknown ? Number.POSITIVE_INFINITY : Number(length);
    this.proven = headers['connection']?.toLowerCase() !== 'close';
    try {
      this.#wanted = request.handler.head(code, headers);
    } catch (error) {
      this.#fail(asError(error));
      return rest;
    }
    if (this.#left === 0) this.#finish(request);
    else if (!this.#wanted && this.#left > drained) {
      // Reading on would cost more than a new connection.
      request.done = true;
      request.handler.end();
      this.destroy();
    }
    return rest;
  }

  #takeBody(request: Pending, bytes: Buffer): Buffer {
    const part = bytes.length > this.#left ? bytes.subarray(0, this.#left) : bytes;
    this.#left -= part.length;
    if (this.#wanted) {
      try {
        request.handler.data(part);
      } catch (error) {
        this.#fail(asError(error));
        return bytes.subarray(part.length);
      }
    }
    if (this.#left === 0) this.#finish(request);
    return bytes.subarray(part.length);
  }

  #finish(request: Pending): void {
    this.#left = -1;
    this.#queue.shift();
    this.#answered = true;
    request.done = true;
    request.handler.end();
    if (!this.proven) this.destroy();
    else this.#server.free(this);
    // An idle connection keeps nothing from ending.
    if (!this.closed && this.#queue.length === 0) this.#socket.unref();
  }
}

export interface PlainOptions {
  readonly connections: number;
  readonly connectSeconds: number;
  readonly idleSeconds: number;
}

/** The connections to one server. */
class PlainServer {
  readonly #host: string;
  readonly #port: number;
  readonly #options: PlainOptions;
  readonly #connections = new Set<Connection>();
  #waiting: Pending[] = [];
  /** A server that drops pipelined requests gets one at a time. */
  #depth = deepest;
  #scheduled = false;

  constructor(origin: URL, options: PlainOptions) {
    this.#host = origin.hostname.replaceAll(/^\[|\]$/g, '');
    this.#port = Number(origin.port === '' ? 80 : origin.port);
    this.#options = options;
  }

  ask(text: string, handler: PlainHandler): () => void {
    const request: Pending = { text, handler, lost: 0, begun: false, done: false };
    this.#waiting.push(request);
    this.#schedule();
    return () => {
      request.done = true;
      for (const connection of this.#connections) connection.drop(request);
    };
  }

  /** Requests that are made in one go are written in one go. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#serve();
    });
  }

  #serve(): void {
    this.#waiting = this.#waiting.filter(({ done }) => !done);
    for (const connection of this.#connections) this.free(connection);
    while (this.#waiting.length > 0 && this.#connections.size < this.#options.connections) {
      const { connectSeconds, idleSeconds } = this.#options;
      const connection = new Connection(
        this,
        this.#host,
        this.#port,
        connectSeconds * 1000,
        idleSeconds * 1000,
      );
      this.#connections.add(connection);
      connection.send(this.#waiting.splice(0, 1));
    }
  }

  /** A connection has room for more. */
  free(connection: Connection): void {
    if (connection.closed || this.#waiting.length === 0) return;
    const depth = connection.proven ? this.#depth : 1;
    // Half empty: so that requests go in groups.
    if (connection.waiting > depth / 2) return;
    const room = depth - connection.waiting;
    const share = Math.ceil(this.#waiting.length / this.#options.connections);
    if (room > 0) connection.send(this.#waiting.splice(0, Math.max(1, Math.min(room, share))));
  }

  lost(connection: Connection, owed: readonly Pending[]): void {
    this.#connections.delete(connection);
    if (owed.length > 1) this.#depth = Math.max(1, Math.floor(this.#depth / 2));
    this.#waiting.unshift(...owed);
    if (this.#waiting.length > 0) this.#schedule();
  }

  close(): void {
    const error = new Error('closed');
    for (const request of this.#waiting.splice(0)) request.handler.fail(error);
    for (const connection of this.#connections) connection.destroy();
  }
}

/** Connections by server. */
export class PlainHttp {
  readonly #servers = new Map<string, PlainServer>();
  readonly #options: PlainOptions;

  constructor(options: PlainOptions) {
    this.#options = options;
  }

  /** Asks for a file. @returns what ends the request early */
  ask(url: URL, headers: PlainHeaders, handler: PlainHandler): () => void {
    let server = this.#servers.get(url.origin);
    if (server === undefined) {
      server = new PlainServer(url, this.#options);
      this.#servers.set(url.origin, server);
    }
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return server.ask(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\n${lines.join('')}\r\n`,
      handler,
    );
  }

  close(): void {
    for (const server of this.#servers.values()) server.close();
  }
}
