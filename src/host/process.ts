import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { ReliveError } from '../core/error.ts';
import { requireTool, searchPath } from './tools.ts';

/** How many of the last lines of a program's output an error shows. */
const tailLines = 20;
/** A group that does not end on SIGTERM is killed after this long. */
const graceMilliseconds = 5000;
/** How long the output of a program that has ended is still waited for, when others hold its pipes. */
const lingerMilliseconds = 2000;
/** A line longer than this is handed on in parts. */
const longestLine = 1024 * 1024;

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
  /**
   * Called with each line, of standard output and of standard error (a carriage return ends a line too, as in
   * progress displays); the result's `stdout` and `stderr` are then empty. What it throws ends the program.
   */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
  /** How the bytes of the output become the text of lines: utf8 unless given; latin1 loses none, whatever they are. */
  readonly encoding?: 'utf8' | 'latin1';
  /** Called with each line that the program writes to its descriptor 3: machine-readable status. */
  readonly onStatusLine?: (line: string) => void;
  /** What the error message calls the program: for `chroot ROOT apt-get`, "apt-get". */
  readonly as?: string;
  /**
   * Whether it may go on when relive is killed by SIGKILL, since it ends soon and harms nobody: it is started without the
   * two programs that tie it to us, in a third of the time.
   */
  readonly mayOutlive?: boolean;
}

export interface RunResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Takes out of the environment what says how to reach the network, for programs that are not to have one. */
export const noProxies = { http_proxy: undefined, https_proxy: undefined, no_proxy: undefined } as const;

/** The environment that every program gets, and nothing else of ours: no secret, no locale of the caller. */
export function baseEnvironment(): Record<string, string> {
  const environment: Record<string, string> = {
    PATH: searchPath(),
    HOME: '/root',
    LC_ALL: 'C.UTF-8',
    DEBIAN_FRONTEND: 'noninteractive',
    TZ: 'UTC',
  };
  for (const name of ['TMPDIR', 'SOURCE_DATE_EPOCH', ...Object.keys(noProxies)]) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

/**
 * Becomes the program, "$@", unless its parent is no longer the process $0: then that one was killed before setpriv
 * had said that we want to die with it. PWD is dash's own addition to the environment.
 */
const unlessOrphaned = 'test "$PPID" -eq "$0" || exit; unset PWD OLDPWD; exec "$@"';

/**
 * The argument array that starts `command` so that it dies with relive, even when relive is killed by SIGKILL:
 * setpriv sets the parent-death signal (prctl(2), PR_SET_PDEATHSIG), which stays when the process becomes another
 * program. The kernel counts the thread that started it as the parent, and the program's own children do not
 * inherit the signal: those end with the namespaces (namespace.ts).
 */
function dyingWithUs(command: string, args: readonly string[]): [string, string[]] {
  const starter = [requireTool('dash'), '-c', unlessOrphaned, String(process.pid)];
  return [requireTool('setpriv'), ['--pdeathsig', 'KILL', '--', ...starter, requireTool(command), ...args]];
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
  options: Pick<RunOptions, 'signal' | 'cwd' | 'env' | 'mayOutlive'> & {
    readonly stdin?: 'pipe' | 'ignore';
    /** Gives the program a descriptor 3, a pipe too. */
    readonly statusPipe?: boolean;
  },
): ChildProcess {
  options.signal.throwIfAborted();
  const [program, argv] =
    options.mayOutlive === true ? [requireTool(command), [...args]] : dyingWithUs(command, args);
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

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Ends the whole group of `child`: SIGTERM, and SIGKILL when that was not enough. */
export function endGroup(child: ChildProcess): void {
  // A grandchild that holds a pipe keeps the child "running": whoever is left when the leader is gone is killed.
  if (hasEnded(child)) {
    signalGroup(child, 'SIGKILL');
    return;
  }
  signalGroup(child, 'SIGTERM');
  const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), graceMilliseconds);
  child.once('exit', () => {
    clearTimeout(timer);
    signalGroup(child, 'SIGKILL');
  });
}

/**
 * Sees to it that `close` comes soon after `exit`: whoever of the group still holds the pipes is killed, and pipes
 * that a process outside the group holds (a daemon) are read no longer.
 */
function closeSoonAfterExit(child: ChildProcess): void {
  child.once('exit', () => {
    let timer = setTimeout(() => {
      signalGroup(child, 'SIGKILL');
      // One more turn, so that what is in the pipes already is read.
      timer = setTimeout(() => {
        for (const stream of child.stdio) stream?.destroy();
      }, lingerMilliseconds / 4);
    }, lingerMilliseconds);
    child.once('close', () => clearTimeout(timer));
  });
}

