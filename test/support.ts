import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Context, WorkEvent } from '../src/core/event.ts';

export const repository = join(import.meta.dirname, '..');
export const cli = join(repository, 'dist/cli.cjs');
/** Whether tests are wanted that take long, and of which shorter ones prove nearly as much (CONTRIBUTING.md). */
export const slowTests = (process.env['RELIVE_SLOW_TESTS'] ?? '') !== '';

/** A directory that is removed when the test has ended. */
export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'relive-test-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A context whose events can be looked at. */
export function recordingContext(signal: AbortSignal = new AbortController().signal): Context & {
  readonly events: readonly WorkEvent[];
} {
  const events: WorkEvent[] = [];
  return { events, emit: (event) => events.push(event), signal };
}

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A child process of a test; it is killed with its group when the test has ended. */
export interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Settles when `text` has been written to standard output. */
  readonly says: (text: string) => Promise<void>;
}

export function startProgram(
  command: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Started {
  const child = spawn(command, args, { ...options, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  onTestFinished(() => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // ESRCH: it has ended.
    }
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
  const says = async (text: string): Promise<void> => {
    await until(() => {
      if (stdout.includes(text)) return true;
      if (child.exitCode !== null) throw new Error(`ended without saying "${text}":\n${stdout}${stderr}`);
      return false;
    }, `"${text}" on standard output`);
  };
  return { child, ended, says };
}

/** Runs the compiled command line to its end. */
export async function relive(
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Promise<Ended> {
  return await startProgram(process.execPath, [cli, ...args], options).ended;
}

/** Starts Node.js on the text of a module, which may import from the compiled `build/modules/`. */
export function startModule(source: string, args: readonly string[] = []): Started {
  const text = source.replaceAll(
    /from '(build\/modules\/[^']+)'/g,
    (_, path: string) => `from '${repository}/${path}'`,
  );
  return startProgram(process.execPath, ['--input-type=module', '--eval', text, '--', ...args]);
}

/** Waits until something holds; fails, naming it, after half a minute. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const latest = performance.now() + 30_000;
  while (!holds()) {
    if (performance.now() > latest) throw new Error(`in vain waited for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The processes of this machine that have `word` as one of their arguments. */
export function processesWith(word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(word);
      } catch {
        // It ended while we looked.
        return false;
      }
    })
    .map(Number);
}

/** A number of seconds that no other process sleeps for. */
export function uniqueSeconds(): string {
  return `3600.${process.pid}${Math.floor(Math.random() * 1e9)}`;
}
