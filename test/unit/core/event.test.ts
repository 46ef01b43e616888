import { expect, test } from 'vitest';
import { inStage } from '../../../src/core/event.ts';
import { recordingContext } from '../../support.ts';

test('a stage reports its start and its end, and hands on the value', async () => {
  const context = recordingContext();
  expect(await inStage(context, 'pack', async () => await Promise.resolve(7))).toBe(7);
  expect(context.events).toEqual([
    { event: 'stage', stage: 'pack', state: 'start' },
    { event: 'stage', stage: 'pack', state: 'done', seconds: expect.any(Number) },
  ]);
});

test('a stage that fails is not reported as done', async () => {
  const context = recordingContext();
  await expect(inStage(context, 'pack', async () => await Promise.reject(new Error('no')))).rejects.toThrow(
    'no',
  );
  expect(context.events.map((event) => (event.event === 'stage' ? event.state : event))).toEqual(['start']);
});
