import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { parseEnvironment } from '../../../src/medium/environment.ts';
import { repository, temporaryDirectory } from '../../support.ts';

const tool = (command: string, ...args: readonly string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** A disk with an environment block, or with a link to `target` in its place; attached. */
function attached(block: string | undefined): {
  readonly device: string;
  readonly uuid: string;
  readonly target: string;
} {
  const work = temporaryDirectory();
  const store = join(work, 'store');
  mkdirSync(store);
  if (block === undefined) execFileSync('ln', ['-s', join(work, 'target'), join(store, 'grubenv')]);
  else writeFileSync(join(store, 'grubenv'), block, 'latin1');
  writeFileSync(join(work, 'target'), 'not to be written');
  const disk = join(work, 'disk');
  tool('mke2fs', '-q', '-t', 'ext4', '-d', store, disk, '16M');
  const device = tool('losetup', '--find', '--show', disk).trim();
  onTestFinished(() => {
    tool('losetup', '--detach', device);
  });
  return {
    device,
    target: join(work, 'target'),
    uuid: tool('blkid', '-o', 'value', '-s', 'UUID', device).trim(),
  };
}

function good(uuid: string): void {
  tool('sh', join(repository, 'runtime/health/relive-health-good'), 'demo-20261123.01', uuid);
}

const onDevice = (device: string): string =>
  execFileSync('debugfs', ['-R', 'cat /grubenv', device], {
    encoding: 'latin1',
    stdio: ['ignore', 'pipe', 'ignore'],
  });

test('a good trial is recorded on a file system that nobody has mounted', () => {
  const text = '# GRUB Environment Block\nother=a value\nrelive_good=demo-20261121.01\nrelive_tries=2\n';
  const { device, uuid } = attached(text.padEnd(1024, '#'));
  good(uuid);
  expect(onDevice(device)).toBe(
    '# GRUB Environment Block\nrelive_good=demo-20261123.01\nother=a value\n'.padEnd(1024, '#'),
  );
});

test('on the medium that the system runs from, which is read-only before and after; a damaged block is made anew', () => {
  const { device, uuid } = attached('x'.repeat(1024));
  const place = temporaryDirectory();
  tool('mount', '-o', 'ro', device, place);
  try {
    good(uuid);
    expect(tool('findmnt', '--noheadings', '--output', 'OPTIONS', '--mountpoint', place)).toMatch(/^ro,/);
    expect(parseEnvironment(readFileSync(join(place, 'grubenv'), 'latin1'))).toEqual({
      relive_good: 'demo-20261123.01',
    });
    // GRUB's own tool reads it.
    expect(tool('grub-editenv', join(place, 'grubenv'), 'list').trim()).toBe('relive_good=demo-20261123.01');
  } finally {
    tool('umount', place);
  }
});

test('a link in place of the block is not followed', () => {
  const { device, uuid, target } = attached(undefined);
  good(uuid);
  expect(readFileSync(target, 'utf8')).toBe('not to be written');
  expect(tool('debugfs', '-R', 'stat /grubenv', device)).toContain('Type: symlink');
});
