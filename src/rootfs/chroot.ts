import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { entryExists, makeDirectories } from '../host/files.ts';
import { noProxies, type RunOptions, type RunResult, run } from '../host/process.ts';

/** Device nodes that programs expect (hier(7)): name, major, minor. */
const devices = [
  ['null', 1, 3],
  ['zero', 1, 5],
  ['full', 1, 7],
  ['random', 1, 8],
  ['urandom', 1, 9],
  ['tty', 5, 0],
] as const;

/** Refuses to start services (invoke-rc.d(8)); removed again when the work in the root is done. */
const policy = 'usr/sbin/policy-rc.d';

/**
 * What Node.js calls a pipe is a socket, and a socket cannot be opened again by its name: `echo ... >/dev/stderr`, as
 * maintainer scripts write it, fails on one. bash puts a pipe between; the command itself is handed over as arguments.
 */
const throughPipes = 'exec < <(exec cat) > >(exec cat) 2> >(exec cat >&2); exec "$@"';

/**
 * The arguments of bash that run a command with pipes for its input and output, in namespaces of its own: it has no
 * network, and what it leaves running or mounted ends with it.
 * @param proc where the PID namespace's /proc is mounted
 */
export function isolated(proc: string, command: readonly string[]): string[] {
  return [
    // With a socket for its input it takes itself for a remote shell, and would run the host's ~/.bashrc.
    ...['--norc', '-c', throughPipes, 'bash', 'unshare'],
    ...['--pid', '--fork', '--kill-child=KILL', `--mount-proc=${proc}`, '--net', '--ipc', '--'],
    ...command,
  ];
}

/** A root file system made ready for running its own programs. */
export interface Chroot {
  readonly root: string;
  /** Binds a host directory read-only at a path below /run inside. */
  readonly bind: (directory: string, inside: string) => Promise<void>;
  /** Runs a program inside. */
  readonly run: (
    command: string,
    args: readonly string[],
    options?: Partial<RunOptions>,
  ) => Promise<RunResult>;
  /** Removes what was put there for the work. The mounts are for whoever mounted the root to take down. */
  readonly leave: () => Promise<void>;
}

/**
 * Makes the system at `root` ready for running maintainer scripts: kernel file systems, a /dev of its own, empty /run
 * and /tmp. Call it inside the private namespaces only. Programs run without a network, in a PID namespace of their own,
 * so that whatever they leave running ends with them; services are not started.
 */
export async function enterChroot(root: string, context: Context): Promise<Chroot> {
  const mount = async (...args: string[]): Promise<void> => {
    await run('mount', args, context);
  };
  const inside = (path: string): string => join(root, path);
  for (const directory of ['proc', 'sys', 'dev', 'run', 'tmp']) await makeDirectories(inside(directory));
  await mount('-t', 'proc', '-o', 'nosuid,nodev,noexec', 'proc', inside('proc'));
  await mount('-t', 'sysfs', '-o', 'ro,nosuid,nodev,noexec', 'sysfs', inside('sys'));
  await mount('-t', 'tmpfs', '-o', 'mode=755,nosuid', 'tmpfs', inside('dev'));
  await mount('-t', 'tmpfs', '-o', 'mode=755,nosuid,nodev', 'tmpfs', inside('run'));
  await mount('-t', 'tmpfs', '-o', 'mode=1777,nosuid,nodev', 'tmpfs', inside('tmp'));
  for (const [name, major, minor] of devices) {
    await run('mknod', ['-m', '666', inside(`dev/${name}`), 'c', String(major), String(minor)], context);
  }
  for (const [target, name] of [
    ['/proc/self/fd', 'fd'],
    ['/proc/self/fd/0', 'stdin'],
    ['/proc/self/fd/1', 'stdout'],
    ['/proc/self/fd/2', 'stderr'],
  ] as const) {
    await run('ln', ['-s', target, inside(`dev/${name}`)], context);
  }
  for (const name of ['pts', 'shm']) await mkdir(inside(`dev/${name}`));
  await mount('-t', 'devpts', '-o', 'newinstance,ptmxmode=0666,mode=620,gid=5', 'devpts', inside('dev/pts'));
  await run('ln', ['-s', 'pts/ptmx', inside('dev/ptmx')], context);

  const ownPolicy = !(await entryExists(inside(policy)));
  if (ownPolicy) {
    await writeFile(inside(policy), '#!/bin/sh\nexit 101\n');
    await chmod(inside(policy), 0o755);
  }
  return {
    root,
    bind: async (directory, target) => {
      await makeDirectories(inside(target));
      await mount('--bind', '-o', 'ro', directory, inside(target));
    },
    run: async (command, args, options = {}) =>
      await run('bash', isolated(inside('proc'), ['chroot', root, command, ...args]), {
        ...context,
        as: command,
        ...options,
        env: { TMPDIR: undefined, ...noProxies, ...options.env },
      }),
    leave: async () => {
      if (ownPolicy) await rm(inside(policy), { force: true });
    },
  };
}
