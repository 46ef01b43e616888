import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseManifest } from '../src/image/manifest.ts';
import { comparison, goal, say } from './report.ts';
import { best, cli, makeSite } from './site.ts';

/*
 * Updates: the next image of the profile demo as a delta, beside a full build with nothing cached, out of the local mirror.
 * And how small a delta is: packed, beside the files that changed packed by themselves.
 * Environment: RELIVE_BENCH_ROUNDS (2).
 */

function relive(site: string, ...words: readonly string[]): void {
  execFileSync(process.execPath, [cli, ...words, '--offline', '--site', site], { stdio: 'pipe' });
}

/** The size of the delta on top of the newest image, in bytes. */
function deltaSize(site: string): number {
  const images = join(site, 'store/images/demo');
  const file = join(images, readdirSync(images).toSorted().at(-1) ?? '', 'manifest.json');
  const layer = parseManifest(readFileSync(file, 'utf8'), file).layers.at(-1);
  if (layer?.role !== 'delta') throw new Error(`no delta in ${file}`);
  return layer.size;
}

/** The size of a directory packed as the profile packs layers. */
function packedSize(directory: string, work: string): number {
  const file = join(work, 'packed.squashfs');
  const words = ['-noappend', '-quiet', '-no-progress', '-comp', 'zstd', '-Xcompression-level', '9'];
  execFileSync('mksquashfs', [directory, file, ...words], { stdio: 'pipe' });
  const { length } = readFileSync(file);
  rmSync(file);
  return length;
}

comparison('updates', () => {
  const work = mkdtempSync(join(tmpdir(), 'relive-bench-update-'));
  try {
    const site = makeSite(work);
    const full = best(
      () => {
        for (const name of ['.relive', 'store']) rmSync(join(site, name), { recursive: true, force: true });
      },
      () => relive(site, 'build', 'demo'),
    );
    const overlay = join(site, 'overlays/demo/opt/data');
    mkdirSync(overlay, { recursive: true });
    let round = 0;
    const file = best(
      () => {
        round += 1;
        writeFileSync(join(overlay, 'large'), Buffer.alloc(8 * 1024 * 1024, `${round} and so on, and so on`));
      },
      () => relive(site, 'update', 'demo', '--no-test'),
    );
    const delta = deltaSize(site);
    const alone = packedSize(overlay, work);
    say(`  full build, nothing cached      ${full.toFixed(1).padStart(7)} s`);
    say(`  update, a file of 8 MiB         ${file.toFixed(1).padStart(7)} s`);
    say(`  delta ${delta} bytes, its files packed alone ${alone} bytes`);
    goal('update', file, 'at most', 15, ' s');
    goal('update to full build', file / full, 'at most', 0.2);
    goal('delta to its files packed alone', delta / alone, 'at most', 1.15);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
