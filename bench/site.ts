import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Manifest, parseManifest } from '../src/image/manifest.ts';

export const cli = join(import.meta.dirname, '../dist/cli.cjs');

/** How many rounds are wanted (RELIVE_BENCH_ROUNDS in the environment), or as many as usual. */
export function roundsOr(usual: number): number {
  return Number(process.env['RELIVE_BENCH_ROUNDS'] ?? usual);
}

export const rounds = roundsOr(2);

/** What work took, in seconds. */
export interface Took {
  readonly wall: number;
  /** Of the processor, of all cores together and in the kernel too: other work on the machine changes it less. */
  readonly processor: number;
}

/** Runs a program and times it. @throws with the end of what it printed */
export function timed(command: readonly string[], cwd?: string, env: NodeJS.ProcessEnv = {}): Took {
  const directory = mkdtempSync(join(tmpdir(), 'relive-bench-timed-'));
  try {
    const [output, times] = [join(directory, 'output'), join(directory, 'times')];
    const script = 'TIMEFORMAT="%3R %3U %3S"; { time "$@" >"$output" 2>&1; } 2>"$times"';
    const { status } = spawnSync('bash', ['--norc', '-c', script, 'bash', ...command], {
      cwd,
      env: { ...process.env, ...env, output, times },
      stdio: 'ignore',
    });
    if (status !== 0) throw new Error(`${command.join(' ')}\n${readFileSync(output, 'utf8').slice(-4000)}`);
    const [wall = 0, user = 0, system = 0] = readFileSync(times, 'utf8').trim().split(' ').map(Number);
    return { wall, processor: user + system };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Runs a shell's command, and times it. @throws with the end of what it printed */
export function sh(command: string, cwd: string, env: NodeJS.ProcessEnv = {}): Took {
  return timed(['sh', '-euc', command], cwd, env);
}

/** Runs relive on a site without a network, and times it. */
export function relive(site: string, ...words: readonly string[]): Took {
  return timed([process.execPath, cli, ...words, '--offline', '--site', site]);
}

/** The least of several measurements. */
export function least(all: readonly Took[]): Took {
  return {
    wall: Math.min(...all.map(({ wall }) => wall)),
    processor: Math.min(...all.map(({ processor }) => processor)),
  };
}

/** The middle one of several figures; of an even number of them the less of both. */
export function middle(all: readonly number[]): number {
  const figure = all.toSorted((one, other) => one - other)[Math.ceil(all.length / 2) - 1];
  if (figure === undefined) throw new Error('there is no figure');
  return figure;
}

/** The least of several rounds, each after `prepare`. */
export function best(prepare: () => void, work: () => Took, count = rounds): Took {
  return least(
    Array.from({ length: count }, () => {
      prepare();
      execFileSync('sync');
      return work();
    }),
  );
}

/** The profile demo in a new site, once built, so that its packages are in the mirror. */
export function makeSite(work: string): string {
  const site = newSite(work);
  timed([process.execPath, cli, 'build', 'demo', '--site', site]);
  return site;
}

/** A new site with the profile demo, and keys. */
export function newSite(work: string): string {
  const site = join(work, 'site');
  timed([process.execPath, cli, 'init', site]);
  timed([process.execPath, cli, 'keys', 'create', '--site', site]);
  return site;
}

/** The manifest of the newest image. */
export function newest(site: string, profile: string): Manifest {
  const images = join(site, 'store/images', profile);
  const file = join(images, readdirSync(images).toSorted().at(-1) ?? '', 'manifest.json');
  return parseManifest(readFileSync(file, 'utf8'), file);
}
