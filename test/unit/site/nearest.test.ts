import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { editDistance, nearest } from '../../../src/site/nearest.ts';

const word = fc.string({ maxLength: 12 });

describe('editDistance', () => {
  test.each([
    ['', '', 0],
    ['trixi', 'trixie', 1],
    ['trixei', 'trixie', 1],
    ['kitten', 'sitting', 3],
    ['abc', '', 3],
  ])('%j to %j is %i', (from, to, distance) => {
    expect(editDistance(from, to)).toBe(distance);
  });

  test('is symmetric, zero only for the same word, and never more than the longer word', () => {
    fc.assert(
      fc.property(word, word, (from, to) => {
        const distance = editDistance(from, to);
        expect(distance).toBe(editDistance(to, from));
        expect(distance === 0).toBe(from === to);
        expect(distance).toBeLessThanOrEqual(Math.max(from.length, to.length));
        expect(distance).toBeGreaterThanOrEqual(Math.abs(from.length - to.length));
      }),
    );
  });
});

describe('nearest', () => {
  const suites = ['trixie', 'bookworm'];
  test.each([
    ['trixi', 'trixie'],
    ['Trixie', 'trixie'],
    ['bokworm', 'bookworm'],
    ['sid', undefined],
    ['x'.repeat(100_000), undefined],
  ])('%j means %j', (wrong, right) => {
    expect(nearest(wrong, suites)).toBe(right);
  });
});
