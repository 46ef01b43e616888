import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { test } from 'vitest';
import { version } from '../src/core/version.ts';
import { writePage } from './page.ts';
import { type Goal, type Result, resultFile, resultsDirectory, type Table } from './result.ts';

/*
 * What a comparison finds is printed, and kept as JSON in bench/results/, a file for each part; docs/performance.md is made of those.
 */

/** The parts of a comparison that are asked for; all unless RELIVE_BENCH_PARTS names some. */
const asked = process.env['RELIVE_BENCH_PARTS']?.split(',');

/** Whether a part of a comparison is asked for. */
export function isAsked(name: string): boolean {
  return asked === undefined || asked.includes(name);
}

/**
 * A comparison that times its parts itself and runs once: for vitest a test. What vitest calls a bench runs more often, and one that
 * throws never ends.
 */
export function comparison(name: string, compare: () => void | Promise<void>): void {
  // oxlint-disable-next-line vitest/expect-expect, vitest/valid-title -- it measures, and its name comes from the caller
  test(name, { timeout: 0 }, async () => await compare());
}

/** Prints a line of the report; vitest shows standard output as it is. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** What a part of a comparison is told. */
export interface Report {
  /** Keeps a table, and prints it. */
  readonly table: (table: Table) => void;
  /** Says whether a figure is what it should be. */
  readonly goal: (
    what: string,
    measured: number,
    order: Goal['order'],
    wanted: number,
    unit?: string,
  ) => void;
  /** Keeps a sentence, and prints it. */
  readonly note: (text: string) => void;
}

/** What tells the version of a tool. */
const versionOf: Readonly<Record<string, readonly string[]>> = {
  'apt-mirror': ['dpkg-query', '--show', '--showformat=${Version}', 'apt-mirror'],
  aptly: ['aptly', 'version'],
  curl: ['curl', '--version'],
  debmirror: ['dpkg-query', '--show', '--showformat=${Version}', 'debmirror'],
  'live-build': ['lb', '--version'],
  mksquashfs: ['mksquashfs', '-version'],
  mmdebstrap: ['mmdebstrap', '--version'],
  nginx: ['dpkg-query', '--show', '--showformat=${Version}', 'nginx'],
  node: [process.execPath, '--version'],
  openssl: ['openssl', 'version'],
  reprepro: ['dpkg-query', '--show', '--showformat=${Version}', 'reprepro'],
  sha256sum: ['sha256sum', '--version'],
};

function toolVersion(name: string): string {
  const [command = name, ...args] = versionOf[name] ?? [name, '--version'];
  const { stdout, status } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) return 'not installed';
  return /\d[\w.+~:-]*/.exec(stdout.split('\n')[0] ?? '')?.[0] ?? stdout.trim();
}

function machine(): Result['machine'] {
  const detected = spawnSync('systemd-detect-virt', { encoding: 'utf8' }).stdout.trim();
  return {
    cores: cpus().length,
    processor: (cpus()[0]?.model ?? '').replaceAll(/\s+/g, ' ').trim(),
    memory: totalmem(),
    kernel: release().split('-')[0] ?? '',
    virtualMachine: detected !== 'none' && detected !== '',
    debian: readFileSync('/etc/debian_version', 'utf8').trim(),
  };
}

function load(): number {
  return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}

function formatRow(cells: readonly string[]): string {
  return `  ${cells.map((cell, index) => (index === 0 ? cell.padEnd(44) : cell.padStart(14))).join('')}`;
}

/**
 * Runs a part of a comparison if it is asked for, and keeps what it finds.
 * @param tools the programs whose versions matter
 */
export async function part(
  name: { readonly bench: string; readonly part: string },
  tools: readonly string[],
  run: (report: Report) => void | Promise<void>,
): Promise<void> {
  if (!isAsked(name.part)) return;
  const [tables, goals, notes]: [Table[], Goal[], string[]] = [[], [], []];
  const before = load();
  say(`\n${name.bench}: ${name.part}`);
  await run({
    table: (table) => {
      tables.push(table);
      say(formatRow([table.title, ...table.columns.map((column) => `${column.name}, ${column.unit}`)]));
      for (const { name: who, values } of table.rows)
        say(formatRow([who, ...values.map((value) => (value === null ? '-' : value.toFixed(2)))]));
    },
    goal: (what, measured, order, wanted, unit = '') => {
      const met = order === 'at least' ? measured >= wanted : measured <= wanted;
      goals.push({ what, measured, order, wanted, unit, met });
      say(
        `  ${met ? 'met   ' : 'MISSED'}  ${what}: ${measured.toFixed(2)} ${unit}, ${order} ${wanted} ${unit} is wanted`,
      );
    },
    note: (text) => {
      notes.push(text);
      say(`  ${text}`);
    },
  });
  const result: Result = {
    ...{ schema: 1, ...name, date: new Date().toISOString().slice(0, 10), relive: version },
    machine: machine(),
    load: { before, after: load() },
    tools: Object.fromEntries(['node', ...tools].map((tool) => [tool, toolVersion(tool)])),
    ...{ tables, goals, notes },
  };
  mkdirSync(resultsDirectory, { recursive: true });
  writeFileSync(join(resultsDirectory, resultFile(name)), `${JSON.stringify(result, undefined, 2)}\n`);
  writePage();
}
