import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';

export const cli = join(import.meta.dirname, '../dist/cli.cjs');
const rounds = Number(process.env['RELIVE_BENCH_ROUNDS'] ?? '2');

/** Runs a shell's command. @throws with the end of what it printed */
export function sh(command: string, cwd: string, env: NodeJS.ProcessEnv = {}): void {
  const { status, stdout, stderr } = spawnSync('sh', ['-euc', command], {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 2 ** 28,
  });
  if (status !== 0) throw new Error(`${command}\n${stdout.slice(-2000)}${stderr.slice(-2000)}`);
}

/** Wall time of work, in seconds. */
function timed(work: () => void): number {
  const started = performance.now();
  work();
  return (performance.now() - started) / 1000;
}

/** The least of several rounds, each after `prepare`. */
export function best(prepare: () => void, work: () => void, count = rounds): number {
  const times = Array.from({ length: count }, () => {
    prepare();
    execFileSync('sync');
    return timed(work);
  });
  return Math.min(...times);
}

/** The profile demo in a new site, once built, so that its packages are in the mirror. */
export function makeSite(work: string): string {
  const site = join(work, 'site');
  for (const words of [
    ['init', site],
    ['keys', 'create', '--site', site],
    ['build', 'demo', '--site', site],
  ]) {
    execFileSync(process.execPath, [cli, ...words], { stdio: 'pipe' });
  }
  return site;
}
