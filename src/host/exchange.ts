import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type Dispatcher, EnvHttpProxyAgent } from 'undici';
import { messageOf, systemCode } from '../core/error.ts';
import { version } from '../core/version.ts';
import { authorizationFor, type Credential } from './credentials.ts';
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
  readonly #agent: EnvHttpProxyAgent;
  readonly #options: ExchangeOptions;
  /** The time at which the bytes that came would have come at the allowed rate. */
  #paidUntil = 0;
  /** Whether any source has answered yet: if so, a network that fails now may come back. */
  answered = false;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    const { ca, certificate, key } = options.tls;
    const tls = {
      ...(ca === undefined ? {} : { ca }),
      ...(certificate === undefined ? {} : { cert: certificate }),
      ...(key === undefined ? {} : { key }),
    };
    const proxy = environmentProxies();
    this.#agent = new EnvHttpProxyAgent({
      ...proxy,
      connections: options.connections,
      connect: { timeout: options.connectSeconds * 1000, ...tls },
      requestTls: tls,
      headersTimeout: options.idleSeconds * 1000,
      bodyTimeout: options.idleSeconds * 1000,
      keepAliveTimeout: 10_000,
      // Proxies refuse tunnels to anything but port 443.
      proxyTunnel: false,
    });
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
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
    { offset, signal, validators }: Question,
    sink: Sink,
  ): Promise<boolean | { readonly redirect: string }> {
    signal.throwIfAborted();
    return await new Promise((resolve, reject) => {
      let outcome = true as boolean | { readonly redirect: string } | SourceFailure;
      let ignored = 0;
      let control: Dispatcher.DispatchController | undefined;
      const abort = (): void => control?.abort(new Error('aborted'));
      signal.addEventListener('abort', abort, { once: true });
      const settle = (act: () => void): void => {
        signal.removeEventListener('abort', abort);
        act();
      };
      this.#agent.dispatch(
        { origin: at.origin, path: `${at.pathname}${at.search}`, method: 'GET', headers },
        {
          onRequestStart: (controller) => {
            control = controller;
            if (signal.aborted) abort();
          },
          onResponseStart: (controller, status, received) => {
            this.answered = true;
            const location = headerOf(received, 'location');
            if ([301, 302, 303, 307, 308].includes(status) && location !== undefined) {
              outcome = { redirect: location };
            } else if (status === 304 && validators !== undefined) outcome = false;
            else {
              try {
                accept(status, received, url, offset, sink);
              } catch (error) {
                if (!(error instanceof SourceFailure)) {
                  controller.abort(error instanceof Error ? error : new Error(messageOf(error)));
                  settle(() => reject(error instanceof Error ? error : new Error(messageOf(error))));
                  return;
                }
                outcome = error;
              }
            }
          },
          onResponseData: (controller, chunk) => {
            if (outcome !== true) {
              ignored += chunk.length;
              if (ignored > drained) controller.abort(new Error('of no use'));
              return;
            }
            try {
              sink.data(chunk);
              this.#pace(chunk.length, controller);
            } catch (error) {
              const reason = error instanceof Error ? error : new Error(messageOf(error));
              controller.abort(reason);
              settle(() => reject(reason));
            }
          },
          onResponseEnd: () =>
            settle(() => (outcome instanceof SourceFailure ? reject(outcome) : resolve(outcome))),
          onResponseError: (_controller, error) =>
            settle(() => {
              if (signal.aborted) reject(reasonOf(signal));
              else if (outcome === true) reject(failureOf(error, url));
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
        // A new buffer each time: the sink may keep what it gets.
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

function reasonOf(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error(messageOf(signal.reason));
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
