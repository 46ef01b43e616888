import { setMaxListeners } from 'node:events';
import { basename } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { isReliveError, messageOf } from '../core/error.ts';
import { Transport } from './download.ts';
import type { Order, PlainError, Report } from './download-crew.ts';
import type { TransportOptions } from './download-request.ts';

/*
 * Runs in a worker thread: brings files, as many at a time as they are handed over, and says what became of each.
 */

/** So that files of a few kilobytes do not cost a message each. */
const reportMilliseconds = 5;

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the crew hands over nothing else
const transport = new Transport(workerData as TransportOptions);
const { signal } = new AbortController();
// One listener for each request.
setMaxListeners(0, signal);
const made = new Set<string>();
let [progress, item] = [0, ''];
let done: Report['done'][number][] = [];
let scheduled = false;

function report(): void {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread, no window
    parentPort?.postMessage({ progress, item, done } satisfies Report);
    progress = 0;
    done = [];
  }, reportMilliseconds);
}

function plainError(error: unknown): PlainError {
  if (isReliveError(error)) return { code: error.code, message: error.message, hint: error.hint };
  const message = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
  return { code: undefined, message, hint: undefined };
}

async function bring({ id, request }: Order): Promise<void> {
  try {
    const onBytes = (bytes: number): void => {
      progress += bytes;
      item = basename(request.target);
      report();
    };
    const bytes = await transport.download(request, { signal }, onBytes, made);
    done.push({ id, bytes, error: undefined });
  } catch (error) {
    done.push({ id, bytes: 0, error: plainError(error) });
  }
  report();
}

parentPort?.on('message', (orders: readonly Order[]) => {
  for (const order of orders) void bring(order);
});
