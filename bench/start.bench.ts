import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bench, describe } from 'vitest';

const cli = join(import.meta.dirname, '../dist/cli.cjs');

function node(...args: readonly string[]): void {
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

/** What a user waits for before anything happens; bare Node.js is the least it could be. */
describe('start', () => {
  bench('node --eval 0', () => node('--eval', '0'));
  bench('relive --version', () => node(cli, '--version'));
  bench('relive --help', () => node(cli, '--help'));
});
