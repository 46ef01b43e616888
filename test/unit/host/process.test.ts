import { once } from 'node:events';
import * as fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ReliveError } from '../../../src/core/error.ts';
import { baseEnvironment, endGroup, run, start } from '../../../src/host/process.ts';
import { processesWith, startModule, uniqueSeconds, until } from '../../support.ts';

const signal = new AbortController().signal;

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('arguments and environment', () => {
  test('arguments reach the program as they are', async () => {
    // What a shell, printf or the kernel's argument list would change, NUL apart, which no argument can hold.
    const hostile = fc.array(fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\0', '')));
    await fc.assert(
      fc.asyncProperty(hostile, async (args) => {
        const { stdout } = await run('printf', ['%s\\0', '', ...args], { signal });
        expect(stdout.split('\0').slice(1, -1)).toEqual(args);
      }),
      {
        numRuns: 40,
        examples: [[['$(id)', '`id`', '; id', '*', '--', '-n', ' ', '', "'", '"', '\\', 'a\nb']]],
      },
    );
  });

  test('the environment is the allow-list and what was asked for, nothing of the caller', async () => {
    vi.stubEnv('SECRET_TOKEN', 'do not tell');
    vi.stubEnv('LANG', 'de_DE.UTF-8');
    vi.stubEnv('SOURCE_DATE_EPOCH', '1700000000');
    const { stdout } = await run('env', ['--null'], { signal, env: { ADDED: 'a b', HOME: undefined } });
    const names = stdout
      .split('\0')
      .filter((entry) => entry !== '')
      .map((entry) => entry.slice(0, entry.indexOf('=')));
    const { HOME: _, ...rest } = baseEnvironment();
    expect(names.toSorted()).toEqual(['ADDED', ...Object.keys(rest)].toSorted());
    expect(stdout).toContain('LC_ALL=C.UTF-8\0');
    expect(stdout).toContain('SOURCE_DATE_EPOCH=1700000000\0');
  });

  test('standard input is empty, or what was given', async () => {
    expect((await run('cat', [], { signal })).stdout).toBe('');
    expect((await run('cat', [], { signal, input: 'a\nb\n' })).stdout).toBe('a\nb');
  });

  test('a program that does not read its input is no error', async () => {
    expect((await run('true', [], { signal, input: 'x'.repeat(1_000_000) })).status).toBe(0);
  });
});

describe('output', () => {
  test('standard output and standard error are kept apart', async () => {
    const result = await run('sh', ['-c', 'echo out; echo err >&2'], { signal });
    expect(result).toEqual({ status: 0, stdout: 'out', stderr: 'err' });
  });

  test('lines are handed on, progress displays too, characters whole', async () => {
    const lines: string[] = [];
    // Longer than a pipe holds, shorter than an argument may be.
    const wide = 'ä€𝄞'.repeat(10_000);
    const result = await run('printf', ['1 %%\\r2 %%\\r\\ndone\\n%s\\nlast', wide], {
      signal,
      onLine: (line, stream) => lines.push(`${stream}: ${line}`),
    });
    expect(lines).toEqual(['stdout: 1 %', 'stdout: 2 %', 'stdout: done', `stdout: ${wide}`, 'stdout: last']);
    expect(result.stdout).toBe('');
  });

  test('descriptor 3 carries status lines, apart from the output', async () => {
    const lines: string[] = [];
    const { stdout } = await run('sh', ['-c', 'echo one >&3; echo out; printf two >&3'], {
      signal,
      onStatusLine: (line) => lines.push(line),
    });
    expect({ lines, stdout }).toEqual({ lines: ['one', 'two'], stdout: 'out' });
    await expect(run('sh', ['-c', 'echo one >&3'], { signal })).rejects.toMatchObject({
      code: 'tool-failed',
    });
  });

  test('a line without an end does not fill the memory', async () => {
    const lengths: number[] = [];
    await run('head', ['--bytes=5000000', '/dev/zero'], {
      signal,
      onLine: (line) => lengths.push(line.length),
    });
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(5_000_000);
    expect(lengths.length).toBeGreaterThan(2);
  });

  test('what a listener throws ends the program and comes out', async () => {
    const seconds = uniqueSeconds();
    const failing = run('sh', ['-c', `echo now; sleep ${seconds}; true`], {
      signal,
      onLine: () => {
        throw new Error('the listener failed');
      },
    });
    await expect(failing).rejects.toThrow('the listener failed');
    expect(processesWith(seconds)).toEqual([]);
  });
});

describe('failures', () => {
  test('a missing program is named with the package that brings it', async () => {
    await expect(run('relive-has-no-such-tool', [], { signal })).rejects.toMatchObject({
      code: 'tool-missing',
      hint: 'install relive-has-no-such-tool',
    });
  });

  test('the error has the status and the last lines of both streams', async () => {
    const failing = run('sh', ['-c', 'seq 100; echo the reason >&2; exit 7'], { signal });
    await expect(failing).rejects.toMatchObject({
      code: 'tool-failed',
      message: expect.stringMatching(/^sh ended with status 7\n {4}8[12]\n/),
    });
    await expect(failing).rejects.toThrow('the reason');
    await expect(failing).rejects.not.toThrow('    79\n');
  });

  test('a signal is named, and so is what the caller calls the program', async () => {
    await expect(run('sh', ['-c', 'kill -SEGV $$'], { signal, as: 'the tool' })).rejects.toThrow(
      'the tool was ended by SIGSEGV',
    );
  });

  test('statuses that were asked for are no errors', async () => {
    expect(await run('sh', ['-c', 'exit 3'], { signal, accept: [0, 3] })).toMatchObject({ status: 3 });
    await expect(run('true', [], { signal, accept: [3] })).rejects.toMatchObject({ code: 'tool-failed' });
  });

  test('a full disk is recognised', async () => {
    await expect(run('dd', ['if=/dev/zero', 'of=/dev/full', 'count=1'], { signal })).rejects.toMatchObject({
      code: 'disk-full',
    });
  });

  test('also where the program went on for long after it', async () => {
    const script = 'dd if=/dev/zero of=/dev/full count=1; seq 100 >&2; exit 7';
    await expect(run('sh', ['-c', script], { signal, as: 'script' })).rejects.toMatchObject({
      code: 'disk-full',
      message: expect.stringMatching(
        /^script ended with status 7\n.*No space left on device\n.*\.\.\.\n +81\n/,
      ),
    });
  });
});

describe('ending', () => {
  test('a time-out ends the whole group, also a grandchild that holds the output', async () => {
    const seconds = uniqueSeconds();
    const slow = run('sh', ['-c', `echo begun; sleep ${seconds} & exec sleep ${seconds}`], {
      signal,
      timeoutSeconds: 0.5,
      as: 'slow tool',
    });
    await expect(slow).rejects.toMatchObject({
      code: 'timed-out',
      message: 'slow tool did not end within 0.5 s\n    begun',
    });
    expect(processesWith(seconds)).toEqual([]);
  });

  test('an abort ends the whole group and throws its reason', async () => {
    const seconds = uniqueSeconds();
    const controller = new AbortController();
    const reason = new ReliveError('interrupted', 'enough');
    const running = run('sh', ['-c', `sleep ${seconds} & sleep ${seconds}`], { signal: controller.signal });
    const outcome = running.catch((error: unknown) => error);
    await until(() => processesWith(seconds).length >= 2, 'two sleeping processes');
    controller.abort(reason);
    expect(await outcome).toBe(reason);
    expect(processesWith(seconds)).toEqual([]);
  });

  test('a group that ignores SIGTERM is killed', async () => {
    const seconds = uniqueSeconds();
    const controller = new AbortController();
    const running = run('sh', ['-c', `trap '' TERM; sleep ${seconds} & wait; wait; sleep ${seconds}`], {
      signal: controller.signal,
    });
    const outcome = running.catch((error: unknown) => error);
    await until(() => processesWith(seconds).length > 0, 'a sleeping process');
    controller.abort(new ReliveError('interrupted', 'enough'));
    expect(await outcome).toMatchObject({ message: 'enough' });
    expect(processesWith(seconds)).toEqual([]);
  });

  test('what a program leaves behind in its group does not hold us up, nor does it live on', async () => {
    const seconds = uniqueSeconds();
    const { stdout } = await run('sh', ['-c', `echo done; sleep ${seconds} &`], { signal });
    expect(stdout).toBe('done');
    expect(processesWith(seconds)).toEqual([]);
  });

  test('a daemon that keeps our pipe does not hold us up', async () => {
    const seconds = uniqueSeconds();
    const { stdout } = await run('sh', ['-c', `echo done; setsid sleep ${seconds} &`], { signal });
    expect(stdout).toBe('done');
    for (const pid of processesWith(seconds)) process.kill(pid, 'SIGKILL');
  });

  test('nothing starts once it was aborted', async () => {
    const controller = new AbortController();
    controller.abort(new ReliveError('interrupted', 'before'));
    await expect(run('true', [], { signal: controller.signal })).rejects.toThrow('before');
  });

  test('a program beside us ends with endGroup', async () => {
    const seconds = uniqueSeconds();
    const child = start('sh', ['-c', `sleep ${seconds} & sleep ${seconds}`], { signal });
    await until(() => processesWith(seconds).length >= 2, 'two sleeping processes');
    endGroup(child);
    await once(child, 'close');
    expect(processesWith(seconds)).toEqual([]);
  });

  test('a program dies with us even when we are killed', async () => {
    const seconds = uniqueSeconds();
    const { child } = startModule(
      `import { run } from 'build/modules/host/process.js';
       await run('sleep', [process.argv[1]], { signal: new AbortController().signal });`,
      [seconds],
    );
    // At any moment: as soon as the second process is there it may not be sleep yet.
    await until(() => processesWith(seconds).length === 2, 'our process and its sleep');
    child.kill('SIGKILL');
    await until(() => processesWith(seconds).length === 0, 'the end of sleep');
    expect(processesWith(seconds)).toEqual([]);
  });
});
