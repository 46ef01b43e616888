import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseLock } from '../src/site/lock.ts';
import { debianKeyring, hostArchive } from '../test/fixtures/host-archive.ts';
import { comparison, goal, say } from './report.ts';
import { best, cli, makeSite, sh } from './site.ts';

/*
 * Builds: the profile demo by relive, the same packages out of the same mirror by mmdebstrap and mksquashfs as one would
 * type them, and by live-build, which takes its packages from its own cache. None of them uses the network while it is
 * timed. relive's figures include checking every package, proving what was packed, hash trees, seal and signatures.
 * Environment: RELIVE_BENCH_ROUNDS (2); RELIVE_BENCH_PARTS (relive,hand,live-build; the last one takes some minutes a round).
 */

const parts = new Set((process.env['RELIVE_BENCH_PARTS'] ?? 'relive,hand,live-build').split(','));

interface Measured {
  readonly what: string;
  readonly seconds: number;
}

function measureRelive(site: string): Record<'cold' | 'unchanged' | 'overlay' | 'packages', number> {
  const build = (): void => {
    execFileSync(process.execPath, [cli, 'build', 'demo', '--offline', '--site', site], { stdio: 'pipe' });
  };
  const remove = (): void => {
    for (const name of ['.relive', 'store']) rmSync(join(site, name), { recursive: true, force: true });
  };
  const cold = best(remove, build);
  const unchanged = best(() => undefined, build);
  const issue = join(site, 'overlays/demo/etc/issue');
  const overlay = best(() => appendFileSync(issue, 'changed\n'), build);
  const profile = join(site, 'profiles/demo.yaml');
  const text = readFileSync(profile, 'utf8');
  writeFileSync(profile, text.replace(/^packages:\n/m, 'packages:\n  - tree\n'));
  // Fetches what is missing; then all is at hand.
  execFileSync(process.execPath, [cli, 'build', 'demo', '--site', site], { stdio: 'pipe' });
  const packages = best(() => {
    rmSync(join(site, 'store'), { recursive: true, force: true });
    sh('cd .relive/cache/stages && rm -rf packages-* files-* configure-* live-*', site);
  }, build);
  return { cold, unchanged, overlay, packages };
}

/** What an administrator would type for the same packages, out of the same mirror. */
function measureByHand(site: string, work: string): number {
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

/** live-build with the packages of the profile; its second run, which has all it needs in its cache. */
function measureLiveBuild(work: string): number | undefined {
  if (spawnSync('lb', ['--version']).status !== 0) return undefined;
  const directory = join(work, 'live-build');
  const archive = hostArchive();
  const wanted = 'dbus iproute2 iputils-ping less libpam-systemd login nano procps systemd-resolved udev';
  const config = `lb config --mode debian --distribution trixie --architectures amd64 --archive-areas main --mirror-bootstrap ${archive} --mirror-binary ${archive} --linux-flavours cloud-amd64 --apt-recommends false --binary-images iso-hybrid --bootloaders grub-pc,grub-efi --uefi-secure-boot disable --memtest none --firmware-chroot false --firmware-binary false --security false --updates false --chroot-squashfs-compression-type zstd`;
  sh(
    `mkdir -p live-build && cd live-build && ${config} && echo ${wanted} > config/package-lists/demo.list.chroot`,
    work,
  );
  sh('lb build', directory);
  return best(
    () => sh(`lb clean --all && rm -rf cache/bootstrap && ${config}`, directory),
    () => sh('lb build', directory),
    1,
  );
}

comparison('builds', () => {
  const work = mkdtempSync(join(tmpdir(), 'relive-bench-build-'));
  try {
    const site = makeSite(work);
    const rows: Measured[] = [];
    const hand = parts.has('hand') ? measureByHand(site, work) : undefined;
    const liveBuild = parts.has('live-build') ? measureLiveBuild(work) : undefined;
    if (hand !== undefined) rows.push({ what: 'mmdebstrap and mksquashfs by hand', seconds: hand });
    if (liveBuild !== undefined) rows.push({ what: 'live-build', seconds: liveBuild });
    else say('live-build is not installed, or not asked for');
    if (parts.has('relive')) {
      const { cold, unchanged, overlay, packages } = measureRelive(site);
      rows.push(
        { what: 'relive, cold', seconds: cold },
        { what: 'relive, other packages', seconds: packages },
        { what: 'relive, another file in the overlay', seconds: overlay },
        { what: 'relive, nothing changed', seconds: unchanged },
      );
      for (const { what, seconds } of rows) say(`  ${what.padEnd(40)} ${seconds.toFixed(1).padStart(7)} s`);
      goal('nothing changed', unchanged, 'at most', 2, ' s');
      if (hand !== undefined) goal('cold, to mmdebstrap and mksquashfs by hand', cold / hand, 'at most', 1);
      if (liveBuild !== undefined) goal('live-build to cold', liveBuild / cold, 'at least', 5);
    } else
      for (const { what, seconds } of rows) say(`  ${what.padEnd(40)} ${seconds.toFixed(1).padStart(7)} s`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
