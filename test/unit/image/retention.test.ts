import { assert, date, integer, option, property, record, uniqueArray } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decide } from '../../../src/image/retention.ts';
import type { StoredImage } from '../../../src/image/store.ts';

const nobody = { pinned: new Set<string>(), booted: undefined };

/** Images of these versions, newest first as the store lists them. */
function images(...versions: readonly string[]): StoredImage[] {
  return versions
    .toSorted()
    .toReversed()
    .map((version) => ({ profile: 'demo', version, name: `demo-${version}`, directory: `/${version}` }));
}

function kept(decisions: ReturnType<typeof decide>): string[] {
  return decisions.filter(({ keeps }) => keeps).map(({ image }) => image.version);
}

describe('decide', () => {
  // A year's end, with two images on two of its days; 2027-01-01 is a Friday, in a week that began on 2026-12-28.
  const all = images(
    ...['20261115.01', '20261130.01', '20261220.01', '20261227.01', '20261228.01'],
    ...['20261231.01', '20261231.02', '20270101.01', '20270101.02'],
  );

  test.each([
    [{ keep: 3 }, ['20270101.02', '20270101.01', '20261231.02']],
    [{ daily: 3 }, ['20270101.02', '20261231.02', '20261228.01']],
    [{ weekly: 3 }, ['20270101.02', '20261227.01', '20261220.01']],
    [{ monthly: 3 }, ['20270101.02', '20261231.02', '20261130.01']],
    [{ keep: 2, monthly: 2 }, ['20270101.02', '20270101.01', '20261231.02']],
    [{}, ['20270101.02']],
  ])('%j', (policy, expected) => {
    expect(kept(decide(all, policy, nobody))).toEqual(expected);
  });

  test('without a policy all stay', () => {
    expect(kept(decide(all, undefined, nobody))).toHaveLength(all.length);
  });

  test('what is pinned, runs here or came up last stays, and every decision has a reason', () => {
    const decisions = decide(
      all,
      { keep: 1 },
      { pinned: new Set(['demo-20261130.01']), booted: 'demo-20261228.01', good: 'demo-20261227.01' },
    );
    expect(kept(decisions)).toEqual(['20270101.02', '20261228.01', '20261227.01', '20261130.01']);
    expect(decisions.map(({ reasons }) => reasons)).toContainEqual(['pinned']);
    for (const { reasons } of decisions) expect(reasons).not.toEqual([]);
  });

  test('the newest stays whatever the policy; pruning again removes nothing more', () => {
    const count = option(integer({ min: 0, max: 5 }), { nil: undefined });
    const day = date({ min: new Date('2026-01-01'), max: new Date('2027-12-31'), noInvalidDate: true });
    assert(
      property(
        uniqueArray(day, { minLength: 1, selector: (each) => each.toISOString().slice(0, 10) }),
        record({ keep: integer({ min: 1, max: 5 }), daily: count, weekly: count, monthly: count }),
        (days, policy) => {
          const list = images(
            ...days.map((each) => `${each.toISOString().slice(0, 10).replaceAll('-', '')}.01`),
          );
          const once = decide(list, policy, nobody);
          expect(once[0]?.keeps).toBe(true);
          expect(kept(once).length).toBeGreaterThanOrEqual(Math.min(policy.keep, list.length));
          const left = once.filter(({ keeps }) => keeps).map(({ image }) => image);
          expect(kept(decide(left, policy, nobody))).toEqual(kept(once));
        },
      ),
    );
  });
});
