import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { keepBooted, makeDefault } from '../../../src/live/next-start.ts';
import { readEnvironment } from '../../../src/medium/environment.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { addImages, diskOf, writeBlock } from '../../fixtures/menu.ts';
import { temporaryDirectory } from '../../support.ts';

const [older, newer] = ['web-20261122.01', 'web-20261122.02'] as const;

/** A store with two images on a file system of its own, mounted read-only as a medium is; or one that stays so. */
function mountedStore(
  block: Readonly<Record<string, string>> | undefined,
  options = ['loop', 'remount,ro'],
): string {
  const directory = join(temporaryDirectory(), 'store');
  mkdirSync(directory);
  addImages(directory, [{ name: older }, { name: newer }], undefined);
  if (block !== undefined) writeBlock(directory, block);
  const place = temporaryDirectory();
  const disk = diskOf(directory);
  for (const each of options) {
    execFileSync('mount', ['-o', each, ...(each.startsWith('remount') ? [] : [disk]), place]);
  }
  onTestFinished(() => void execFileSync('umount', [place]));
  return place;
}

function isReadOnly(store: string): boolean {
  const line = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find((each) => each.split(' ')[1] === store);
  return line?.split(' ')[3]?.split(',').includes('ro') === true;
}

test('the next start is into the image that was booted, once; or into the newest one, with its trials', async () => {
  const context = recordingContext();
  const spent = { relive_good: older, relive_trial: newer, relive_tries: '3' };
  const store = mountedStore(spent);
  expect(await keepBooted(store, older, context)).toBe(older);
  expect(await readEnvironment(store)).toEqual({ ...spent, relive_next: older });
  expect(isReadOnly(store)).toBe(true);
  await makeDefault(store, newer, context);
  expect(await readEnvironment(store)).toEqual({ relive_good: older });
  expect(isReadOnly(store)).toBe(true);
  await expect(makeDefault(store, older, context)).rejects.toMatchObject({
    code: 'usage',
    message: `the menu starts ${newer} by itself`,
  });
});

test('what somebody has chosen for the next start stays; what the menu starts by itself need not be asked for', async () => {
  const context = recordingContext();
  const store = mountedStore({ relive_good: older, relive_next: newer });
  expect(await keepBooted(store, older, context)).toBe(newer);
  expect(await keepBooted(store, newer, context)).toBe(newer);
  expect(await readEnvironment(store)).toEqual({ relive_good: older, relive_next: newer });
});

test('a medium that cannot be written is told, with the image that the next start is into', async () => {
  const context = recordingContext();
  const store = mountedStore({ relive_good: older }, ['loop,ro']);
  expect(await keepBooted(store, older, context)).toBe(newer);
  expect(context.events).toEqual([
    { event: 'warning', message: `${store} cannot be written: the next start is into ${newer}` },
  ]);
});

test('without a block the menu starts the newest image, whichever was booted', async () => {
  const context = recordingContext();
  const store = mountedStore(undefined);
  expect(await keepBooted(store, older, context)).toBe(newer);
  await makeDefault(store, newer, context);
  expect(await readEnvironment(store)).toBeUndefined();
});

test('where GRUB does not look, or starts another profile, nothing can be made the default', async () => {
  const context = recordingContext();
  const inRam = join(temporaryDirectory(), 'store');
  mkdirSync(inRam);
  addImages(inRam, [{ name: older }, { name: newer }], undefined);
  expect(await keepBooted(inRam, older, context)).toBe(older);
  await expect(makeDefault(inRam, newer, context)).rejects.toMatchObject({ code: 'usage' });
  const store = mountedStore({ relive_good: 'kiosk-20261122.01' });
  await expect(makeDefault(store, newer, context)).rejects.toMatchObject({
    message: 'the menu starts the images of kiosk by itself',
  });
});
