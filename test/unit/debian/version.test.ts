import { spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareVersions, parseVersion } from '../../../src/debian/version.ts';

const part = fc.string({
  unit: fc.constantFrom('0', '0', '1', '9', 'a', 'A', 'z', 'Z', '+', '.', '~', '~'),
  maxLength: 6,
});
const version = fc
  .tuple(
    fc.constantFrom('', '', '', '0:', '1:', '01:', '12:'),
    fc.constantFrom('0', '1', '00', '10', '9'),
    part,
    fc.array(part, { maxLength: 2 }),
  )
  .map(([epoch, digit, upstream, others]) => {
    const hyphened = others.map(
      (other, index) => `-${index === others.length - 1 && other === '' ? '0' : other}`,
    );
    return `${epoch}${digit}${upstream}${hyphened.join('')}`;
  });

/** dpkg's own answers, many in one process of the shell. */
function dpkgCompares(pairs: readonly (readonly [string, string])[]): number[] {
  const script = pairs
    .map(
      ([a, b]) =>
        `if dpkg --compare-versions '${a}' lt '${b}'; then echo -1; elif dpkg --compare-versions '${a}' eq '${b}'; then echo 0; else echo 1; fi`,
    )
    .join('\n');
  const { stdout, stderr } = spawnSync('sh', ['-s'], { input: script, encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout.trim().split('\n').map(Number);
}

describe('compareVersions', () => {
  test('answers as dpkg does', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(version, version), { minLength: 50, maxLength: 50 }), (pairs) => {
        expect(pairs.map(([a, b]) => Math.sign(compareVersions(a, b)))).toEqual(dpkgCompares(pairs));
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });

  test('is an order', () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(Math.sign(compareVersions(a, b))).toBe(0 - Math.sign(compareVersions(b, a)));
        const [first = '', second = '', third = ''] = [a, b, c].toSorted(compareVersions);
        expect(compareVersions(first, second)).toBeLessThanOrEqual(0);
        expect(compareVersions(second, third)).toBeLessThanOrEqual(0);
        expect(compareVersions(first, third)).toBeLessThanOrEqual(0);
      }),
    );
  });

  test.each([
    ['1.0~rc1-1', '1.0-1'],
    ['1.0', '1.0a'],
    ['1.0a', '1.0+b1'],
    ['9', '10'],
    ['2', '1:1'],
    ['1.2-1', '1.2-1+deb13u1'],
    ['6.12.9-1', '6.12.48-1'],
  ])('%s is older than %s', (older, newer) => {
    expect(compareVersions(older, newer)).toBeLessThan(0);
  });

  test('numbers of any length are compared by their value', () => {
    expect(compareVersions('1.00000000000000000000000000010', '1.10')).toBe(0);
    expect(compareVersions('1.99999999999999999998', '1.99999999999999999999')).toBeLessThan(0);
  });
});

test('a version is taken apart at the first colon and the last hyphen', () => {
  expect(parseVersion('2:1:2-3-4')).toEqual({ epoch: 2, upstream: '1:2-3', revision: '4' });
  expect(parseVersion('7')).toEqual({ epoch: 0, upstream: '7', revision: '' });
});

test.each(['', ':1', 'a:1', '1:', 'a', '1-', '1_2', '1 2', '-1', '99999999999:1'])(
  '%j is refused, by dpkg too',
  (bad) => {
    expect(() => parseVersion(bad)).toThrow('is not a version');
    if (bad === '') return;
    expect(spawnSync('dpkg', ['--validate-version', bad]).status).not.toBe(0);
  },
);
