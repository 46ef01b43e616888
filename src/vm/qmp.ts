import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import { asError, ReliveError } from '../core/error.ts';

/** A line of QMP is not longer than this: whoever sends more is not QEMU. */
const longestLine = 1024 * 1024;

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Cuts a stream of text into lines; what comes in may end anywhere. */
export class LineCutter {
  #rest = '';

  /** @throws ReliveError `guest-failed` for a line that is too long */
  push(text: string): readonly string[] {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > longestLine) throw new ReliveError('guest-failed', 'QEMU sent an endless line');
    return lines.map((line) => line.trimEnd()).filter((line) => line !== '');
  }
}

interface Waiting {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * QEMU's machine protocol (docs/interop/qmp-spec in QEMU): one JSON object a line; a greeting, then answers in the
 * order of their commands, and events in between. Emits `event` with the name of each event.
 */
export class Qmp extends EventEmitter<{ event: [string] }> {
  readonly #stream: Duplex;
  readonly #lines = new LineCutter();
  readonly #waiting = new Map<number, Waiting>();
  #next = 1;
  #ended: ReliveError | undefined;

  /** @param stream the socket whose other end is QEMU's monitor */
  constructor(stream: Duplex) {
    super();
    this.#stream = stream;
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      try {
        for (const line of this.#lines.push(text)) this.#take(line);
      } catch (error) {
        stream.destroy(asError(error));
      }
    });
    const end = (cause?: unknown): void => {
      this.#ended ??= new ReliveError('guest-failed', 'QEMU closed its monitor', { cause });
      for (const { reject } of this.#waiting.values()) reject(this.#ended);
      this.#waiting.clear();
    };
    stream.once('end', end);
    stream.once('close', end);
    stream.once('error', end);
  }

  #take(line: string): void {
    const message: unknown = JSON.parse(line);
    if (!isObject(message)) throw new ReliveError('guest-failed', `QEMU sent no object: ${line}`);
    if (typeof message['event'] === 'string') {
      this.emit('event', message['event']);
      return;
    }
    const id = message['id'];
    const waiting = typeof id === 'number' ? this.#waiting.get(id) : undefined;
    // The greeting has no id.
    if (typeof id !== 'number' || waiting === undefined) return;
    this.#waiting.delete(id);
    const { error } = message;
    if (isObject(error)) {
      waiting.reject(
        new ReliveError('tool-failed', `QEMU refused ${waiting.command}: ${String(error['desc'])}`),
      );
    } else {
      waiting.resolve(message['return']);
    }
  }

  /**
   * Runs one command and gives its answer.
   * @throws ReliveError `tool-failed` with QEMU's own words, `guest-failed` when QEMU is gone
   */
  async execute(command: string, args: JsonObject = {}): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    const id = this.#next;
    this.#next += 1;
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { command, resolve, reject });
      this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** Ends the negotiation, which must come first. */
  async open(): Promise<void> {
    await this.execute('qmp_capabilities');
  }

  /** Writes what the guest's screen shows into a PNG file (QEMU 7.1 and later). */
  async screenshot(path: string): Promise<void> {
    await this.execute('screendump', { filename: path, format: 'png' });
  }

  /** Presses the power button (ACPI). */
  async powerDown(): Promise<void> {
    await this.execute('system_powerdown');
  }

  /** Ends QEMU; that the connection breaks meanwhile is no error. */
  async quit(): Promise<void> {
    await this.execute('quit').catch((error: unknown) => {
      if (!(error instanceof ReliveError && error.code === 'guest-failed')) throw error;
    });
  }
}
