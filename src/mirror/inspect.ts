import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { asError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { home } from '../core/home.ts';
import type { Answer, Job } from './verify-worker.ts';

/** A batch ends with this many files or bytes: small enough to share the work evenly, large enough to keep talk short. */
const batchFiles = 128;
const batchBytes = 16 * 1024 * 1024;
/** Batches that wait at each worker, so that none is ever idle. */
const ahead = 2;

type Settle = (answer: Answer) => void;

/** Reads and hashes files on all cores. To be closed when it is not needed any more. */
export class Inspector {
  readonly #workers: { readonly worker: Worker; waiting: number }[];
  readonly #settle = new Map<number, Settle>();
  #batch: Job[] = [];
  #bytes = 0;
  #next = 0;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(workers = availableParallelism()) {
    this.#workers = Array.from({ length: workers }, () => {
      const worker = new Worker(join(home, 'dist/verify-worker.cjs'));
      const entry = { worker, waiting: 0 };
      worker.on('message', (answers: readonly Answer[]) => {
        entry.waiting -= 1;
        for (const answer of answers) {
          const settle = this.#settle.get(answer.id);
          this.#settle.delete(answer.id);
          settle?.(answer);
        }
        this.#wake?.();
      });
      worker.on('error', (error: unknown) => {
        this.#error = asError(error);
        this.#wake?.();
      });
      return entry;
    });
  }

  /** Takes a file; `settle` gets what it is. To be followed by `room` or `idle` now and then. */
  add(job: Omit<Job, 'id'>, settle: Settle): void {
    const id = this.#next;
    this.#next += 1;
    this.#settle.set(id, settle);
    this.#batch.push({ ...job, id });
    this.#bytes += Math.max(0, job.size);
    if (this.#batch.length >= batchFiles || this.#bytes >= batchBytes) this.#send();
  }

  #send(): void {
    const [first, ...others] = this.#workers;
    if (this.#batch.length === 0 || first === undefined) return;
    let least = first;
    for (const entry of others) if (entry.waiting < least.waiting) least = entry;
    least.waiting += 1;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker thread, no window
    least.worker.postMessage(this.#batch);
    this.#batch = [];
    this.#bytes = 0;
  }

  async #until(done: () => boolean, { signal }: Pick<Context, 'signal'>): Promise<void> {
    const wake = (): void => this.#wake?.();
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!done()) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          if (signal.aborted || this.#error !== undefined) resolve();
        });
        signal.throwIfAborted();
        if (this.#error !== undefined) throw this.#error;
      }
    } finally {
      this.#wake = undefined;
      signal.removeEventListener('abort', wake);
    }
  }

  /** Waits until there is room for more: what is handed over and not looked at yet stays little. */
  async room(context: Pick<Context, 'signal'>): Promise<void> {
    context.signal.throwIfAborted();
    await this.#until(() => this.#workers.some(({ waiting }) => waiting <= ahead), context);
  }

  /** Waits until all that was added is settled. */
  async idle(context: Pick<Context, 'signal'>): Promise<void> {
    this.#send();
    await this.#until(() => this.#settle.size === 0, context);
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map(async ({ worker }) => await worker.terminate()));
  }
}
