import { expect, test } from 'vitest';
import { ReliveError } from '../../../src/core/error.ts';
import { withFailedPackages } from '../../../src/rootfs/stages/packages.ts';

const failure = new ReliveError('tool-failed', 'apt-get ended with status 100\n    the last line');

test('what dpkg says of a package that failed stands before the end of the output', () => {
  const others = Array.from({ length: 50 }, (_, index) => `Setting up other-${index} (1.0) ...`);
  const lines = [
    ...others,
    'no such phase of the moon',
    'dpkg: error processing package fails (--configure):',
    ' installed fails package post-installation script subprocess returned error exit status 7',
    ...others,
  ];
  const told = withFailedPackages(failure, lines);
  expect(told).toMatchObject({ code: 'tool-failed', cause: failure });
  const text = (told as Error).message.split('\n').map((line) => line.trim());
  expect(text[0]).toBe('apt-get ended with status 100');
  expect(text.slice(1, 11)).toEqual([...others.slice(-9), 'no such phase of the moon']);
  expect(text.slice(11)).toEqual([
    'dpkg: error processing package fails (--configure):',
    'installed fails package post-installation script subprocess returned error exit status 7',
    '...',
    'the last line',
  ]);
});

test('other failures stay as they are', () => {
  expect(withFailedPackages(failure, ['E: Unable to locate package x'])).toBe(failure);
  const full = new ReliveError('disk-full', 'apt-get ended with status 100');
  expect(withFailedPackages(full, ['dpkg: error processing package x (--unpack):'])).toBe(full);
});
