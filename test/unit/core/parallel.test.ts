import { expect, test } from 'vitest';
import { inParallel } from '../../../src/core/parallel.ts';

/** Work that ends when it is told to. */
function gate() {
  const open: (() => void)[] = [];
  let most = 0;
  let running = 0;
  const work = async (item: string): Promise<string> => {
    running += 1;
    most = Math.max(most, running);
    await new Promise<void>((resolve) => open.push(resolve));
    running -= 1;
    return item.toUpperCase();
  };
  const openAll = async (): Promise<void> => {
    // What waited behind it begins in a later turn.
    for (let idle = 0; idle < 20; idle += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      if (open.length > 0) idle = 0;
      open.pop()?.();
    }
  };
  return { work, openAll, most: () => most };
}

test('as many at a time as there may be, and the results in the order of the items', async () => {
  const { work, openAll, most } = gate();
  const done = inParallel(['a', 'b', 'c', 'd', 'e'], 2, work);
  await openAll();
  expect(await done).toEqual(['A', 'B', 'C', 'D', 'E']);
  expect(most()).toBe(2);
  expect(await inParallel([], 3, work)).toEqual([]);
});

test('an error is thrown once all that runs has ended, and nothing new is begun', async () => {
  const ended: string[] = [];
  const { work, openAll } = gate();
  const done = inParallel(['a', 'wrong', 'b', 'c'], 3, async (item) => {
    if (item === 'wrong') throw new Error('wrong');
    ended.push(await work(item));
  });
  const outcome = done.catch((error: unknown) => error);
  await openAll();
  expect(await outcome).toEqual(new Error('wrong'));
  expect(ended.toSorted()).toEqual(['A', 'B']);
});
