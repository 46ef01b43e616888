import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LiveMachine } from '../test/fixtures/live-machine.ts';
import { isLiveBuildInstalled, type LiveBuildIso, makeLiveBuildIso } from './live-build.ts';
import { comparison, part, type Report, say } from './report.ts';
import { cli, middle, newest, newSite, roundsOr, type Took, timed } from './site.ts';

/*
 * How long an image takes from the start of an emulated machine to its report of health, beside an ISO of live-build with the same
 * packages. In turn, in rounds: RELIVE_BENCH_ROUNDS (5) in the environment, of each figure the middle one.
 */

const rounds = roundsOr(5);

const profile = 'demo';
/** What the profile enables, and the consoles that it gives the kernel. */
const units = ['systemd-networkd', 'systemd-resolved', 'getty@tty1'];
const consoles = ['console=tty0', 'console=ttyS0,115200'];
/** By this name the report of live-build's image calls it. */
const liveBuild = 'live-build';

function edit(file: string, from: RegExp, to: string): void {
  const text = readFileSync(file, 'utf8');
  if (!from.test(text)) throw new Error(`${file} has no ${String(from)}`);
  writeFileSync(file, text.replace(from, to));
}

/** What is booted: an ISO, and by which name it reports itself. */
interface Booted {
  readonly iso: string;
  readonly image: string;
}

/** An ISO of relive, out of the suites that live-build knows as such, too. */
function makeReliveIso(work: string): Booted & { readonly site: string } {
  const site = newSite(work);
  edit(join(site, 'relive.yaml'), /^version: 1$/m, '$&\nmenu: {timeout: 0}');
  edit(join(site, `profiles/${profile}.yaml`), /^repositories: .*$/m, 'repositories: [debian]');
  timed([process.execPath, cli, 'build', profile, '--site', site]);
  timed([process.execPath, cli, 'image', 'export', profile, '--iso', '--site', site]);
  const { image } = newest(site, profile);
  return { site, image, iso: join(site, 'store/isos', `${image}.iso`) };
}

/** The points of a boot: by whom the way to it is gone, and what the console shows there. */
const points = [
  ['firmware and boot loader', /Linux version/],
  ['kernel and initramfs', /systemd\[1\]: systemd \d+/],
] as const;
const lastPoint = 'systemd, to the report';

/** What the ways to the points of a boot took, and all of it. */
interface Boot {
  readonly ways: ReadonlyMap<string, Took>;
  readonly whole: Took;
}

function between(from: Took, to: Took): Took {
  return { wall: to.wall - from.wall, processor: to.processor - from.processor };
}

async function boot({ iso, image }: Booted): Promise<Boot> {
  const started = performance.now();
  const machine = await LiveMachine.start(iso, { network: 'none' });
  try {
    const now = (): Took => ({ wall: (performance.now() - started) / 1000, processor: machine.processor });
    const ways = new Map<string, Took>();
    let last: Took = { wall: 0, processor: 0 };
    const reached = (name: string): void => {
      const at = now();
      ways.set(name, between(last, at));
      last = at;
    };
    for (const [name, pattern] of points) {
      await machine.seen(pattern, 900);
      reached(name);
    }
    await machine.healthy(image, 900);
    reached(lastPoint);
    say(`  ${image}: ${last.wall.toFixed(1)} s, ${last.processor.toFixed(1)} s of the processor`);
    return { ways, whole: last };
  } finally {
    await machine.end();
  }
}

/** Which packages are not the same. */
function differences(ours: ReadonlyMap<string, string>, theirs: ReadonlyMap<string, string>): string[] {
  const names = [...new Set([...ours.keys(), ...theirs.keys()])].toSorted();
  return names
    .filter((name) => ours.get(name) !== theirs.get(name))
    .map((name) => `${name} (relive ${ours.get(name) ?? 'none'}, live-build ${theirs.get(name) ?? 'none'})`);
}

function row(name: string, { wall, processor }: Took) {
  return { name, values: [wall, processor] };
}

async function compare(
  report: Report,
  { packages: theirs, iso }: LiveBuildIso,
  ours: ReturnType<typeof makeReliveIso>,
): Promise<void> {
  const [reliveBoots, liveBuildBoots]: [Boot[], Boot[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    reliveBoots.push(await boot(ours));
    liveBuildBoots.push(await boot({ iso, image: liveBuild }));
  }
  const middleOf = (boots: readonly Boot[], way?: string): Took => {
    const took = boots.map(({ ways, whole }) => (way === undefined ? whole : (ways.get(way) ?? whole)));
    return {
      wall: middle(took.map(({ wall }) => wall)),
      processor: middle(took.map(({ processor }) => processor)),
    };
  };
  const [mine, other] = [middleOf(reliveBoots), middleOf(liveBuildBoots)];
  report.table({
    title: 'From the start of QEMU to the report of health',
    columns: [
      { name: 'time', unit: 's' },
      { name: 'processor', unit: 's' },
    ],
    rows: [row('relive', mine), row('live-build', other)],
    plot: 'processor',
  });
  report.table({
    title: 'Where the processor’s time goes',
    columns: [
      { name: 'relive', unit: 's' },
      { name: 'live-build', unit: 's' },
    ],
    rows: [...points.map(([name]) => name), lastPoint].map((way) => ({
      name: way,
      values: [middleOf(reliveBoots, way).processor, middleOf(liveBuildBoots, way).processor],
    })),
  });
  report.goal('boot of relive to that of live-build', mine.wall / other.wall, 'at most', 1);
  report.goal('the same, by processor time', mine.processor / other.processor, 'at most', 1);
  const { packages } = newest(ours.site, profile);
  const others = differences(new Map(packages.map(({ name, version }) => [name, version])), theirs);
  report.note(
    others.length === 0
      ? `the same ${packages.length} packages`
      : `of ${packages.length} packages these differ: ${others.join(', ')}`,
  );
}

comparison('boot', async () => {
  const tools = ['live-build', 'mksquashfs', 'qemu-system-x86_64'];
  await part({ bench: 'boot', part: 'live-build' }, tools, async (report) => {
    if (!isLiveBuildInstalled()) {
      report.note('live-build is not installed');
      return;
    }
    const work = mkdtempSync(join(tmpdir(), 'relive-bench-boot-'));
    try {
      const ours = makeReliveIso(work);
      const theirs = makeLiveBuildIso(work, {
        packages: newest(ours.site, profile).packages.map(({ name }) => name),
        overlay: join(ours.site, 'overlays', profile),
        units,
        parameters: [`relive.image=${liveBuild}`, ...consoles],
      });
      await compare(report, theirs, ours);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
});
