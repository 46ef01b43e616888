import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { asError, type ErrorCode, ReliveError } from '../core/error.ts';
import { home } from '../core/home.ts';
import type { DownloadListener, DownloadRequest, TransportOptions } from './download-request.ts';

/** A request, by its number. */
export interface Order {
  readonly id: number;
  readonly request: DownloadRequest;
}

/** What an error of another thread was. */
export interface PlainError {
  readonly code: ErrorCode | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}

/** What happened since the last report. */
export interface Report {
  /** Bytes that came; negative when more had to be thrown away. */
  readonly progress: number;
  readonly item: string;
  readonly done: readonly {
    readonly id: number;
    /** Bytes over the line. */
    readonly bytes: number;
    readonly error: PlainError | undefined;
  }[];
}

/** What a thread has in hand: enough that it never waits, little enough that all end at the same time. */
const ordersInHand = 64;
const bytesInHand = 32 * 1024 * 1024;
const fewest = 8;

/** One thread and what it was told to bring. */
interface Hand {
  readonly worker: Worker;
  readonly orders: Set<number>;
  bytes: number;
}

function sizeOf({ expected }: DownloadRequest): number {
  return expected.size ?? bytesInHand;
}

function errorOf({ code, message, hint }: PlainError): Error {
  if (code === undefined) return new Error(message);
  return new ReliveError(code, message, hint === undefined ? {} : { hint });
}

/**
 * Threads that bring files: receiving, hashing and writing keep a core busy at less than the speed of a local network, so
 * one thread would be what limits it. Each has a transport of its own.
 */
export class DownloadCrew {
  readonly #hands: readonly Hand[];

  /** @param options for each thread: its share of the connections */
  constructor(threads: number, options: TransportOptions) {
    const code = join(home, 'dist/download-worker.cjs');
    this.#hands = Array.from({ length: threads }, () => ({
      worker: new Worker(code, { workerData: options }),
      orders: new Set(),
      bytes: 0,
    }));
  }

  /**
   * Brings files. To be called once.
   * @throws ReliveError as `Transport.download`, but `download-failed`; what the signal was aborted with
   */
  async bring(
    requests: readonly DownloadRequest[],
    listener: DownloadListener,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    let [next, open] = [0, requests.length];
    const give = (hand: Hand): void => {
      const orders: Order[] = [];
      while (
        next < requests.length &&
        hand.orders.size < ordersInHand &&
        (hand.bytes < bytesInHand || hand.orders.size < fewest)
      ) {
        const request = requests[next];
        if (request === undefined) break;
        orders.push({ id: next, request });
        hand.orders.add(next);
        hand.bytes += sizeOf(request);
        next += 1;
      }
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread, no window
      if (orders.length > 0) hand.worker.postMessage(orders);
    };
    const settle = (hand: Hand, { id, bytes, error }: Report['done'][number]): void => {
      const request = requests[id];
      if (request === undefined || !hand.orders.delete(id)) return;
      hand.bytes -= sizeOf(request);
      open -= 1;
      if (error === undefined) listener.done(bytes);
      else {
        const known = errorOf(error);
        if (!(known instanceof ReliveError) || known.code !== 'download-failed') throw known;
        listener.failed(request, known);
      }
    };
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(asError(signal.reason)), { once: true });
      for (const hand of this.#hands) {
        hand.worker.on('error', reject);
        hand.worker.on('exit', () => reject(new Error('a thread that fetches ended early')));
        hand.worker.on('message', ({ progress, item, done }: Report) => {
          try {
            listener.progress(progress, item);
            for (const one of done) settle(hand, one);
            if (open === 0) resolve();
            else give(hand);
          } catch (error) {
            reject(error);
          }
        });
        give(hand);
      }
    });
  }

  /** Ends the threads; what they have half is there for the next run. */
  async close(): Promise<void> {
    await Promise.all(this.#hands.map(async ({ worker }) => await worker.terminate()));
  }
}
