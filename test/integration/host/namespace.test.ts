import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  processesWith,
  repository,
  startProgram,
  temporaryDirectory,
  uniqueSeconds,
  until,
} from '../../support.ts';

/**
 * A program that enters the namespaces as src/program.ts does; inside it mounts a tmpfs on its first argument, makes a
 * file there, starts a daemon in a session of its own, and then sleeps through `run`, or does what its third
 * argument says. It is started by its path, since that is what is started again.
 */
const program = `
import { spawn } from 'node:child_process';
import { readlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { interruptSignal } from '${repository}/build/modules/host/interrupt.js';
import * as namespace from '${repository}/build/modules/host/namespace.js';
import { run } from '${repository}/build/modules/host/process.js';

const [directory, seconds, what] = process.argv.slice(2);
if (!namespace.insideNamespaces()) {
  try {
    process.exitCode = await namespace.enterNamespaces();
  } catch (error) {
    console.log(error.code, error.message);
    process.exitCode = error.exitStatus;
  }
} else {
  if (what === 'never ready') process.exit(0);
  const signal = interruptSignal();
  namespace.sayInside();
  namespace.hideHostName();
  if (what === 'status') process.exit(7);
  try {
    await run('mount', ['-t', 'tmpfs', 'tmpfs', directory], { signal });
    writeFileSync(directory + '/inside', '');
    spawn('setsid', ['sleep', seconds], { stdio: 'ignore' });
    const mounts = readlinkSync('/proc/self/ns/mnt');
    console.log(JSON.stringify({ pid: process.pid, hostname: hostname(), mounts }));
    await run('sleep', [seconds], { signal });
  } catch (error) {
    console.log(error.code);
    process.exitCode = error.exitStatus;
  }
  process.exit();
}
`;

function enter(what = '') {
  const directory = temporaryDirectory();
  const mountPoint = join(directory, 'mount');
  mkdirSync(mountPoint);
  const path = join(directory, 'program.mjs');
  writeFileSync(path, program);
  const seconds = uniqueSeconds();
  const started = startProgram(process.execPath, [path, mountPoint, seconds, what]);
  return { ...started, mountPoint, seconds };
}

const mounts = (): string => readFileSync('/proc/self/mountinfo', 'utf8');

test('mounts inside are not seen outside, and the host keeps its name', async () => {
  const { says, mountPoint, ended, child, seconds } = enter();
  await says('"pid":1');
  await until(() => processesWith(seconds).length >= 3, 'both sleeping processes');
  expect(mounts()).not.toContain(mountPoint);
  expect(readdirSync(mountPoint)).toEqual([]);
  child.kill('SIGINT');
  const said = JSON.parse((await ended).stdout.split('\n')[0] ?? '') as Record<string, unknown>;
  expect(said).toMatchObject({ pid: 1, hostname: 'localhost' });
  expect(said['mounts']).not.toBe(readlinkSync('/proc/self/ns/mnt'));
  expect(hostname()).not.toBe('localhost');
});

describe('signals', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s reaches the inside, and everything ends',
    async (name) => {
      const { says, ended, child, seconds, mountPoint } = enter();
      await says('"pid":1');
      await until(() => processesWith(seconds).length >= 3, 'both sleeping processes');
      child.kill(name);
      const { status, stdout } = await ended;
      expect(stdout).toContain('interrupted\n');
      expect(status).toBe(130);
      expect(processesWith(seconds)).toEqual([]);
      expect(mounts()).not.toContain(mountPoint);
    },
  );

  test('one that comes before the inside has started is not lost', async () => {
    const { ended, child, seconds } = enter();
    await until(() => processesWith(seconds).length >= 2, 'the second process');
    child.kill('SIGINT');
    expect((await ended).status).toBe(130);
    expect(processesWith(seconds)).toEqual([]);
  });

  test('SIGKILL at the very beginning leaves nothing either', async () => {
    for (let turn = 0; turn < 5; turn += 1) {
      const { ended, child, seconds } = enter();
      await until(() => processesWith(seconds).length >= 2, 'the second process');
      child.kill('SIGKILL');
      await ended;
      await until(() => processesWith(seconds).length === 0, 'the end of all processes');
      expect(processesWith(seconds)).toEqual([]);
    }
  });

  test('SIGKILL leaves no process and no mount', async () => {
    const { says, ended, child, seconds, mountPoint } = enter();
    await says('"pid":1');
    await until(() => processesWith(seconds).length >= 3, 'both sleeping processes');
    child.kill('SIGKILL');
    expect(await ended).toMatchObject({ signal: 'SIGKILL' });
    await until(() => processesWith(seconds).length === 0, 'the end of all processes');
    expect(mounts()).not.toContain(mountPoint);
    expect(readdirSync(mountPoint)).toEqual([]);
  });
});

describe('status', () => {
  test('that of the inside is handed on', async () => {
    expect((await enter('status').ended).status).toBe(7);
  });

  test('an inside that never starts is an error of the host, not a finding', async () => {
    const { status, stdout } = await enter('never ready').ended;
    expect(stdout).toContain('host-unable this host does not let relive make private namespaces');
    expect(status).toBe(3);
  });

  test('an inside that is killed is said to be', async () => {
    const { says, ended, seconds } = enter();
    await says('"pid":1');
    // The only one that is the first process of a PID namespace.
    const inside = processesWith(seconds).find((pid) => {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      return /^NSpid:\t\d+\t1$/m.test(status);
    });
    process.kill(inside ?? 0, 'SIGKILL');
    const { status, stdout } = await ended;
    expect(stdout).toContain('host-unable relive was killed');
    expect(status).toBe(3);
  });
});
