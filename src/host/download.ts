import { createHash, type Hash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { messageOf, ReliveError, systemCode } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { version } from '../core/version.ts';
import { explainDiskFull } from './files.ts';

const readBuffer = 1024 * 1024;
const maximumRedirects = 5;
/** Progress is reported no more often than this. */
const reportMilliseconds = 100;
/** A source that delivered wrong content is asked once more; a source that does so twice is given up. */
const wrongContentAllowed = 2;

export interface TransportOptions {
  /** Connections to one host at a time. */
  readonly connections?: number;
  readonly connectSeconds?: number;
  /** How long a server may stay silent in the middle of an answer. */
  readonly idleSeconds?: number;
  /** How often the sources of a file are gone through before it is given up. */
  readonly rounds?: number;
  /** The pause before the second round; each further one is twice as long. */
  readonly pauseSeconds?: number;
}

/** What a downloaded file must be; a file that is anything else never appears. */
export interface Expected {
  /** Bytes. */
  readonly size: number;
  readonly algorithm: 'sha256' | 'sha512';
  /** Hexadecimal, lower case. */
  readonly digest: string;
}

/** One file to bring here. */
export interface DownloadRequest {
  /** Addresses (http, https, file), in the order in which they are tried. */
  readonly sources: readonly string[];
  readonly target: string;
  readonly expected: Expected;
}

/** What lets a server say "unchanged". */
export interface Validators {
  readonly url: string;
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
}

/** What became of the request for a document whose content nobody knows yet. */
export type FetchedDocument =
  | { readonly state: 'unchanged' }
  | { readonly state: 'absent' }
  | {
      readonly state: 'fetched';
      readonly body: Buffer;
      readonly url: string;
      readonly validators: Validators;
    };

export interface DownloadSummary {
  readonly files: number;
  /** Bytes that came over the line. */
  readonly bytes: number;
  /** Files which no source has, or which every source delivers wrong. */
  readonly failures: readonly { readonly request: DownloadRequest; readonly error: ReliveError }[];
}

/**
 * Why one source did not deliver:
 * absent: it says that it has no such file
 * refused: asking it again will not help
 * unreachable: no connection came about
 * broken: the answer broke off, or the server had trouble; asking again may help
 * wrong: it delivered something else than what is expected
 */
class SourceFailure extends Error {
  readonly kind: 'absent' | 'refused' | 'unreachable' | 'broken' | 'wrong';
  readonly url: string;

  constructor(kind: SourceFailure['kind'], url: string, reason: string, cause?: unknown) {
    super(reason, { cause });
    this.kind = kind;
    this.url = url;
  }
}

/** An answer: its bytes from `offset` on. */
interface Answer {
  readonly offset: number;
  readonly length: number | undefined;
  readonly validators: Validators;
  readonly body: AsyncIterable<Uint8Array>;
  /** Lets go of a body that will not be read. */
  readonly discard: () => Promise<void>;
}

const unreachableCodes = new Set([
  ...['ENOTFOUND', 'EAI_AGAIN', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH', 'ENETDOWN', 'ETIMEDOUT'],
  'UND_ERR_CONNECT_TIMEOUT',
]);
const unreachableReasons: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the name of the host is unknown',
  EAI_AGAIN: 'the name of the host cannot be resolved',
  ECONNREFUSED: 'the connection is refused',
  ENETUNREACH: 'there is no way to its network',
  EHOSTUNREACH: 'there is no way to the host',
  ENETDOWN: 'the network is down',
  ETIMEDOUT: 'no answer to the connection',
  UND_ERR_CONNECT_TIMEOUT: 'no answer to the connection',
};

/** The failure for an error of the network; a refused certificate is final. */
function failureOf(error: unknown, url: string): SourceFailure {
  if (error instanceof SourceFailure) return error;
  const code = systemCode(error) ?? '';
  if (unreachableCodes.has(code)) {
    return new SourceFailure('unreachable', url, unreachableReasons[code] ?? messageOf(error), error);
  }
  if (/CERT|UNABLE_TO_|SELF_SIGNED|ERR_TLS|ERR_SSL/.test(code)) {
    return new SourceFailure(
      'refused',
      url,
      `the encrypted connection is refused: ${messageOf(error)}`,
      error,
    );
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    return new SourceFailure('broken', url, 'the server fell silent', error);
  }
  return new SourceFailure('broken', url, `the answer broke off: ${messageOf(error)}`, error);
}

function headerOf(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  name: string,
): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** An iteration over a body whose errors say which source they are about. */
async function* guarded(
  body: AsyncIterable<Uint8Array>,
  url: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    signal.throwIfAborted();
    throw failureOf(error, url);
  }
}

