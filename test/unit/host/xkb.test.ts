import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseXkbNames, xkbNamesFile } from '../../../src/host/xkb.ts';
import { xkbNames } from '../../fixtures/xkb.ts';

test('layouts, and the variants of each', () => {
  expect(Object.fromEntries(parseXkbNames(xkbNames))).toEqual({
    us: ['intl'],
    de: ['nodeadkeys', 'us'],
    jp: [],
  });
  const real = parseXkbNames(readFileSync(join('/', xkbNamesFile), 'utf8'));
  expect(real.size).toBeGreaterThan(50);
  expect(real.get('de')).toContain('nodeadkeys');
});