/** Calls `onLine` for each line of a stream; settles when the stream is closed, rejects when `onLine` throws. */
async function eachLine(
  stream: Readable,
  onLine: (line: string) => void,
  encoding: RunOptions['encoding'] = 'utf8',
): Promise<void> {
  const decoder = new StringDecoder(encoding);
  let rest = '';
  await new Promise<void>((resolve, reject) => {
    const hand = (lines: readonly string[]): void => {
      try {
        for (const line of lines) onLine(line);
      } catch (error) {
        stream.removeAllListeners('data').resume();
        reject(error);
      }
    };
    stream.on('data', (chunk: Buffer) => {
      // A carriage return at the end of a chunk may be half of an end of line.
      const lines = (rest + decoder.write(chunk)).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? '';
      if (rest.length > longestLine) {
        lines.push(rest);
        rest = '';
      }
      hand(lines);
    });
    stream.once('error', reject);
    stream.once('close', () => {
      const last = (rest + decoder.end()).replace(/\r$/, '');
      if (last !== '') hand([last]);
      resolve();
    });
  });
}

/** Everything that comes out of a stream, as text without its last end of line. */
function textOf(chunks: readonly Buffer[]): string {
  return Buffer.concat(chunks).toString('utf8').replace(/\n$/, '');
}

/**
 * Runs a program to its end and gives its output (without the last end of line). What the program started and left
 * behind in its group, holding its output, is killed two seconds after its end.
 * @param command the program's name (searched in PATH) or path; `args` are handed over as they are, no shell reads them
 * @throws ReliveError `tool-missing`, `tool-failed` (with the last lines of the output), `disk-full`, `timed-out`,
 *   or the abort reason of `signal`; what `onLine` throws
 */
export async function run(command: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  const { onStatusLine } = options;
  const child = start(command, args, {
    ...options,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    statusPipe: onStatusLine !== undefined,
  });
  closeSoonAfterExit(child);
  const tail: string[] = [];
  let diskFull: string | undefined;
  const captured = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  const collect = (stream: 'stdout' | 'stderr') => (line: string) => {
    options.onLine?.(line, stream);
    if (line.trim() !== '') tail.push(line);
    if (tail.length > tailLines) tail.shift();
    // Programs go on for long after it, and end by complaining of what followed from it.
    if (/no space left on device|disk quota exceeded/i.test(line)) diskFull ??= line;
  };

  let timedOut = false;
  const timer =
    options.timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          endGroup(child);
        }, options.timeoutSeconds * 1000);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  try {
    const failedToStart = new Promise<never>((_, reject) => child.once('error', reject));
    if (options.input !== undefined && child.stdin !== null) {
      // A program that ends before it has read all its input shows in its exit status.
      child.stdin.once('error', () => undefined);
      child.stdin.end(options.input);
    }
    const streams = [];
    for (const name of ['stdout', 'stderr'] as const) {
      const stream = child[name];
      if (stream === null) continue;
      // With a listener the lines are its business: the output of a build is long.
      if (options.onLine === undefined) stream.on('data', (chunk: Buffer) => captured[name].push(chunk));
      streams.push(eachLine(stream, collect(name), options.encoding));
    }
    const statusPipe = child.stdio[3];
    if (onStatusLine !== undefined && statusPipe instanceof Readable)
      streams.push(eachLine(statusPipe, onStatusLine));
    await Promise.race([failedToStart, Promise.all([closed, ...streams])]);
  } catch (error) {
    if (child.pid !== undefined && !hasEnded(child)) endGroup(child);
    if (child.pid !== undefined) await closed;
    throw error;
  } finally {
    clearTimeout(timer);
  }
  options.signal.throwIfAborted();
  const name = options.as ?? command;
  if (timedOut) {
    throw new ReliveError(
      'timed-out',
      `${name} did not end within ${options.timeoutSeconds} s\n${indent(tail)}`.trimEnd(),
    );
  }
  const status =
    child.exitCode ?? 128 + (child.signalCode === null ? 0 : constants.signals[child.signalCode]);
  if (!(options.accept ?? [0]).includes(status)) {
    throw failure(name, status, child.signalCode, tail, diskFull);
  }
  return { status, stdout: textOf(captured.stdout), stderr: textOf(captured.stderr) };
}

function indent(lines: readonly string[]): string {
  return lines.map((line) => `    ${line}`).join('\n');
}

function failure(
  name: string,
  status: number,
  signal: NodeJS.Signals | null,
  tail: readonly string[],
  diskFull: string | undefined,
): ReliveError {
  const how = signal === null ? `ended with status ${status}` : `was ended by ${signal}`;
  if (diskFull !== undefined) {
    const lines = tail.includes(diskFull) ? tail : [diskFull, '...', ...tail];
    return new ReliveError('disk-full', `${name} ${how}\n${indent(lines)}`, {
      hint: 'make room on that file system and start again',
    });
  }
  const message = `${name} ${how}\n${indent(tail)}`.trimEnd();
  return new ReliveError('tool-failed', message);
}
