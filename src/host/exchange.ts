import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Dispatcher, EnvHttpProxyAgent } from 'undici';
import { asError, messageOf, systemCode } from '../core/error.ts';
import { version } from '../core/version.ts';
import { authorizationFor, type Credential } from './credentials.ts';
import { PlainHttp, Unfit } from './plain-http.ts';
import { failureOf, SourceFailure } from './source-failure.ts';

const readBuffer = 1024 * 1024;
const maximumRedirects = 5;
/** The body of an answer that is of no use is read up to here, so that its connection can serve again. */
const drained = 64 * 1024;

/** What lets a server say "unchanged". */
export interface Validators {
  readonly url: string;
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
}

/** Where an answer goes. Both functions may throw a SourceFailure to end it. */
export interface Sink {
  /** The answer is good: its bytes begin at `offset`; `length` of them are announced. */
  readonly begin: (answer: {
    readonly offset: number;
    readonly length: number | undefined;
    readonly validators: Validators;
  }) => void;
  /** The bytes are valid during the call only. */
  readonly data: (chunk: Buffer) => void;
}

export interface ExchangeOptions {
  readonly connections: number;
  readonly connectSeconds: number;
  readonly idleSeconds: number;
  /** Bytes a second for everything together; undefined for no limit. */
  readonly bandwidth: number | undefined;
  readonly credentials: readonly Credential[];
  /** PEM: certificates of authorities, a certificate of ours and its key. */
  readonly tls: {
    readonly ca?: string | undefined;
    readonly certificate?: string | undefined;
    readonly key?: string | undefined;
  };
}

interface Question {
  readonly offset: number;
  readonly signal: AbortSignal;
  readonly validators?: Validators | undefined;
  readonly noCache: boolean;
}

/** True: the answer went to the sink; false: "unchanged". */
type Outcome = boolean | { readonly redirect: string };

type Headers = Readonly<Record<string, string | string[] | undefined>>;

