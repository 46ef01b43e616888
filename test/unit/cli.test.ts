import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { version } from '../../src/core/version.ts';
import { cli, temporaryDirectory } from '../support.ts';

/** Starts relive with a cache of its own; fails unless it prints its version and nothing else. */
function start(cache: string): void {
  const { stdout, stderr, status } = spawnSync(process.execPath, [cli, '--version'], {
    encoding: 'utf8',
    env: { ...process.env, XDG_CACHE_HOME: cache },
  });
  expect({ stdout, stderr, status }).toEqual({ stdout: `${version}\n`, stderr: '', status: 0 });
}

/** A cache after the first start, and the file of compiled code in it. */
function afterFirstStart(): { cache: string; file: string } {
  const cache = temporaryDirectory();
  start(cache);
  expect(readdirSync(join(cache, 'relive'))).toEqual(['relive.compiled']);
  return { cache, file: join(cache, 'relive/relive.compiled') };
}

describe('compiled code', () => {
  test('is kept at the first start, for its user alone, and used at the next', () => {
    const { cache, file } = afterFirstStart();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(statSync(dirname(file)).mode & 0o777).toBe(0o700);
    const { ino } = statSync(file);
    start(cache);
    // Written anew it would be another file.
    expect(statSync(file).ino).toBe(ino);
  });

  test.for<[string, (content: Buffer) => Buffer]>([
    ['cut off', (content) => content.subarray(0, 1000)],
    ['empty', () => Buffer.alloc(0)],
    ['changed', (content) => Buffer.concat([content.subarray(0, -1), Buffer.from([~(content.at(-1) ?? 0)])])],
    ['of another program', (content) => Buffer.concat([Buffer.alloc(32), content.subarray(32)])],
  ])('%s is not used, and made anew', ([, damage]) => {
    const { cache, file } = afterFirstStart();
    const whole = readFileSync(file);
    writeFileSync(file, damage(whole));
    start(cache);
    expect(readFileSync(file).length).toBeGreaterThan(whole.length / 2);
    expect(readFileSync(file).subarray(0, 32)).toEqual(whole.subarray(0, 32));
  });

  test('that others may write is not used', () => {
    const { cache, file } = afterFirstStart();
    chmodSync(file, 0o666);
    start(cache);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('cannot be kept: relive works all the same', () => {
    const cache = temporaryDirectory();
    writeFileSync(join(cache, 'relive'), 'a file where the directory would be');
    start(cache);
    mkdirSync(join(cache, 'directory/relive/relive.compiled'), { recursive: true });
    start(join(cache, 'directory'));
    expect(readdirSync(join(cache, 'directory/relive'))).toEqual(['relive.compiled']);
  });
});
