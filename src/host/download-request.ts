import type { ReliveError } from '../core/error.ts';
import type { Credential } from './credentials.ts';
import type { ExchangeOptions } from './exchange.ts';

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
  /** Bytes a second for all that is fetched together. */
  readonly bandwidth?: number | undefined;
  /** Threads that fetch when there is much to fetch. Unless given: this one only */
  readonly threads?: number;
  /** Users and passwords by host; those of apt's auth.conf and ~/.netrc unless given. */
  readonly credentials?: readonly Credential[];
  readonly tls?: ExchangeOptions['tls'];
}

/** What a downloaded file must be; a file that is anything else never appears. */
export interface Expected {
  /** Bytes; undefined where the list that names the file has no sizes. */
  readonly size: number | undefined;
  readonly algorithm: 'sha256' | 'sha512';
  /** Hexadecimal, lower case. */
  readonly digest: string;
}

/** One file to bring here. */
export interface DownloadRequest {
  /** Addresses (http, https, file, rsync), in the order in which they are tried. */
  readonly sources: readonly string[];
  readonly target: string;
  readonly expected: Expected;
}

/** What is told while files come. */
export interface DownloadListener {
  /** @param bytes that came; negative when some had to be thrown away */
  readonly progress: (bytes: number, item: string) => void;
  /** @param bytes that came over the line */
  readonly done: (bytes: number) => void;
  readonly failed: (request: DownloadRequest, error: ReliveError) => void;
}