function headerOf(headers: Headers, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** The pause of a Retry-After header in seconds: a number, or a date. */
function retryAfterOf(headers: Headers): number | undefined {
  const value = headerOf(headers, 'retry-after');
  if (value === undefined) return undefined;
  const seconds = /^\d{1,9}$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/**
 * Asks one source for a file, over HTTP, HTTPS (through the proxies of http_proxy, https_proxy, no_proxy) or from `file:`,
 * and hands the answer to a sink as it comes.
 */
export class Exchange {
  /** The general client: made when the plain one does not serve. */
  #agent: Promise<EnvHttpProxyAgent> | undefined;
  readonly #plain: PlainHttp;
  /** Servers which the plain client does not serve. */
  readonly #unfit = new Set<string>();
  readonly #options: ExchangeOptions;
  /** The time at which the bytes that came would have come at the allowed rate. */
  #paidUntil = 0;
  /** Whether any source has answered yet: if so, a network that fails now may come back. */
  answered = false;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#plain = new PlainHttp(options);
  }

  /** undici takes long to load, and many runs ask for one small file only. */
  async #general(): Promise<EnvHttpProxyAgent> {
    this.#agent ??= import('undici').then(({ EnvHttpProxyAgent: Agent }) => {
      const { tls: files, connections, connectSeconds, idleSeconds } = this.#options;
      const { ca, certificate, key } = files;
      const tls = {
        ...(ca === undefined ? {} : { ca }),
        ...(certificate === undefined ? {} : { cert: certificate }),
        ...(key === undefined ? {} : { key }),
      };
      return new Agent({
        ...environmentProxies(),
        connections,
        connect: { timeout: connectSeconds * 1000, ...tls },
        requestTls: tls,
        headersTimeout: idleSeconds * 1000,
        bodyTimeout: idleSeconds * 1000,
        keepAliveTimeout: 10_000,
        // Proxies refuse tunnels to anything but port 443.
        proxyTunnel: false,
      });
    });
    return await this.#agent;
  }

  async close(): Promise<void> {
    this.#plain.close();
    await (await this.#agent)?.destroy();
  }

  /**
   * @returns false when the source says that the file is what `validators` tell of
   * @throws SourceFailure; what the sink throws; what the signal was aborted with
   */
  async ask(url: string, question: Question, sink: Sink): Promise<boolean> {
    if (url.startsWith('file:')) return await this.#readFile(url, question, sink);
    const headers: Record<string, string> = {
      'user-agent': `relive/${version}`,
      'accept-encoding': 'identity',
    };
    const { offset, validators } = question;
    if (offset > 0) headers['range'] = `bytes=${offset}-`;
    if (question.noCache) headers['cache-control'] = 'no-cache';
    if (validators?.url === url) {
      if (validators.etag !== undefined) headers['if-none-match'] = validators.etag;
      else if (validators.lastModified !== undefined) headers['if-modified-since'] = validators.lastModified;
    }
    let at = new URL(url);
    for (let redirects = 0; redirects <= maximumRedirects; redirects += 1) {
      const authorization = authorizationFor(this.#options.credentials, at);
      const sent = authorization === undefined ? headers : { ...headers, authorization };
      const outcome = await this.#request(at, sent, url, question, sink);
      if (typeof outcome === 'boolean') return outcome;
      at = redirected(at, outcome.redirect, url);
    }
    throw new SourceFailure('refused', url, `it redirects more than ${maximumRedirects} times`);
  }

  /** One request: true for an answer that went to the sink, false for "unchanged", or where it redirects to. */
  async #request(
    at: URL,
    headers: Record<string, string>,
    url: string,
    question: Question,
    sink: Sink,
  ): Promise<Outcome> {
    question.signal.throwIfAborted();
    const plain =
      at.protocol === 'http:' &&
      this.#options.bandwidth === undefined &&
      environmentProxy('http_proxy') === undefined &&
      !this.#unfit.has(at.origin);
    if (plain) {
      try {
        return await this.#requestPlain(at, headers, url, question, sink);
      } catch (error) {
        if (!(error instanceof Unfit)) throw error;
        this.#unfit.add(at.origin);
      }
    }
    return await this.#requestGeneral(at, headers, url, question, sink);
  }

  /** What an answer's head comes to: an outcome where its body is of no use, else undefined: the body goes to the sink. */
  #judge(
    status: number,
    headers: Headers,
    url: string,
    { offset, validators }: Question,
    sink: Sink,
  ): Outcome | SourceFailure | undefined {
    this.answered = true;
    const location = headerOf(headers, 'location');
    if ([301, 302, 303, 307, 308].includes(status) && location !== undefined) return { redirect: location };
    if (status === 304 && validators !== undefined) return false;
    try {
      accept(status, headers, url, offset, sink);
      return undefined;
    } catch (error) {
      if (error instanceof SourceFailure && status !== 206 && status !== 200) return error;
      throw error;
    }
  }

  async #requestPlain(
    at: URL,
    headers: Record<string, string>,
    url: string,
    question: Question,
    sink: Sink,
  ): Promise<Outcome> {
    const { signal } = question;
    return await new Promise((resolve, reject) => {
      let outcome = undefined as Outcome | SourceFailure | undefined;
      // What goes wrong in the sink is no fault of the network.
      let sinkError = undefined as Error | undefined;
      const inSink = <T>(act: () => T): T => {
        try {
          return act();
        } catch (error) {
          sinkError = asError(error);
          throw sinkError;
        }
      };
      const settle = (act: () => void): void => {
        signal.removeEventListener('abort', abort);
        act();
      };
      const stop = this.#plain.ask(at, headers, {
        head: (status, received) => {
          outcome = inSink(() => this.#judge(status, received, url, question, sink));
          return outcome === undefined;
        },
        data: (chunk) => inSink(() => sink.data(chunk)),
        end: () =>
          settle(() => (outcome instanceof SourceFailure ? reject(outcome) : resolve(outcome ?? true))),
        fail: (error) =>
          settle(() => reject(sinkError ?? (error instanceof Unfit ? error : failureOf(error, url)))),
      });
      const abort = (): void =>
        settle(() => {
          stop();
          reject(asError(signal.reason));
        });
      signal.addEventListener('abort', abort, { once: true });
    });
  }

  async #requestGeneral(
    at: URL,
    headers: Record<string, string>,
    url: string,
    question: Question,
    sink: Sink,
  ): Promise<Outcome> {
    const { signal } = question;
    const agent = await this.#general();
    signal.throwIfAborted();
    return await new Promise((resolve, reject) => {
      let outcome = undefined as Outcome | SourceFailure | undefined;
      let ignored = 0;
      let control: Dispatcher.DispatchController | undefined;
      const abort = (): void => control?.abort(new Error('aborted'));
      signal.addEventListener('abort', abort, { once: true });
      const settle = (act: () => void): void => {
        signal.removeEventListener('abort', abort);
        act();
      };
      const end = (controller: Dispatcher.DispatchController, error: unknown): void => {
        const reason = asError(error);
        controller.abort(reason);
        settle(() => reject(reason));
      };
      agent.dispatch(
        { origin: at.origin, path: `${at.pathname}${at.search}`, method: 'GET', headers },
        {
          onRequestStart: (controller) => {
            control = controller;
            if (signal.aborted) abort();
          },
          onResponseStart: (controller, status, received) => {
            try {
              outcome = this.#judge(status, received, url, question, sink);
            } catch (error) {
              end(controller, error);
            }
          },
          onResponseData: (controller, chunk) => {
            if (outcome !== undefined) {
              ignored += chunk.length;
              if (ignored > drained) controller.abort(new Error('of no use'));
              return;
            }
            try {
              sink.data(chunk);
              this.#pace(chunk.length, controller);
            } catch (error) {
              end(controller, error);
            }
          },
          onResponseEnd: () =>
            settle(() => (outcome instanceof SourceFailure ? reject(outcome) : resolve(outcome ?? true))),
          onResponseError: (_controller, error) =>
            settle(() => {
              if (signal.aborted) reject(asError(signal.reason));
              else if (outcome === undefined) reject(failureOf(error, url));
              else if (outcome instanceof SourceFailure) reject(outcome);
              else resolve(outcome);
            }),
        },
      );
    });
  }

  /** Slows an answer down to the bandwidth that all may use together. */
  #pace(bytes: number, controller: Dispatcher.DispatchController): void {
    const milliseconds = this.#owed(bytes);
    if (milliseconds <= 0) return;
    controller.pause();
    setTimeout(() => controller.resume(), milliseconds);
  }

  /** How long to wait after these bytes, in milliseconds. */
  #owed(bytes: number): number {
    const { bandwidth } = this.#options;
    if (bandwidth === undefined) return 0;
    const now = performance.now();
    this.#paidUntil = Math.max(this.#paidUntil, now) + (bytes / bandwidth) * 1000;
    return this.#paidUntil - now;
  }

  async #readFile(url: string, { offset, signal }: Question, sink: Sink): Promise<boolean> {
    let handle: Awaited<ReturnType<typeof open>>;
    try {
      handle = await open(fileURLToPath(url), constants.O_RDONLY);
    } catch (error) {
      const code = systemCode(error);
      const absent = code === 'ENOENT' || code === 'ENOTDIR';
      const reason = absent ? 'there is no such file' : messageOf(error);
      throw new SourceFailure(absent ? 'absent' : 'refused', url, reason, { cause: error });
    }
    try {
      const info = await handle.stat();
      if (!info.isFile()) throw new SourceFailure('refused', url, 'that is no regular file');
      this.answered = true;
      sink.begin({
        offset,
        length: Math.max(0, info.size - offset),
        validators: { url, etag: undefined, lastModified: undefined },
      });
      for (let at = offset; ; ) {
        signal.throwIfAborted();
        const buffer = Buffer.allocUnsafe(Math.max(1, Math.min(readBuffer, info.size - at)));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) return true;
        at += bytesRead;
        sink.data(buffer.subarray(0, bytesRead));
        const owed = this.#owed(bytesRead);
        if (owed > 0) await new Promise((resolve) => setTimeout(resolve, owed));
      }
    } finally {
      await handle.close();
    }
  }
}

