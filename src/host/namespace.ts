import { spawn } from 'node:child_process';
import { readlinkSync, writeFileSync } from 'node:fs';
import { ReliveError } from '../core/error.ts';
import { requireTool } from './tools.ts';

/** Set in the process that runs inside: the PID namespace outside, which must differ from its own. */
const marker = 'RELIVE_OUTSIDE';

function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid');
}

/** Whether this process already runs inside the namespaces that `enterNamespaces` makes. */
export function insideNamespaces(): boolean {
  const outside = process.env[marker];
  return outside !== undefined && outside !== pidNamespace();
}

/**
 * Refuses anybody but root.
 * @throws ReliveError `not-root`
 */
export function requireRoot(what: string): void {
  if (process.geteuid?.() !== 0) {
    throw new ReliveError('not-root', `${what} needs root: it mounts file systems and changes owners`, {
      hint: `sudo relive ${what} ...`,
    });
  }
}

/**
 * Starts this very command once more inside private mount, PID, UTS and IPC namespaces (unshare(1)), passes on
 * signals and gives its exit status. It is the first process of its PID namespace: when it ends, for whatever
 * reason, the kernel ends all the others and the mounts go with them. setpriv ties unshare to our life, and
 * --kill-child the inner process to unshare's, so SIGKILL of relive leaves nothing behind.
 */
export async function enterNamespaces(): Promise<number> {
  const child = spawn(
    requireTool('setpriv'),
    [
      ...['--pdeathsig', 'KILL', '--', requireTool('unshare')],
      ...['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc', '--kill-child=KILL'],
      ...['--uts', '--ipc', '--', process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    ],
    { stdio: 'inherit', detached: true, env: { ...process.env, [marker]: pidNamespace() } },
  );
  const forward = (signal: NodeJS.Signals): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // It has just ended.
    }
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, forward);
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => resolve(status ?? 3));
  });
}

/** Gives the namespace a host name of its own, so that no maintainer script learns the build host's. */
export function hideHostName(): void {
  writeFileSync('/proc/sys/kernel/hostname', 'localhost');
}
