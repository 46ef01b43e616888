import { spawn } from 'node:child_process';
import { closeSync, readlinkSync, writeFileSync, writeSync } from 'node:fs';
import { ReliveError, systemCode } from '../core/error.ts';
import { requireTool } from './tools.ts';

/** Set in the process that runs inside: the PID namespace outside, which must differ from its own. */
const marker = 'RELIVE_OUTSIDE';
/** The descriptor on which the process inside says that it has started and hears signals. */
const readyDescriptor = 3;
/**
 * Added to the exit status of the process inside, and taken off again outside: unshare(1) of Debian 12 turns the
 * inside's death by a signal into its own status 1, which would be taken for a finding.
 */
const statusOffset = 64;

function pidNamespace(): string {
  return readlinkSync('/proc/self/ns/pid');
}

/** Whether this process already runs inside the namespaces that `enterNamespaces` makes. */
export function insideNamespaces(): boolean {
  const outside = process.env[marker];
  return outside !== undefined && outside !== pidNamespace() && process.pid === 1;
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
 *
 * Signals are kept back until the inner process has called `sayInside`: the kernel drops those that reach the first
 * process of a PID namespace before it has a handler (pid_namespaces(7)).
 * @throws ReliveError `host-unable` when this host gives us no namespaces, or something killed the inner process
 */
export async function enterNamespaces(): Promise<number> {
  // Before anything is started: a signal now would end us, and not yet what we start.
  let ready = false;
  const early: NodeJS.Signals[] = [];
  const forward = (signal: NodeJS.Signals): void => {
    if (!ready || child.pid === undefined) {
      early.push(signal);
      return;
    }
    try {
      // unshare is in the group as well: it ignores SIGINT and SIGTERM, yet would die of SIGHUP and take ours along.
      process.kill(-child.pid, signal === 'SIGHUP' ? 'SIGTERM' : signal);
    } catch {
      // ESRCH: it has just ended.
    }
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, forward);
  // Its terminal is ours, its session is not: without this it would never learn that the window's size has changed.
  process.on('SIGWINCH', (signal) => {
    if (ready) forward(signal);
  });
  const child = spawn(
    requireTool('setpriv'),
    [
      ...['--pdeathsig', 'KILL', '--', requireTool('unshare')],
      ...['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc', '--kill-child=KILL'],
      ...['--uts', '--ipc', '--', process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    ],
    {
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
      detached: true,
      env: { ...process.env, [marker]: pidNamespace() },
    },
  );
  child.stdio[readyDescriptor]?.once('data', () => {
    ready = true;
    for (const signal of early) forward(signal);
  });
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...how) => resolve(how));
  });
  if (!ready) {
    throw new ReliveError('host-unable', 'this host does not let relive make private namespaces', {
      hint: 'a container must be privileged for this; relive doctor shows what is missing',
    });
  }
  if (status === null || status < statusOffset) {
    throw new ReliveError('host-unable', `relive was killed${signal === null ? '' : ` by ${signal}`}`, {
      hint: 'did the machine run out of memory? dmesg may tell',
    });
  }
  return status - statusOffset;
}

/** Set in the process that runs in a mount namespace of its own: the namespace outside, or whose it is. */
export const mountMarker = 'RELIVE_MOUNTS_OUTSIDE';
/** A script that starts relive cannot read the name of its namespace: the parent of both has the same one. */
export const outsideIsParent = 'parent';

function mountNamespace(of: string | number): string | undefined {
  try {
    return readlinkSync(`/proc/${of}/ns/mnt`);
  } catch {
    return undefined;
  }
}

/** Whether this process runs in a mount namespace of its own, that of `enterMountNamespace` or of the one who started it. */
export function insideMountNamespace(): boolean {
  const outside = process.env[mountMarker];
  if (outside === undefined) return false;
  const own = mountNamespace('self');
  // Without the parent the first process is the parent.
  return own !== (outside === outsideIsParent ? (mountNamespace(process.ppid) ?? own) : outside);
}

/**
 * Starts this very command once more inside a private mount namespace, and gives its exit status. Its mounts go with it,
 * whatever ends it; all else is that of this machine: its processes, its systemd. SIGKILL of relive ends it, too (unshare
 * becomes the program itself, so that the parent-death signal that setpriv sets is its own).
 * @throws ReliveError `host-unable`
 */
export async function enterMountNamespace(): Promise<number> {
  const child = spawn(
    requireTool('setpriv'),
    [
      ...['--pdeathsig', 'KILL', '--', requireTool('unshare'), '--mount', '--propagation', 'private', '--'],
      ...[process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    ],
    { stdio: 'inherit', env: { ...process.env, [mountMarker]: readlinkSync('/proc/self/ns/mnt') } },
  );
  // What a terminal sends reaches it by itself, and a second signal would end it in the midst of its clearing up.
  for (const name of ['SIGINT', 'SIGHUP'] as const) process.on(name, () => undefined);
  process.on('SIGTERM', (name) => child.kill(name));
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (...how) => resolve(how));
  });
  if (status !== null) return status;
  throw new ReliveError('host-unable', `relive was killed by ${signal}`, {
    hint: 'did the machine run out of memory? dmesg may tell',
  });
}

/** Tells the process outside that we have started and hear signals from now on, and how we end. Once, inside only. */
export function sayInside(): void {
  process.once('exit', (status) => {
    process.exitCode = status + statusOffset;
  });
  try {
    writeSync(readyDescriptor, '.');
    closeSync(readyDescriptor);
  } catch (error) {
    // It was killed before setpriv could tie us to it: nobody else would end us.
    if (systemCode(error) === 'EPIPE') process.exit();
    throw error;
  }
}

/** Gives the namespace a host name of its own, so that no maintainer script learns the build host's. */
export function hideHostName(): void {
  writeFileSync('/proc/sys/kernel/hostname', 'localhost');
}
