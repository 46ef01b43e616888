import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { bootMountOptions, requireMountable } from '../../../src/image/stack-limits.ts';
import { repository } from '../../support.ts';

const layers = (count: number): { digest: string }[] =>
  Array.from({ length: count }, (_, index) => ({ digest: sha256(String(index)) }));
const script = readFileSync(join(repository, 'runtime/initramfs/relive'), 'utf8');

test('the options are those of the initramfs, and so is their limit', () => {
  const words = /relive_options="(.*)"/.exec(script)?.[1];
  // The lower directories are put together from this one, the topmost first.
  expect(script).toMatch(/relive_place="\/run\/live\/rootfs\/\$\{relive_count\}"/);
  const lower = '/run/live/rootfs/2:/run/live/rootfs/1:/run/live/rootfs/0';
  expect(bootMountOptions(3)).toBe(words?.replace(/\$\{relive_lower\}/, lower));
  const limit = Number(/#relive_options\}" -lt (\d+) \]/.exec(script)?.[1]);
  const fits = (count: number): boolean => bootMountOptions(count).length < limit;
  const most = layers(1000).findIndex((_, index) => !fits(index + 1));
  expect(() => requireMountable('demo', layers(most))).not.toThrow();
  expect(() => requireMountable('demo', layers(most + 1))).toThrow('the options of its mount');
});

test('more layers than overlayfs takes, and two of one name, are refused', () => {
  expect(() => requireMountable('demo', layers(501))).toThrow('501 layers');
  const [one = { digest: '' }, two = { digest: '' }] = layers(2);
  const alike = { digest: `${one.digest.slice(0, 16)}${two.digest.slice(16)}` };
  expect(() => requireMountable('demo', [one, two, alike])).toThrow('two of its layers are called');
});
