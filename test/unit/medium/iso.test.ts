import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { tarOf } from '../../../src/host/tar.ts';
import { volumeIdOf, xorrisoPercent } from '../../../src/medium/iso.ts';

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), 'relive-test-medium-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

describe('the volume identifier', () => {
  test('says which image it is', () => {
    expect(volumeIdOf('demo-20261122.01')).toBe('DEMO_20261122_01');
  });

  test('is valid for every profile, and ends with the version', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,60}$/), (profile) => {
        const id = volumeIdOf(`${profile}-20261122.07`);
        expect(id).toMatch(/^[A-Z0-9_]{1,32}$/);
        expect(id.endsWith('_20261122_07')).toBe(true);
      }),
    );
  });
});

test('the progress of xorriso is read from its own words', () => {
  expect(xorrisoPercent('xorriso : UPDATE :  18.45% done')).toBe(18.45);
  expect(xorrisoPercent('xorriso : UPDATE : Writing:      32768s    1.0% ...')).toBeUndefined();
  expect(xorrisoPercent('xorriso : NOTE : 100% done')).toBeUndefined();
});

describe('the memory disk of GRUB', () => {
  test('is what tar itself reads', () => {
    const directory = temporary();
    const files = [
      { path: 'boot/grub/grub.cfg', content: 'set x=1\n' },
      { path: 'empty', content: '' },
      { path: 'block', content: 'ü'.repeat(256) },
    ];
    writeFileSync(join(directory, 'a.tar'), tarOf(files));
    for (const { path, content } of files) {
      const read = execFileSync('tar', [
        '--extract',
        '--to-stdout',
        '--file',
        join(directory, 'a.tar'),
        path,
      ]);
      expect(read.toString()).toBe(content);
    }
  });

  test('refuses a path that its header cannot hold', () => {
    expect(() => tarOf([{ path: 'x'.repeat(100), content: '' }])).toThrow(TypeError);
  });
});
