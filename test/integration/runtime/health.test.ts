import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
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

/** Runs the checks of boot.health: the exit status, and what is printed. */
async function checks(lines: readonly string[], seconds = 0): Promise<readonly [number, string]> {
  const list = join(temporaryDirectory(), 'health.conf');
  writeFileSync(list, ['timeout 1', 'restart yes', ...lines, ''].join('\n'));
  return await new Promise((done) => {
    execFile(
      'sh',
      [join(repository, 'runtime/health/relive-health-checks'), list, String(seconds)],
      (error, stdout) => done([Number(error?.code ?? 0), stdout.trimEnd()]),
    );
  });
}

function program(text: string): string {
  const file = join(temporaryDirectory(), 'check-it');
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
  return file;
}

test('programs that are to say whether all is well: by their status, in their time, their last words in one line', async () => {
  expect(await checks([`script ${program('exit 0')}`])).toEqual([0, '']);
  const bad = program('echo first; printf "the \\033[31mpump\\tstands still\\n" >&2; exit 7');
  expect(await checks([`script ${bad}`])).toEqual([
    1,
    `${bad} ended with status 7: the [31mpumpstands still`,
  ]);
  const slow = program('sleep 100');
  expect(await checks([`script ${slow}`])).toEqual([1, `${slow} did not end in time`]);
  expect(await checks(['script /nonexistent/program'])).toEqual([
    1,
    expect.stringMatching(/^\/nonexistent\/program ended with status 127: /),
  ]);
  // It becomes true while there is time.
  const mark = join(temporaryDirectory(), 'mark');
  const late = program(`test -e ${mark} || { touch ${mark}; exit 1; }`);
  expect(await checks([`script ${late}`], 30)).toEqual([0, '']);
  expect(existsSync(mark)).toBe(true);
});

test('addresses that must answer, and units that must be up; each that fails is named', async () => {
  const server = createServer((request, response) => {
    if (request.url === '/moved') response.writeHead(302, { location: '/good' }).end();
    else response.writeHead(request.url === '/good' ? 200 : 503).end('words');
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const base = `http://127.0.0.1:${address.port}`;
  expect(await checks([`url ${base}/good`])).toEqual([0, '']);
  expect(await checks([`url ${base}/moved`])).toEqual([0, '']);
  const [status, text] = await checks([
    'unit no-such-unit-of-relive.service',
    `script ${program('exit 0')}`,
    `url ${base}/bad`,
  ]);
  expect(status).toBe(1);
  const lines = text.split('\n');
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/^no-such-unit-of-relive\.service is \w+$/);
  expect(lines[1]).toMatch(new RegExp(`^${base}/bad: no answer: curl: .*503`));
});
