import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { ReliveError } from '../core/error.ts';
import { requireTool, searchPath } from './tools.ts';

/** How many of the last lines of a program's output an error shows. */
const tailLines = 20;
/** A group that does not end on SIGTERM is killed after this long. */
const graceMilliseconds = 5000;

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly cwd?: string;
  /** Added to the allow-list environment; undefined removes a variable from it. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Written to standard input, which is else empty. */
  readonly input?: string | Uint8Array;
  readonly timeoutSeconds?: number;
  /** Exit statuses that are not errors; [0] unless given. */
  readonly accept?: readonly number[];
  /** Called with each line, of standard output and of standard error. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
  /** Called with each line that the program writes to its descriptor 3: machine-readable status. */
  readonly onStatusLine?: (line: string) => void;
  /** What the error message calls the program: for `chroot ROOT apt-get`, "apt-get". */
  readonly as?: string;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment that every program gets, and nothing else of ours: no secret, no locale of the caller. */
export function baseEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {
    PATH: searchPath(),
    HOME: '/root',
    LC_ALL: 'C.UTF-8',
    DEBIAN_FRONTEND: 'noninteractive',
    TZ: 'UTC',
  };
  for (const name of ['TMPDIR', 'SOURCE_DATE_EPOCH', 'http_proxy', 'https_proxy', 'no_proxy']) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

/**
 * The argument array that starts `command` so that it dies with relive, even when relive is killed by SIGKILL:
 * setpriv sets the parent-death signal and then becomes the program (prctl(2), PR_SET_PDEATHSIG).
 */
function dyingWithUs(command: string, args: readonly string[]): [string, string[]] {
  return [requireTool('setpriv'), ['--pdeathsig', 'KILL', '--', requireTool(command), ...args]];
}

/** Sends a signal to the process group that `child` leads; a group that is gone already is no error. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // ESRCH: nobody of the group is left.
  }
}

/**
 * Starts a program that goes on beside us (a virtual machine, say) in its own process group; the group ends when
 * `signal` is aborted. Standard output and error are pipes.
 */
export function start(
  command: string,
  args: readonly string[],
  options: Pick<RunOptions, 'signal' | 'cwd' | 'env'> & {
    readonly stdin?: 'pipe' | 'ignore';
    /** Gives the program a descriptor 3, a pipe too. */
    readonly statusPipe?: boolean;
  },
): ChildProcess {
  options.signal.throwIfAborted();
  const [program, argv] = dyingWithUs(command, args);
  const environment: Record<string, string> = baseEnvironment();
  for (const [name, value] of Object.entries(options.env ?? {})) {
    if (value === undefined) delete environment[name];
    else environment[name] = value;
  }
  const child = spawn(program, argv, {
    cwd: options.cwd,
    env: environment,
    detached: true,
    stdio: [
      options.stdin ?? 'ignore',
      'pipe',
      'pipe',
      ...(options.statusPipe === true ? ['pipe' as const] : []),
    ],
  });
  const end = (): void => endGroup(child);
  options.signal.addEventListener('abort', end, { once: true });
  child.once('close', () => options.signal.removeEventListener('abort', end));
  return child;
}

/** Ends the whole group of `child`: SIGTERM, and SIGKILL when that was not enough. */
export function endGroup(child: ChildProcess): void {
  signalGroup(child, 'SIGTERM');
  const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), graceMilliseconds);
  // A grandchild that holds a pipe keeps the child "running": whoever is left when the leader is gone is killed.
  child.once('exit', () => {
    clearTimeout(timer);
    signalGroup(child, 'SIGKILL');
  });
}

/** Calls `onLine` for each line of a stream, and settles when the stream has ended. */
async function eachLine(stream: Readable, onLine: (line: string) => void): Promise<void> {
  for await (const line of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }))
    onLine(line);
}

/**
 * Runs a program to its end and gives its output.
 * @param command the program's name (searched in PATH) or path; `args` are handed over as they are, no shell reads them
 * @throws ReliveError `tool-missing`, `tool-failed` (with the last lines of the output), `disk-full`, `timed-out`,
 *   or the abort reason of `signal`
 */
export async function run(command: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const { onStatusLine } = options;
  const child = start(command, args, {
    ...options,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    statusPipe: onStatusLine !== undefined,
  });
  const tail: string[] = [];
  const captured = { stdout: [] as string[], stderr: [] as string[] };
  const collect = (stream: 'stdout' | 'stderr') => (line: string) => {
    // With a listener the lines are its business: the output of a build is long.
    if (options.onLine === undefined) captured[stream].push(line);
    else options.onLine(line, stream);
    tail.push(line);
    if (tail.length > tailLines) tail.shift();
  };

  let timedOut = false;
  const timer =
    options.timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          endGroup(child);
        }, options.timeoutSeconds * 1000);
  try {
    const ended = new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) => resolve(status ?? 128 + (signal === 'SIGKILL' ? 9 : 15)));
    });
    if (options.input !== undefined && child.stdin !== null) {
      // A program that ends before it has read all its input shows in its exit status.
      child.stdin.once('error', () => undefined);
      child.stdin.end(options.input);
    }
    const streams = [];
    if (child.stdout !== null) streams.push(eachLine(child.stdout, collect('stdout')));
    if (child.stderr !== null) streams.push(eachLine(child.stderr, collect('stderr')));
    const statusPipe = child.stdio[3];
    if (onStatusLine !== undefined && statusPipe instanceof Readable)
      streams.push(eachLine(statusPipe, onStatusLine));
    const [status] = await Promise.all([ended, ...streams]);
    options.signal.throwIfAborted();
    const name = options.as ?? command;
    if (timedOut) {
      throw new ReliveError(
        'timed-out',
        `${name} did not end within ${options.timeoutSeconds} s\n${indent(tail)}`,
      );
    }
    if (!(options.accept ?? [0]).includes(status)) throw failure(name, status, tail);
    return { status, stdout: captured.stdout.join('\n'), stderr: captured.stderr.join('\n') };
  } finally {
    clearTimeout(timer);
  }
}

function indent(lines: readonly string[]): string {
  return lines.map((line) => `    ${line}`).join('\n');
}

function failure(name: string, status: number, tail: readonly string[]): ReliveError {
  const message = `${name} ended with status ${status}\n${indent(tail)}`;
  if (tail.some((line) => /no space left on device|disk quota exceeded/i.test(line))) {
    return new ReliveError('disk-full', message, { hint: 'make room on that file system and start again' });
  }
  return new ReliveError('tool-failed', message.trimEnd());
}
