import { createReadStream } from 'node:fs';
import { constants, open, realpath } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { isAbsent } from './files.ts';

export interface ServeOptions {
  readonly host: string;
  readonly port: number;
}

export interface Serving {
  /** Where it answers: `http://127.0.0.1:3142`. */
  readonly url: string;
  readonly close: () => Promise<void>;
}

/** What the names of a request's path lead to: a file that must lie below a directory (a real path), or a text. */
export type Offered = { readonly within: string; readonly path: string } | { readonly text: string };

/** Says what is offered at a path, whose names are neither empty nor hidden; undefined where there is nothing. */
export type Offer = (names: readonly string[]) => Promise<Offered | undefined>;

/** A file that may be served, opened. */
interface Served {
  readonly handle: Awaited<ReturnType<typeof open>>;
  readonly size: number;
  readonly modified: Date;
  readonly etag: string;
}

/** The names of a request's path, or undefined for what is refused. */
function namesOf(url: string): readonly string[] | undefined {
  let path: string;
  try {
    // "%3a" in the name of a file is written "%253a" in an address.
    path = decodeURIComponent(url.split(/[?#]/)[0] ?? '');
  } catch {
    return undefined;
  }
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  const refused = names.some((name) => name.startsWith('.') || /[\u0000-\u001f\u007f\\]/.test(name));
  return refused || names.length === 0 ? undefined : names;
}

/** What a client may ask for although it is not there. */
function isNothing(error: unknown): boolean {
  return isAbsent(error) || ['ELOOP', 'EACCES', 'ENAMETOOLONG'].includes(systemCode(error) ?? '');
}

/** The path without links, or undefined where nothing is, or nothing for us. */
export async function realPath(path: string): Promise<string | undefined> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isNothing(error)) return undefined;
    throw error;
  }
}

/** Opens a file, if it stays within its directory. */
async function openWithin({ within, path }: Extract<Offered, { path: string }>): Promise<Served | undefined> {
  try {
    const real = await realpath(path);
    if (!real.startsWith(`${within}/`)) return undefined;
    // What was resolved holds no links: one that appears now is not followed.
    const handle = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const info = await handle.stat();
    if (!info.isFile()) {
      await handle.close();
      return undefined;
    }
    const etag = `"${info.ino.toString(16)}-${info.size.toString(16)}-${Math.round(info.mtimeMs).toString(16)}"`;
    return { handle, size: info.size, modified: info.mtime, etag };
  } catch (error) {
    if (isNothing(error)) return undefined;
    throw error;
  }
}

/** Whether the client has this very file (RFC 9110, 13.2.2: If-None-Match counts before If-Modified-Since). */
function isUnchanged({ headers }: IncomingMessage, { etag, modified }: Served): boolean {
  const match = headers['if-none-match'];
  if (match !== undefined) {
    return match === '*' || match.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
  }
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return Number.isFinite(since) && Math.floor(modified.getTime() / 1000) * 1000 <= since;
}

/** The part of a file that a Range header asks for (RFC 9110, 14.1.2); "none" where it is not to be had. */
function rangeOf(
  { headers }: IncomingMessage,
  { size, etag, modified }: Served,
): { readonly start: number; readonly end: number } | 'none' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '');
  if (match === null || (match[1] === '' && match[2] === '')) return undefined;
  const condition = headers['if-range'];
  // A part of another file is of no use.
  if (condition !== undefined && condition !== etag && condition !== modified.toUTCString()) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') {
    const length = Math.min(Number(last), size);
    return length === 0 ? 'none' : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1);
  return start >= size || start > end ? 'none' : { start, end };
}

async function answer(offer: Offer, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const end = (status: number, text: string, headers: Record<string, string> = {}): void => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers });
    response.end(request.method === 'HEAD' ? undefined : `${text}\n`);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    end(405, 'only GET and HEAD', { allow: 'GET, HEAD' });
    return;
  }
  const names = namesOf(request.url ?? '/');
  const offered = names === undefined ? undefined : await offer(names);
  if (offered !== undefined && 'text' in offered) {
    end(200, offered.text.trimEnd(), { 'cache-control': 'no-cache' });
    return;
  }
  const file = offered === undefined ? undefined : await openWithin(offered);
  if (file === undefined) {
    end(404, 'there is no such file');
    return;
  }
  const headers: Record<string, string> = {
    'accept-ranges': 'bytes',
    'content-type': 'application/octet-stream',
    etag: file.etag,
    'last-modified': file.modified.toUTCString(),
  };
  const range = rangeOf(request, file);
  const finish = async (status: number, more: Record<string, string>): Promise<void> => {
    await file.handle.close();
    response.writeHead(status, { ...headers, ...more }).end();
  };
  if (isUnchanged(request, file)) await finish(304, {});
  else if (range === 'none') await finish(416, { 'content-range': `bytes */${file.size}` });
  else {
    const { start, end: last } = range ?? { start: 0, end: file.size - 1 };
    headers['content-length'] = String(last - start + 1);
    if (range !== undefined) headers['content-range'] = `bytes ${start}-${last}/${file.size}`;
    const status = range === undefined ? 200 : 206;
    if (request.method === 'HEAD' || file.size === 0) await finish(status, {});
    else {
      response.writeHead(status, headers);
      const stream = createReadStream('', {
        fd: file.handle,
        start,
        end: last,
        highWaterMark: 256 * 1024,
      });
      stream.once('error', () => response.destroy());
      response.once('close', () => stream.destroy());
      stream.pipe(response);
    }
  }
}

async function listen(server: Server, { host, port }: ServeOptions): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new TypeError('the server has no port');
  return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
}

/** Reports each answer when it is over: who asked, for what, the status, and how many bytes went out for it. */
function reportAccess(request: IncomingMessage, response: ServerResponse, context: Context): void {
  const { socket } = request;
  const client = socket.remoteAddress ?? '-';
  const before = socket.bytesWritten;
  response.once('close', () => {
    const whole = response.writableFinished ? '' : ' (broken off)';
    // What a client sends must not break the line.
    const url = JSON.stringify(request.url ?? '').slice(1, -1);
    const message = `${client} ${request.method ?? ''} ${url} ${response.statusCode} ${socket.bytesWritten - before}${whole}`;
    context.emit({ event: 'note', source: 'access', message });
  });
}

/**
 * Answers GET and HEAD for what `offer` knows, with ranges and conditional requests (RFC 9110). Nothing is listed, names that
 * begin with a dot are refused, and no link leads out of the directory that a file must lie in.
 * @param options where it listens, and whether each answer is reported as a note of the source "access"
 * @throws ReliveError `host-unable` when the address is taken or not ours
 */
export async function serveFiles(
  offer: Offer,
  options: ServeOptions & { readonly access: boolean },
  context: Context,
): Promise<Serving> {
  const server = createServer((request, response) => {
    if (options.access) reportAccess(request, response, context);
    answer(offer, request, response).catch((error: unknown) => {
      context.emit({ event: 'warning', message: `${request.url ?? ''}: ${String(error)}` });
      response.destroy();
    });
  });
  try {
    const url = await listen(server, options);
    return {
      url,
      close: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  } catch (error) {
    throw new ReliveError(
      'host-unable',
      `cannot serve on ${options.host}, port ${options.port} (${systemCode(error) ?? ''})`,
      {
        hint: 'choose another address with --listen ADDRESS:PORT',
        cause: error,
      },
    );
  }
}
