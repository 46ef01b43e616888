import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { imageName, nextVersion, parseImageName, serialOf } from '../../../src/image/name.ts';

const profile = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,20}$/);
const day = fc.date({ min: new Date('2020-01-01'), max: new Date('2199-12-31'), noInvalidDate: true });
const version = fc
  .tuple(day, fc.integer({ min: 1, max: 99 }))
  .map(
    ([date, number]) =>
      `${date.toISOString().slice(0, 10).replaceAll('-', '')}.${String(number).padStart(2, '0')}`,
  );

describe('names', () => {
  test('a name is read as it was made, also of profiles that look like versions', () => {
    fc.assert(
      fc.property(profile, version, (...[name, number]) => {
        const image = { profile: name, version: number };
        expect(parseImageName(imageName(image))).toEqual(image);
      }),
      {
        examples: [
          ['demo-20261122', '20261122.01'],
          ['a--b', '20261122.01'],
          ['0', '20261122.99'],
        ],
      },
    );
  });

  test.each([
    '',
    'demo',
    'demo-20261122',
    'demo-20261122.1',
    'demo-20261122.001',
    'demo-2026-11-22.01',
    'Demo-20261122.01',
    '-20261122.01',
    '../demo-20261122.01',
    'demo/x-20261122.01',
    'demo-20261122.01\n',
    'demo-20261122.01.iso',
  ])('%j is none', (name) => {
    expect(parseImageName(name)).toBeUndefined();
  });

  test('no text but a name is taken for one', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const parsed = parseImageName(text);
        expect(parsed === undefined || imageName(parsed) === text).toBe(true);
      }),
    );
  });
});

describe('the next version', () => {
  test('is the first of the day where there is none of it', () => {
    expect(nextVersion(undefined, new Date('2026-11-22T23:59:59Z'))).toBe('20261122.01');
    expect(nextVersion('20261121.07', new Date('2026-11-22T00:00:00Z'))).toBe('20261122.01');
  });

  test('is the next one of the day', () => {
    expect(nextVersion('20261122.01', new Date('2026-11-22T12:00:00Z'))).toBe('20261122.02');
    expect(nextVersion('20261122.09', new Date('2026-11-22T12:00:00Z'))).toBe('20261122.10');
  });

  test('does not go back with the clock', () => {
    expect(nextVersion('20261122.03', new Date('1970-01-01T00:00:00Z'))).toBe('20261122.04');
  });

  test('ends after 99 of a day', () => {
    expect(() => nextVersion('20261122.99', new Date('2026-11-22T12:00:00Z'))).toThrow(
      'there are 99 images of 20261122 already',
    );
    expect(nextVersion('20261122.99', new Date('2026-11-23T00:00:00Z'))).toBe('20261123.01');
  });

  test('goes on with the next day where the clock was ahead for 99 images', () => {
    expect(nextVersion('20311231.99', new Date('2026-11-22T12:00:00Z'))).toBe('20320101.01');
  });

  test('sorts after every one before it, as text and as a serial', () => {
    fc.assert(
      fc.property(version, day, (...[newest, now]) => {
        fc.pre(newest !== `${now.toISOString().slice(0, 10).replaceAll('-', '')}.99`);
        const next = nextVersion(newest, now);
        expect(next).toMatch(/^\d{8}\.\d{2}$/);
        expect(next > newest).toBe(true);
        expect(serialOf(next)).toBeGreaterThan(serialOf(newest));
        expect(Number.isSafeInteger(serialOf(next))).toBe(true);
      }),
    );
  });
});
