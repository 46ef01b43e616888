import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseLock } from '../src/site/lock.ts';
import { debianKeyring } from '../test/fixtures/host-archive.ts';
import { measureLiveBuild } from './live-build.ts';
import { comparison, isAsked, part } from './report.ts';
import { best, cli, makeSite, relive, sh, type Took, timed } from './site.ts';

/*
 * Builds: the profile demo by relive, the same packages out of the same mirror by mmdebstrap and mksquashfs as one would
 * type them, and by live-build, which takes its packages from its own cache. None of them uses the network while it is
 * timed. relive's figures include checking every package, proving what was packed, hash trees, seal and signatures.
 * Environment: RELIVE_BENCH_ROUNDS (2); RELIVE_BENCH_PARTS (hand,live-build; the last one takes some minutes a round).
 */

/** A build with nothing cached. */
function measureCold(site: string): Took {
  return best(
    () => {
      for (const name of ['.relive', 'store']) rmSync(join(site, name), { recursive: true, force: true });
    },
    () => relive(site, 'build', 'demo'),
  );
}

/** Builds that find some of it in the cache. */
function measureAgain(site: string): Record<'unchanged' | 'overlay' | 'packages', Took> {
  const build = (): Took => relive(site, 'build', 'demo');
  const unchanged = best(() => undefined, build);
  const issue = join(site, 'overlays/demo/etc/issue');
  const overlay = best(() => appendFileSync(issue, 'changed\n'), build);
  const profile = join(site, 'profiles/demo.yaml');
  const text = readFileSync(profile, 'utf8');
  writeFileSync(profile, text.replace(/^packages:\n/m, 'packages:\n  - tree\n'));
  // Fetches what is missing; then all is at hand.
  timed([process.execPath, cli, 'build', 'demo', '--site', site]);
  const packages = best(() => {
    rmSync(join(site, 'store'), { recursive: true, force: true });
    sh('cd .relive/cache/stages && rm -rf packages-* files-* configure-* live-*', site);
  }, build);
  return { unchanged, overlay, packages };
}

/** What an administrator would type for the same packages, out of the same mirror. */
function measureByHand(site: string, work: string): Took {
  const lock = join(site, 'locks/demo.amd64.json');
  const { packages } = parseLock(readFileSync(lock, 'utf8'), lock);
  const names = packages.map(({ name }) => name).join(',');
  const suites = [
    ['debian', 'trixie'],
    ['debian', 'trixie-updates'],
    ['debian-security', 'trixie-security'],
  ] as const;
  const lines = suites.map(
    ([name, suite]) => `'deb [signed-by=${debianKeyring}] copy://${site}/mirror/${name} ${suite} main'`,
  );
  const bootstrap = `mmdebstrap --quiet --variant=essential --architectures=amd64 --dpkgopt=force-unsafe-io --include=${names} trixie tree ${lines.join(' ')}`;
  const packing =
    'mksquashfs tree layer.squashfs -noappend -quiet -no-progress -comp zstd -Xcompression-level 9';
  return best(
    () => rmSync(join(work, 'hand'), { recursive: true, force: true }),
    () => sh(`mkdir hand && cd hand && ${bootstrap} && ${packing}`, work),
  );
}

const columns = [
  { name: 'from command to image', unit: 's' },
  { name: 'processor', unit: 's' },
] as const;

function row(name: string, { wall, processor }: Took) {
  return { name, values: [wall, processor] };
}

async function compareByHand(site: string, work: string): Promise<void> {
  await part({ bench: 'build', part: 'hand' }, ['mmdebstrap', 'mksquashfs'], (report) => {
    const hand = measureByHand(site, work);
    const cold = measureCold(site);
    const { unchanged, overlay, packages } = measureAgain(site);
    report.table({
      title: 'The profile demo',
      columns: [...columns],
      rows: [
        row('mmdebstrap and mksquashfs by hand', hand),
        row('relive, nothing cached', cold),
        row('relive, other packages', packages),
        row('relive, another file in the overlay', overlay),
        row('relive, nothing changed', unchanged),
      ],
      plot: 'from command to image',
    });
    report.goal('nothing changed', unchanged.wall, 'at most', 2, 's');
    report.goal('nothing cached, to mmdebstrap and mksquashfs by hand', cold.wall / hand.wall, 'at most', 1);
  });
}

async function compareLiveBuild(site: string, work: string): Promise<void> {
  await part({ bench: 'build', part: 'live-build' }, ['live-build', 'mksquashfs'], (report) => {
    const liveBuild = measureLiveBuild(work);
    if (liveBuild === undefined) throw new Error('live-build is not installed');
    const cold = measureCold(site);
    report.table({
      title: 'The packages of the profile demo',
      columns: [...columns],
      rows: [row('live-build, packages in its cache', liveBuild), row('relive, nothing cached', cold)],
      plot: 'from command to image',
    });
    report.goal('live-build to relive', liveBuild.wall / cold.wall, 'at least', 5);
  });
}

comparison('builds', async () => {
  if (!['hand', 'live-build'].some(isAsked)) return;
  const work = mkdtempSync(join(tmpdir(), 'relive-bench-build-'));
  try {
    const site = makeSite(work);
    await compareByHand(site, work);
    await compareLiveBuild(site, work);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
