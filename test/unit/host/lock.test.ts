import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ReliveError } from '../../../src/core/error.ts';
import { takeLock, tryLock } from '../../../src/host/lock.ts';
import { recordingContext, startModule, temporaryDirectory, until } from '../../support.ts';

const what = 'the store /srv/store';

/** Another process that takes the lock and keeps it. */
function startHolder(path: string) {
  return startModule(
    `import { takeLock } from 'build/modules/host/lock.js';
     const context = { emit: () => undefined, signal: new AbortController().signal };
     const lock = await takeLock(process.argv[1], 'it', context);
     console.log('locked');
     setInterval(() => lock, 1000);`,
    [path, 'build', 'demo'],
  );
}

test('one at a time, and the next one after it', async () => {
  const path = join(temporaryDirectory(), 'new/lock');
  const first = await takeLock(path, what, recordingContext());
  await expect(takeLock(path, what, recordingContext(), { wait: false })).rejects.toMatchObject({
    code: 'locked',
  });
  await first.release();
  const second = await takeLock(path, what, recordingContext(), { wait: false });
  await second.release();
});

test('another part of this process is waited for without a warning', async () => {
  const path = join(temporaryDirectory(), 'lock');
  const first = await takeLock(path, what, recordingContext());
  const context = recordingContext();
  const waiting = takeLock(path, what, context);
  await until(() => context.events.length > 0, 'the message that it waits');
  await first.release();
  await (await waiting).release();
  expect(context.events).toEqual([{ event: 'note', message: `waiting for ${what}` }]);
});

test('shared by those who ask so, and by nobody else', async () => {
  const path = join(temporaryDirectory(), 'lock');
  const context = recordingContext();
  const shares = [
    await takeLock(path, what, context, { shared: true }),
    await takeLock(path, what, context, { shared: true }),
  ];
  expect(await tryLock(path, context)).toBeUndefined();
  await shares[0]?.release();
  expect(await tryLock(path, context)).toBeUndefined();
  await shares[1]?.release();
  const alone = await tryLock(path, context);
  expect(alone).toBeDefined();
  await expect(takeLock(path, what, context, { shared: true, wait: false })).rejects.toMatchObject({
    code: 'locked',
  });
  await alone?.release();
  expect(context.events).toEqual([]);
});

test('another process is named, waited for, and its lock ends with it, however it ends', async () => {
  const path = join(temporaryDirectory(), 'lock');
  const { child, says } = startHolder(path);
  await says('locked');
  const holder = readFileSync(path, 'utf8').trim();
  expect(holder).toMatch(/^"relive build demo", started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/);
  await expect(takeLock(path, what, recordingContext(), { wait: false })).rejects.toMatchObject({
    code: 'locked',
    message: `${what} is in use by ${holder}`,
  });
  const context = recordingContext();
  const waiting = takeLock(path, what, context);
  await until(() => context.events.length > 0, 'the message that it waits');
  expect(context.events).toEqual([
    { event: 'warning', message: `${what} is in use by ${holder}; waiting for it` },
  ]);
  child.kill('SIGKILL');
  const lock = await waiting;
  expect(context.events).toHaveLength(1);
  await lock.release();
  expect(readFileSync(path, 'utf8')).toBe('');
});

test('waiting can be interrupted', async () => {
  const path = join(temporaryDirectory(), 'lock');
  const { says } = startHolder(path);
  await says('locked');
  const controller = new AbortController();
  const context = recordingContext(controller.signal);
  const outcome = takeLock(path, what, context).catch((error: unknown) => error);
  await until(() => context.events.length > 0, 'the message that it waits');
  controller.abort(new ReliveError('interrupted', 'enough'));
  expect(await outcome).toMatchObject({ code: 'interrupted' });
});