/** Judges status and headers of an answer. @throws SourceFailure */
function accept(status: number, headers: Headers, url: string, offset: number, sink: Sink): void {
  if (status !== 200 && status !== 206) {
    if (status === 416) throw new SourceFailure('wrong', url, 'it has less than what is here already (416)');
    const again = status >= 500 || [408, 425, 429].includes(status);
    const absent = status === 404 || status === 410;
    const why =
      status === 401 || status === 403
        ? ' (credentials come from /etc/apt/auth.conf and ~/.netrc)'
        : status === 407
          ? ' (the proxy wants a user and a password in http_proxy)'
          : '';
    throw new SourceFailure(
      again ? 'broken' : absent ? 'absent' : 'refused',
      url,
      `it answers with status ${status}${why}`,
      { retryAfter: retryAfterOf(headers) },
    );
  }
  let begins = 0;
  if (status === 206) {
    const range = /^bytes (\d+)-/.exec(headerOf(headers, 'content-range') ?? '');
    begins = Number(range?.[1] ?? Number.NaN);
    if (begins !== offset) {
      throw new SourceFailure('wrong', url, 'it delivers another part than the one that was asked for');
    }
  }
  const length = Number(headerOf(headers, 'content-length') ?? Number.NaN);
  sink.begin({
    offset: begins,
    length: Number.isSafeInteger(length) ? length : undefined,
    validators: { url, etag: headerOf(headers, 'etag'), lastModified: headerOf(headers, 'last-modified') },
  });
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

/** The proxy that a variable names; without a scheme (`proxy:3128`) it is http, as for apt and curl. */
function environmentProxy(name: string): string | undefined {
  // HTTP_PROXY could come from a request's header "Proxy" (CGI), so only the small letters count there.
  const value = process.env[name] ?? (name === 'http_proxy' ? undefined : process.env[name.toUpperCase()]);
  if (value === undefined || value === '') return undefined;
  return value.includes('://') ? value : `http://${value}`;
}

function environmentProxies(): { httpProxy?: string; httpsProxy?: string } {
  const httpProxy = environmentProxy('http_proxy');
  const httpsProxy = environmentProxy('https_proxy');
  return {
    ...(httpProxy === undefined ? {} : { httpProxy }),
    ...(httpsProxy === undefined ? {} : { httpsProxy }),
  };
}
