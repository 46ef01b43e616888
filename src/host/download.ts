import { createHash, type Hash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { withScratchDirectory } from './anonymous.ts';
import { hostCredentials } from './credentials.ts';
import { DownloadCrew } from './download-crew.ts';
import type { DownloadListener, DownloadRequest, Expected, TransportOptions } from './download-request.ts';
import { Exchange, type Validators } from './exchange.ts';
import { explainDiskFull } from './files.ts';
import { rsyncFile, rsyncFiles } from './rsync.ts';
import { SourceFailure } from './source-failure.ts';

export type { DownloadRequest, Expected, TransportOptions } from './download-request.ts';
export type { Validators } from './exchange.ts';

const readBuffer = 1024 * 1024;
/** Files that are asked for at each connection at a time. */
const requestsAhead = 8;
/** A file whose size nobody knows beforehand (an installer image) must end somewhere. */
const largestUnknown = 16 * 1024 ** 3;
/** From this many bytes on, in files of this size on average, threads are worth their start: small files are more talk than work. */
const manyBytes = 64 * 1024 * 1024;
const largeFile = 256 * 1024;
/** Progress is reported no more often than this. */
const reportMilliseconds = 100;
/** A source that delivered wrong content is asked once more; a source that does so twice is given up. */
const wrongContentAllowed = 2;
/** A server that wants a longer pause than this is given up. */
const longestPause = 120;
/** How long an unreachable server is asked last. */
const downMilliseconds = 60_000;

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
 * An address below a base address: each name of `path` is encoded, as object stores want it ("+" as %2B), and
 * nothing in it is decoded ("%3a" in the name of a package stays what it is).
 */
export function addressOf(base: string, path: string): string {
  const encoded = /^[A-Za-z0-9._~/-]*$/.test(path) ? path : path.split('/').map(encodeURIComponent).join('/');
  return `${base.replace(/\/+$/, '')}/${encoded}`;
}

/** The name beside `target` which an unfinished download has; the next run that wants the same content goes on with it. */
function partialPath({ target, expected }: DownloadRequest): string {
  return join(dirname(target), `.part-${basename(target).slice(0, 200)}-${expected.digest.slice(0, 16)}`);
}

/**
 * A file on its way: its bytes are hashed and written to the partial file as they come.
 * Writing is synchronous: into the page cache that is faster than a thread's round trip, and a full one holds up the
 * network, as it should.
 */
class Part {
  readonly #path: string;
  readonly #expected: Expected;
  #hash: Hash;
  #descriptor: number | undefined;
  offset = 0;

  /**
   * Goes on with the part that an earlier attempt left.
   * @param fresh whether there can be none
   */
  constructor(path: string, expected: Expected, fresh: boolean) {
    this.#path = path;
    this.#expected = expected;
    this.#hash = createHash(expected.algorithm);
    if (fresh) return;
    const left = statSync(path, { throwIfNoEntry: false });
    if (left === undefined) return;
    const descriptor = this.#open();
    if (expected.size === undefined || left.size > expected.size) {
      ftruncateSync(descriptor, 0);
      return;
    }
    const buffer = Buffer.allocUnsafe(readBuffer);
    for (;;) {
      const bytes = readSync(descriptor, buffer, 0, buffer.length, this.offset);
      if (bytes === 0) break;
      this.#hash.update(buffer.subarray(0, bytes));
      this.offset += bytes;
    }
  }

  #open(): number {
    this.#descriptor ??= openSync(
      this.#path,
      constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
      0o644,
    );
    return this.#descriptor;
  }

  get complete(): boolean {
    return this.offset > 0 && this.offset === this.#expected.size;
  }

  /** Throws away what is there. */
  restart(): void {
    this.#hash = createHash(this.#expected.algorithm);
    this.offset = 0;
    if (this.#descriptor !== undefined) ftruncateSync(this.#descriptor, 0);
  }

  add(chunk: Buffer): void {
    this.#hash.update(chunk);
    const descriptor = this.#open();
    for (let written = 0; written < chunk.length; ) {
      written += writeSync(descriptor, chunk, written, chunk.length - written, this.offset + written);
    }
    this.offset += chunk.length;
  }

  /** Makes the file appear if it is what it must be. @throws SourceFailure */
  finish(target: string, url: string): void {
    const { algorithm, digest: expected } = this.#expected;
    const digest = this.#hash.digest('hex');
    if (digest !== expected) {
      throw new SourceFailure(
        'wrong',
        url,
        `its content has the ${algorithm.toUpperCase()} ${digest} where ${expected} is expected`,
      );
    }
    // An empty file has no bytes that would have made it.
    closeSync(this.#open());
    this.#descriptor = undefined;
    renameSync(this.#path, target);
  }

  /** Keeps what came for the next attempt, or nothing where it is wrong. */
  leave(wrong: boolean): void {
    if (wrong) this.restart();
    if (this.#descriptor === undefined) return;
    const { size } = fstatSync(this.#descriptor);
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
    if (size === 0) rmSync(this.#path, { force: true });
  }
}

/** Brings files over HTTP, HTTPS, rsync and `file:`. To be closed when it is not needed any more. */
export class Transport {
  readonly #exchange: Exchange;
  readonly #settings: Required<Omit<TransportOptions, 'bandwidth' | 'credentials' | 'tls'>>;
  readonly #bandwidth: number | undefined;
  readonly #options: TransportOptions;
  /** Servers that could not be reached, and until when they are asked last. */
  readonly #down = new Map<string, number>();

  constructor(options: TransportOptions = {}) {
    const { bandwidth, credentials, tls, ...settings } = options;
    this.#options = options;
    this.#settings = {
      // By measurement: more connections cost more switching and bring nothing when requests are pipelined.
      connections: 4,
      connectSeconds: 15,
      idleSeconds: 30,
      rounds: 4,
      pauseSeconds: 0.5,
      threads: 1,
      ...settings,
    };
    this.#bandwidth = bandwidth;
    this.#exchange = new Exchange({
      ...this.#settings,
      bandwidth,
      credentials: credentials ?? hostCredentials(),
      tls: tls ?? {},
    });
  }

  async close(): Promise<void> {
    await this.#exchange.close();
  }

  /** The sources in their order, those that could not be reached a moment ago last. */
  #ordered(sources: readonly string[]): readonly string[] {
    if (this.#down.size === 0 || sources.length < 2) return sources;
    const now = performance.now();
    const isDown = (url: string): boolean => (this.#down.get(originOf(url)) ?? 0) > now;
    return [...sources.filter((url) => !isDown(url)), ...sources.filter((url) => isDown(url))];
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
      const left = this.#ordered(sources).filter((url) => {
        const failure = failed.get(url);
        return (
          failure?.kind !== 'absent' &&
          failure?.kind !== 'refused' &&
          (failure?.retryAfter ?? 0) <= longestPause &&
          (wrong.get(url) ?? 0) < wrongContentAllowed
        );
      });
      const allUnreachable = left.every((url) => failed.get(url)?.kind === 'unreachable');
      // Where nothing has ever answered, more patience helps nobody.
      if (left.length === 0 || (round > 1 && allUnreachable && !this.#exchange.answered)) break;
      if (round > 0) {
        const asked = Math.min(...left.map((url) => failed.get(url)?.retryAfter ?? 0));
        // The jitter keeps many downloads from coming back all at once.
        const seconds = Math.max(asked, pauseSeconds * 2 ** (round - 1) * (0.75 + Math.random() / 2));
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
          if (error.kind === 'unreachable')
            this.#down.set(originOf(url), performance.now() + downMilliseconds);
        }
      }
    }
    throw explain(what, [...failed.values()]);
  }

  /** A file of an rsync server in a directory of its own, read and removed again. */
  async #byRsync<T>(url: string, signal: AbortSignal, use: (fileUrl: string) => Promise<T>): Promise<T> {
    return await withScratchDirectory(tmpdir(), async (directory) => {
      const path = await rsyncFile(url, join(directory, 'files'), this.#rsyncOptions(signal));
      this.#exchange.answered = true;
      return await use(pathToFileURL(path ?? join(directory, 'files')).href);
    });
  }

  #rsyncOptions(signal: AbortSignal): Parameters<typeof rsyncFile>[2] {
    return { signal, bandwidth: this.#bandwidth, timeoutSeconds: Math.ceil(this.#settings.idleSeconds) };
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
    const attempt = async (url: string, noCache: boolean, as = url): Promise<FetchedDocument> => {
      if (url.startsWith('rsync:')) {
        return await this.#byRsync(url, signal, async (file) => await attempt(file, noCache, url));
      }
      const chunks: Buffer[] = [];
      let size = 0;
      const head: { length?: number | undefined; validators?: Validators } = {};
      const question = {
        offset: 0,
        signal,
        validators: options.validators,
        noCache: noCache || options.noCache === true,
      };
      const answered = await this.#exchange
        .ask(url, question, {
          begin: (answer) => {
            head.length = answer.length;
            head.validators = answer.validators;
          },
          data: (chunk) => {
            size += chunk.length;
            if (size > options.maximumSize) {
              throw new SourceFailure(
                'refused',
                as,
                `it is larger than the ${options.maximumSize} bytes allowed`,
              );
            }
            chunks.push(Buffer.from(chunk));
          },
        })
        .catch((error: unknown) => {
          if (error instanceof SourceFailure && error.kind === 'absent') absent += 1;
          throw error;
        });
      if (!answered) return { state: 'unchanged' };
      if (head.length !== undefined && head.length !== size) {
        throw new SourceFailure('broken', as, `the answer broke off after ${size} of ${head.length} bytes`);
      }
      return {
        state: 'fetched',
        body: Buffer.concat(chunks),
        url: as,
        validators: head.validators ?? { url: as, etag: undefined, lastModified: undefined },
      };
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
   * @param made directories that are known to be there
   * @returns the bytes that came over the line
   * @throws ReliveError `no-network`, `download-failed`, `disk-full`, or what the signal was aborted with
   */
  async download(
    request: DownloadRequest,
    { signal }: Pick<Context, 'signal'>,
    onBytes: (bytes: number) => void = () => undefined,
    made = new Set<string>(),
  ): Promise<number> {
    const { target, expected, sources } = request;
    const directory = dirname(target);
    // In a directory that is new no earlier attempt has left anything.
    let fresh = false;
    if (!made.has(directory)) {
      fresh = mkdirSync(directory, { recursive: true }) !== undefined;
      made.add(directory);
    }
    const partial = partialPath(request);
    let transferred = 0;
    let counted = 0;
    const count = (bytes: number): void => {
      counted += bytes;
      onBytes(bytes);
    };
    const attempt = async (url: string, noCache: boolean): Promise<void> => {
      if (url.startsWith('rsync:')) {
        return await this.#byRsync(url, signal, async (file) => await attempt(file, noCache));
      }
      let part: Part | undefined;
      try {
        part = new Part(partial, expected, fresh);
        fresh = false;
        count(part.offset - counted);
        if (!part.complete) {
          await this.#receive(part, url, { noCache, signal }, expected, count, (bytes) => {
            transferred += bytes;
          });
        }
        part.finish(target, url);
      } catch (error) {
        part?.leave(error instanceof SourceFailure && error.kind === 'wrong');
        throw explainDiskFull(error, target);
      }
    };
    try {
      await this.#fromAny(target, sources, signal, attempt);
      return transferred;
    } catch (error) {
      count(-counted);
      throw error;
    }
  }

  /** Receives the rest of a part. @throws SourceFailure */
  async #receive(
    part: Part,
    url: string,
    { noCache, signal }: { readonly noCache: boolean; readonly signal: AbortSignal },
    { size }: Expected,
    count: (bytes: number) => void,
    came: (bytes: number) => void,
  ): Promise<void> {
    const asked = part.offset;
    await this.#exchange.ask(
      url,
      { offset: asked, signal, noCache },
      {
        begin: ({ offset, length }) => {
          if (offset !== part.offset) {
            count(-part.offset);
            part.restart();
          }
          if (size !== undefined && length !== undefined && offset + length !== size) {
            throw new SourceFailure(
              'wrong',
              url,
              `it has ${offset + length} bytes where ${size} are expected`,
            );
          }
        },
        data: (chunk) => {
          if (part.offset + chunk.length > (size ?? largestUnknown)) {
            throw new SourceFailure('wrong', url, `it has more than the ${size} bytes expected`);
          }
          part.add(chunk);
          came(chunk.length);
          count(chunk.length);
        },
      },
    );
    if (size !== undefined && part.offset < size) {
      throw new SourceFailure('broken', url, `the answer broke off after ${part.offset} of ${size} bytes`);
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
    const total = requests.reduce((sum, { expected }) => sum + (expected.size ?? 0), 0);
    const failures: { request: DownloadRequest; error: ReliveError }[] = [];
    let [done, bytes, reported] = [0, 0, 0];
    const report = (item: string, force: boolean): void => {
      const now = performance.now();
      if (!force && now - reported < reportMilliseconds) return;
      reported = now;
      context.emit({ event: 'progress', stage, done, total, unit: 'bytes', item });
    };
    const listener: DownloadListener = {
      progress: (more, item) => {
        done += more;
        report(item, false);
      },
      done: (came) => {
        bytes += came;
      },
      failed: (request, error) => failures.push({ request, error }),
    };
    const parallel = options.parallel ?? this.#settings.connections;
    if (this.#isForThreads(requests, total)) {
      await this.#byThreads(requests, parallel, listener, context.signal);
    } else {
      await this.#inThisThread(requests, parallel, listener, context.signal);
    }
    report('', true);
    return { files: requests.length - failures.length, bytes, failures };
  }

  /** Whether there is enough to do for several threads, of a kind that they can share. */
  #isForThreads(requests: readonly DownloadRequest[], total: number): boolean {
    return (
      this.#settings.threads > 1 &&
      total >= Math.max(manyBytes, requests.length * largeFile) &&
      // Those who share a bandwidth have one clock; what rsync brings, it brings in one run.
      this.#bandwidth === undefined &&
      requests.every(({ sources }) => sources.every((url) => /^https?:/.test(url)))
    );
  }

  async #byThreads(
    requests: readonly DownloadRequest[],
    parallel: number,
    listener: DownloadListener,
    signal: AbortSignal,
  ): Promise<void> {
    const { threads } = this.#settings;
    const share = Math.max(1, Math.ceil(parallel / threads));
    const crew = new DownloadCrew(threads, { ...this.#options, threads: 1, connections: share });
    try {
      await crew.bring(requests, listener, signal);
    } finally {
      await crew.close();
    }
  }

  async #inThisThread(
    requests: readonly DownloadRequest[],
    parallel: number,
    listener: DownloadListener,
    interrupt: AbortSignal,
  ): Promise<void> {
    // One controller for all: when one ends everything, the others stop too.
    const stop = new AbortController();
    const signal = AbortSignal.any([interrupt, stop.signal]);
    setMaxListeners(0, signal);
    const made = new Set<string>();
    const staged = await this.#stageByRsync(requests, signal);
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < requests.length) {
        const request = staged.requests[next];
        next += 1;
        if (request === undefined) continue;
        const item = basename(request.target);
        try {
          const onBytes = (more: number): void => listener.progress(more, item);
          listener.done(await this.download(request, { signal }, onBytes, made));
        } catch (error) {
          if (!(error instanceof ReliveError) || error.code !== 'download-failed') {
            stop.abort(error);
            throw error;
          }
          listener.failed(request, error);
        }
      }
    };
    try {
      // Connections are what is limited; at each of them some requests wait for their turn.
      const results = await Promise.allSettled(Array.from({ length: parallel * requestsAhead }, work));
      interrupt.throwIfAborted();
      const broken = results.find(({ status }) => status === 'rejected');
      if (broken?.status === 'rejected') throw stop.signal.aborted ? stop.signal.reason : broken.reason;
    } finally {
      await staged.remove();
    }
  }

  /** Brings in one run what an rsync server has of the requests; each file then is one more source, tried first. */
  async #stageByRsync(
    requests: readonly DownloadRequest[],
    signal: AbortSignal,
  ): Promise<{ readonly requests: readonly DownloadRequest[]; readonly remove: () => Promise<void> }> {
    const wanted = requests.filter(({ sources }) => sources[0]?.startsWith('rsync:') === true);
    const [first] = wanted;
    if (first === undefined) return { requests, remove: async () => undefined };
    // Beside the targets, so that the same file system is sure to have the room.
    const directory = join(dirname(first.target), '.part-rsync');
    const remove = async (): Promise<void> => await rm(directory, { recursive: true, force: true });
    try {
      const urls = wanted.map(({ sources }) => sources[0] ?? '');
      const files = await rsyncFiles(urls, directory, this.#rsyncOptions(signal));
      this.#exchange.answered = true;
      return {
        requests: requests.map((request) => {
          const file = files.get(request.sources[0] ?? '');
          return file === undefined
            ? request
            : {
                ...request,
                sources: [pathToFileURL(file).href, ...request.sources.slice(1)],
              };
        }),
        remove,
      };
    } catch (error) {
      // Each file is asked for by itself then, where the other sources and the retries are.
      if (error instanceof SourceFailure) return { requests, remove };
      throw error;
    }
  }
}

function originOf(url: string): string {
  const { protocol, host } = new URL(url);
  return `${protocol}//${host}`;
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
