import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  chooseNewest,
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
  await expect(chooseNewest(store, 'web-20261122.02')).rejects.toMatchObject({ code: 'not-found' });
  writeFileSync(join(store, 'grubenv'), 'no block');
  await expect(chooseNewest(store, 'web-20261122.02')).rejects.toMatchObject({ code: 'corrupt' });
});
