import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  chooseNewest,
  chooseOnce,
  countStart,
  type Environment,
  formatEnvironment,
  readEnvironment,
} from '../../../src/medium/environment.ts';
import { temporaryDirectory } from '../../support.ts';

function storeWith(environment: Environment): string {
  const store = temporaryDirectory();
  writeFileSync(join(store, 'grubenv'), formatEnvironment(environment));
  return store;
}

test('starts are counted as GRUB counts them, up to three; what was to be started once no longer is', async () => {
  const store = storeWith({ relive_good: 'web-20261122.01', relive_next: 'web-20261122.01' });
  const counted: unknown[] = [];
  for (let start = 0; start < 4; start += 1) {
    await countStart(store, 'web-20261122.02', true);
    counted.push(await readEnvironment(store));
  }
  const trial = { relive_good: 'web-20261122.01', relive_trial: 'web-20261122.02' };
  expect(counted).toEqual(['1', '2', '3', '3'].map((tries) => ({ ...trial, relive_tries: tries })));
  // Another image begins its own.
  await countStart(store, 'web-20261122.03', true);
  expect(await readEnvironment(store)).toMatchObject({ relive_trial: 'web-20261122.03', relive_tries: '1' });
});

test('a start that is no trial only ends what was to be started once', async () => {
  const store = storeWith({ relive_good: 'web-20261122.01' });
  await chooseOnce(store, 'web-20261122.02');
  expect(await readEnvironment(store)).toMatchObject({ relive_next: 'web-20261122.02' });
  await countStart(store, 'web-20261122.01', false);
  expect(await readEnvironment(store)).toEqual({ relive_good: 'web-20261122.01' });
});

test('the newest image gets its trials again; those of another one stay as they are', async () => {
  const spent = { relive_good: 'web-20261122.01', relive_trial: 'web-20261122.02', relive_tries: '3' };
  const store = storeWith({ ...spent, relive_next: 'web-20261122.01' });
  await chooseNewest(store, 'web-20261122.03');
  expect(await readEnvironment(store)).toEqual(spent);
  await chooseNewest(store, 'web-20261122.02');
  expect(await readEnvironment(store)).toEqual({ relive_good: 'web-20261122.01' });
});

test('without a block, or with one that GRUB does not read, it is said what to do', async () => {
  const store = temporaryDirectory();
  await expect(countStart(store, 'web-20261122.02', true)).rejects.toMatchObject({ code: 'not-found' });
  writeFileSync(join(store, 'grubenv'), 'no block');
  await expect(chooseNewest(store, 'web-20261122.02')).rejects.toMatchObject({ code: 'corrupt' });
});
