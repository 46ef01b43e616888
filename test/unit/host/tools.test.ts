import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { findTool, packageOfTool, requireTool, searchPath, toolsByPackage } from '../../../src/host/tools.ts';
import { temporaryDirectory } from '../../support.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

test("the caller's PATH comes first, relative entries never count, the administrator's directories are there", () => {
  vi.stubEnv('PATH', '/opt/bin:.::bin:/usr/bin');
  expect(searchPath().split(':')).toEqual([
    '/opt/bin',
    '/usr/bin',
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    '/usr/local/bin',
    '/bin',
  ]);
});

test('only what can be run is a tool', () => {
  const directory = temporaryDirectory();
  vi.stubEnv('PATH', directory);
  writeFileSync(join(directory, 'relive-a'), '');
  mkdirSync(join(directory, 'relive-b'));
  expect(findTool('relive-a')).toBeUndefined();
  expect(findTool('relive-b')).toBeUndefined();
  chmodSync(join(directory, 'relive-a'), 0o755);
  expect(findTool('relive-a')).toBe(join(directory, 'relive-a'));
  expect(findTool(join(directory, 'relive-a'))).toBe(join(directory, 'relive-a'));
  expect(requireTool('sh')).toMatch(/\/sh$/);
});

test('the package of a tool, and the tools of a package', () => {
  expect(packageOfTool('mksquashfs')).toBe('squashfs-tools');
  expect(packageOfTool('relive-none')).toBeUndefined();
  expect(toolsByPackage().get('squashfs-tools')).toEqual(['mksquashfs', 'unsquashfs']);
});
