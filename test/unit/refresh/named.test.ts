import { expect, test } from 'vitest';
import { namedContext } from '../../../src/refresh/named.ts';
import { recordingContext } from '../../support.ts';

test('the name is in front of what is told, and a note stays with its stage', () => {
  const context = recordingContext();
  const { emit } = namedContext(context, 'kiosk');
  emit({ event: 'stage', stage: 'packages', state: 'start' });
  emit({ event: 'progress', stage: 'packages', done: 1, unit: 'files' });
  emit({ event: 'note', message: 'Unpacking', source: 'packages' });
  emit({ event: 'note', message: 'waiting' });
  emit({ event: 'warning', message: 'old', hint: 'newer' });
  expect(context.events).toEqual([
    { event: 'stage', stage: 'kiosk: packages', state: 'start' },
    { event: 'progress', stage: 'kiosk: packages', done: 1, unit: 'files' },
    { event: 'note', message: 'Unpacking', source: 'kiosk: packages' },
    { event: 'note', message: 'kiosk: waiting' },
    { event: 'warning', message: 'kiosk: old', hint: 'newer' },
  ]);
});