async function* readHandle(
  handle: FileHandle,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.allocUnsafe(readBuffer);
  for (let at = from; ; ) {
    signal.throwIfAborted();
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function writeWhole(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const result = await handle.write(bytes, written, bytes.length - written, position + written);
    written += result.bytesWritten;
  }
}

/** The name beside `target` which an unfinished download has; the next run that wants the same content goes on with it. */
function partialPath({ target, expected }: DownloadRequest): string {
  return join(dirname(target), `.part-${basename(target).slice(0, 200)}-${expected.digest.slice(0, 16)}`);
}

/** The hash over the first `size` bytes of a file. */
async function hashStart(
  handle: FileHandle,
  size: number,
  algorithm: string,
  signal: AbortSignal,
): Promise<Hash> {
  const hash = createHash(algorithm);
  if (size > 0) for await (const chunk of readHandle(handle, 0, signal)) hash.update(chunk);
  return hash;
}

/**
 * An address below a base address: each name of `path` is encoded, as object stores want it ("+" as %2B), and
 * nothing in it is decoded ("%3a" in the name of a package stays what it is).
 */
export function addressOf(base: string, path: string): string {
  return `${base.replace(/\/+$/, '')}/${path.split('/').map(encodeURIComponent).join('/')}`;
}

/**
 * Brings files over HTTP, HTTPS and `file:`, over connections that stay open, through the proxies that http_proxy,
 * https_proxy and no_proxy name. To be closed when it is not needed any more.
 */
export class Transport {
  readonly #agent: EnvHttpProxyAgent;
  readonly #settings: Required<TransportOptions>;
  /** Whether any server has answered yet: if so, a network that fails now may come back. */
  #answered = false;

  constructor(options: TransportOptions = {}) {
    this.#settings = {
      connections: 8,
      connectSeconds: 15,
      idleSeconds: 30,
      rounds: 4,
      pauseSeconds: 0.5,
      ...options,
    };
    const { connections, connectSeconds, idleSeconds } = this.#settings;
    this.#agent = new EnvHttpProxyAgent({
      connections,
      connect: { timeout: connectSeconds * 1000 },
      headersTimeout: idleSeconds * 1000,
      bodyTimeout: idleSeconds * 1000,
      keepAliveTimeout: 10_000,
    });
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  /** Asks one source for a file from `offset` on. @throws SourceFailure, or undefined for "unchanged" */
  async #ask(
    url: string,
    offset: number,
    signal: AbortSignal,
    validators?: Validators,
    noCache = false,
  ): Promise<Answer | undefined> {
    if (url.startsWith('file:')) return await this.#openFile(url, offset, signal);
    const headers: Record<string, string> = {
      'user-agent': `relive/${version}`,
      'accept-encoding': 'identity',
    };
    if (offset > 0) headers['range'] = `bytes=${offset}-`;
    if (noCache) headers['cache-control'] = 'no-cache';
    if (validators?.url === url) {
      if (validators.etag !== undefined) headers['if-none-match'] = validators.etag;
      else if (validators.lastModified !== undefined) headers['if-modified-since'] = validators.lastModified;
    }
    let at = new URL(url);
    for (let redirects = 0; redirects <= maximumRedirects; redirects += 1) {
      const answer = await this.#request(at, headers, url, signal);
      const location = headerOf(answer.headers, 'location');
      if ([301, 302, 303, 307, 308].includes(answer.statusCode) && location !== undefined) {
        await answer.body.dump();
        at = redirected(at, location, url);
        continue;
      }
      if (answer.statusCode === 304) {
        await answer.body.dump();
        if (validators !== undefined) return undefined;
      }
      return await this.#accept(answer, url, offset, signal);
    }
    throw new SourceFailure('refused', url, `it redirects more than ${maximumRedirects} times`);
  }

  async #request(
    at: URL,
    headers: Record<string, string>,
    url: string,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    try {
      const answer = await this.#agent.request({
        origin: at.origin,
        path: `${at.pathname}${at.search}`,
        method: 'GET',
        headers,
        signal,
      });
      this.#answered = true;
      return answer;
    } catch (error) {
      signal.throwIfAborted();
      throw failureOf(error, url);
    }
  }

  /** Judges status and headers of an answer. */
  async #accept(
    { statusCode, headers, body }: Dispatcher.ResponseData,
    url: string,
    offset: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    const discard = async (): Promise<void> => {
      // Reading on would cost more than a new connection.
      body.on('error', () => undefined);
      await Promise.resolve(body.destroy());
    };
    if (statusCode !== 200 && statusCode !== 206) {
      await body.dump();
      if (statusCode === 416)
        throw new SourceFailure('wrong', url, 'it has less than what is here already (416)');
      const again = statusCode >= 500 || [408, 425, 429].includes(statusCode);
      const absent = statusCode === 404 || statusCode === 410;
      throw new SourceFailure(
        again ? 'broken' : absent ? 'absent' : 'refused',
        url,
        `it answers with status ${statusCode}`,
      );
    }
    let begins = 0;
    if (statusCode === 206) {
      const range = /^bytes (\d+)-/.exec(headerOf(headers, 'content-range') ?? '');
      begins = Number(range?.[1] ?? Number.NaN);
      if (begins !== offset) {
        await discard();
        throw new SourceFailure('wrong', url, 'it delivers another part than the one that was asked for');
      }
    }
    const length = Number(headerOf(headers, 'content-length') ?? Number.NaN);
    return {
      offset: begins,
      length: Number.isSafeInteger(length) ? length : undefined,
      validators: { url, etag: headerOf(headers, 'etag'), lastModified: headerOf(headers, 'last-modified') },
      body: guarded(body as AsyncIterable<Uint8Array>, url, signal),
      discard,
    };
  }

  async #openFile(url: string, offset: number, signal: AbortSignal): Promise<Answer> {
    let handle: FileHandle;
    try {
      handle = await open(fileURLToPath(url), 'r');
    } catch (error) {
      const code = systemCode(error);
      const absent = code === 'ENOENT' || code === 'ENOTDIR';
      const reason = absent ? 'there is no such file' : messageOf(error);
      throw new SourceFailure(absent ? 'absent' : 'refused', url, reason, error);
    }
    const info = await handle.stat();
    if (!info.isFile()) {
      await handle.close();
      throw new SourceFailure('refused', url, 'that is no regular file');
    }
    this.#answered = true;
    return {
      offset,
      length: Math.max(0, info.size - offset),
      validators: { url, etag: undefined, lastModified: undefined },
      body: closing(guarded(readHandle(handle, offset, signal), url, signal), handle),
      discard: async () => await handle.close(),
    };
  }

  /**
   * Goes through the sources, round after round, until one delivers.
   * @throws ReliveError `no-network`, `download-failed`; what `signal` was aborted with
   */
  async #fromAny<T>(
    what: string,
    sources: readonly string[],
    signal: AbortSignal,
    attempt: (url: string, noCache: boolean) => Promise<T>,
  ): Promise<T> {
    const failed = new Map<string, SourceFailure>();
    const wrong = new Map<string, number>();
    const { rounds, pauseSeconds } = this.#settings;
    for (let round = 0; round < rounds; round += 1) {
      const left = sources.filter((url) => {
        const kind = failed.get(url)?.kind;
        return kind !== 'absent' && kind !== 'refused' && (wrong.get(url) ?? 0) < wrongContentAllowed;
      });
      const allUnreachable = left.every((url) => failed.get(url)?.kind === 'unreachable');
      // Where nothing has ever answered, more patience helps nobody.
      if (left.length === 0 || (round > 1 && allUnreachable && !this.#answered)) break;
      if (round > 0) {
        // The jitter keeps many downloads from coming back all at once.
        const seconds = pauseSeconds * 2 ** (round - 1) * (0.75 + Math.random() / 2);
        await delay(seconds * 1000, undefined, { signal }).catch(() => undefined);
        signal.throwIfAborted();
      }
      for (const url of left) {
        try {
          return await attempt(url, (wrong.get(url) ?? 0) > 0);
        } catch (error) {
          if (!(error instanceof SourceFailure)) throw error;
          failed.set(url, error);
          if (error.kind === 'wrong') wrong.set(url, (wrong.get(url) ?? 0) + 1);
        }
      }
    }
    throw explain(what, [...failed.values()]);
  }

  /**
   * Brings a small document whose content nobody knows yet (an InRelease): into memory, not more than `maximumSize` bytes.
   * @param validators what the last answer came with: the server that gave them may answer "unchanged"
   * @returns state `absent` when every source says that it has no such file
   * @throws ReliveError `no-network`, `download-failed`, or what the signal was aborted with
   */
  async document(
    sources: readonly string[],
    options: {
      readonly maximumSize: number;
      readonly validators?: Validators | undefined;
      readonly noCache?: boolean;
    },
    { signal }: Pick<Context, 'signal'>,
  ): Promise<FetchedDocument> {
    const what = basename(new URL(sources[0] ?? 'file:///').pathname);
    let absent = 0;
    const attempt = async (url: string, noCache: boolean): Promise<FetchedDocument> => {
      const answer = await this.#ask(
        url,
        0,
        signal,
        options.validators,
        noCache || options.noCache === true,
      ).catch((error: unknown) => {
        if (error instanceof SourceFailure && error.kind === 'absent') absent += 1;
        throw error;
      });
      if (answer === undefined) return { state: 'unchanged' };
      const chunks: Uint8Array[] = [];
      let size = 0;
      for await (const chunk of answer.body) {
        size += chunk.length;
        if (size > options.maximumSize) {
          throw new SourceFailure(
            'refused',
            url,
            `it is larger than the ${options.maximumSize} bytes allowed`,
          );
        }
        chunks.push(Uint8Array.from(chunk));
      }
      if (answer.length !== undefined && answer.length !== size) {
        throw new SourceFailure(
          'broken',
          url,
          `the answer broke off after ${size} of ${answer.length} bytes`,
        );
      }
      return { state: 'fetched', body: Buffer.concat(chunks), url, validators: answer.validators };
    };
    try {
      return await this.#fromAny(what, sources, signal, attempt);
    } catch (error) {
      if (absent === sources.length && error instanceof ReliveError) return { state: 'absent' };
      throw error;
    }
  }

  /**
   * Brings one file: under a temporary name, hashed while it is written, renamed when it is what it must be. A part
   * that an earlier run left is hashed and gone on with.
   * @param onBytes told how many bytes came; negative when a part had to be thrown away
   * @returns the bytes that came over the line
   * @throws ReliveError `no-network`, `download-failed`, `disk-full`, or what the signal was aborted with
   */
  async download(
    request: DownloadRequest,
    { signal }: Pick<Context, 'signal'>,
    onBytes: (bytes: number) => void = () => undefined,
  ): Promise<number> {
    const { target, expected, sources } = request;
    const partial = partialPath(request);
    let transferred = 0;
    let counted = 0;
    const count = (bytes: number): void => {
      counted += bytes;
      onBytes(bytes);
    };
    const attempt = async (url: string, noCache: boolean): Promise<void> => {
      const handle = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o644);
      try {
        let offset = (await handle.stat()).size;
        if (offset > expected.size) offset = 0;
        let hash = await hashStart(handle, offset, expected.algorithm, signal);
        const startAgain = async (): Promise<void> => {
          await handle.truncate(0);
          count(-counted);
          offset = 0;
          hash = createHash(expected.algorithm);
        };
        if (offset === 0) await startAgain();
        else count(offset - counted);
        if (offset < expected.size || offset === 0) {
          const answer = await this.#ask(url, offset, signal, undefined, noCache);
          if (answer === undefined)
            throw new SourceFailure('broken', url, 'it answers "unchanged" without being asked');
          if (answer.offset !== offset) await startAgain();
          if (answer.length !== undefined && offset + answer.length !== expected.size) {
            await answer.discard();
            throw new SourceFailure(
              'wrong',
              url,
              `it has ${offset + answer.length} bytes where ${expected.size} are expected`,
            );
          }
          for await (const chunk of answer.body) {
            if (offset + chunk.length > expected.size) {
              throw new SourceFailure('wrong', url, `it has more than the ${expected.size} bytes expected`);
            }
            hash.update(chunk);
            await writeWhole(handle, chunk, offset);
            offset += chunk.length;
            transferred += chunk.length;
            count(chunk.length);
          }
          if (offset < expected.size) {
            throw new SourceFailure(
              'broken',
              url,
              `the answer broke off after ${offset} of ${expected.size} bytes`,
            );
          }
        }
        const digest = hash.digest('hex');
        if (digest !== expected.digest) {
          throw new SourceFailure(
            'wrong',
            url,
            `its content has the ${expected.algorithm.toUpperCase()} ${digest} where ${expected.digest} is expected`,
          );
        }
      } catch (error) {
        // A part that is wrong must not be gone on with.
        if (error instanceof SourceFailure && error.kind === 'wrong') await handle.truncate(0);
        throw explainDiskFull(error, target);
      } finally {
        await handle.close();
      }
      await rename(partial, target);
    };
    await mkdir(dirname(target), { recursive: true });
    try {
      await this.#fromAny(target, sources, signal, attempt);
      return transferred;
    } catch (error) {
      count(-counted);
      // What could only be fetched wrong is of no use to the next run either; what broke off is.
      if (await isEmpty(partial)) await rm(partial, { force: true });
      throw error;
    }
  }

  /**
   * Brings many files, in parallel. Files that fail are collected, so that one that is missing upstream does not hold
   * up the others; where there is no network, no space, or an interrupt, everything ends at once.
   * @param stage the name under which it is reported, with its progress in bytes; nothing is where nothing is to do
   * @throws ReliveError `no-network`, `disk-full`, or what the signal was aborted with
   */
  async downloadAll(
    requests: readonly DownloadRequest[],
    stage: string,
    context: Context,
    options: { readonly parallel?: number } = {},
  ): Promise<DownloadSummary> {
    if (requests.length === 0) return { files: 0, bytes: 0, failures: [] };
    return await inStage(context, stage, async () => {
      return await this.#downloadAll(requests, stage, context, options);
    });
  }

  async #downloadAll(
    requests: readonly DownloadRequest[],
    stage: string,
    context: Context,
    options: { readonly parallel?: number },
  ): Promise<DownloadSummary> {
    const total = requests.reduce((sum, { expected }) => sum + expected.size, 0);
    const failures: { request: DownloadRequest; error: ReliveError }[] = [];
    // One controller for all: when one ends everything, the others stop too.
    const stop = new AbortController();
    const signal = AbortSignal.any([context.signal, stop.signal]);
    setMaxListeners(0, signal);
    let [done, bytes, next, reported] = [0, 0, 0, 0];
    const report = (item: string, force: boolean): void => {
      const now = performance.now();
      if (!force && now - reported < reportMilliseconds) return;
      reported = now;
      context.emit({ event: 'progress', stage, done, total, unit: 'bytes', item });
    };
    const work = async (): Promise<void> => {
      while (next < requests.length) {
        const request = requests[next];
        next += 1;
        if (request === undefined) continue;
        const item = basename(request.target);
        try {
          const came = await this.download(request, { signal }, (more) => {
            done += more;
            report(item, false);
          });
          bytes += came;
        } catch (error) {
          if (!(error instanceof ReliveError) || error.code !== 'download-failed') {
            stop.abort(error);
            throw error;
          }
          failures.push({ request, error });
        }
      }
    };
    const workers = Array.from({ length: options.parallel ?? this.#settings.connections }, work);
    const results = await Promise.allSettled(workers);
    context.signal.throwIfAborted();
    const broken = results.find(({ status }) => status === 'rejected');
    if (broken?.status === 'rejected') throw stop.signal.aborted ? stop.signal.reason : broken.reason;
    report('', true);
    return { files: requests.length - failures.length, bytes, failures };
  }
}

async function isEmpty(path: string): Promise<boolean> {
  try {
    const handle = await open(path, 'r');
    try {
      return (await handle.stat()).size === 0;
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

async function* closing(body: AsyncIterable<Uint8Array>, handle: FileHandle): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } finally {
    await handle.close();
  }
}

/** Where a redirect leads: never from encrypted to plain, never to a local file. */
function redirected(from: URL, location: string, url: string): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (target === undefined || !['http:', 'https:'].includes(target.protocol)) {
    throw new SourceFailure('refused', url, `it redirects to ${JSON.stringify(location)}`);
  }
  if (from.protocol === 'https:' && target.protocol === 'http:') {
    throw new SourceFailure(
      'refused',
      url,
      `it redirects from an encrypted to a plain connection (${target.origin})`,
    );
  }
  return target;
}

/** The error for the user when no source delivered. */
function explain(what: string, failures: readonly SourceFailure[]): ReliveError {
  const hosts = [...new Set(failures.map(({ url }) => new URL(url).host))];
  if (failures.length > 0 && failures.every(({ kind }) => kind === 'unreachable')) {
    return new ReliveError('no-network', `cannot reach ${hosts.join(', ')}: ${failures[0]?.message ?? ''}`, {
      hint: 'check the network, the url of the repository and http_proxy, then start again: what was fetched is kept',
      cause: failures[0],
    });
  }
  const told = failures.map(({ url, message }) => `    ${url}: ${message}`);
  return new ReliveError('download-failed', `cannot fetch ${what}\n${told.join('\n')}`, {
    hint: failures.some(({ kind }) => kind === 'broken' || kind === 'unreachable')
      ? 'start again later: what was fetched is kept; a second url in the repository would serve as a fallback'
      : 'upstream does not have what its index promises: it may be in the middle of an update; try again later',
    cause: failures[0],
  });
}
