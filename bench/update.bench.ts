import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { layerFile, type Manifest } from '../src/image/manifest.ts';
import { measureLiveBuild } from './live-build.ts';
import { comparison, isAsked, part, type Report, say } from './report.ts';
import { cli, least, newest, newSite, relive, rounds, sh, type Took, timed } from './site.ts';
import { addUpgrades, securityPackages, takeUpgrades, type Upgrades } from './upgrades.ts';

/*
 * Updates: the next image as a delta, beside a full build with nothing cached, out of the local mirror; without the test in QEMU.
 * The upgrades are real ones, from what Debian's main suite has to what its security suite has. How small a delta is: packed,
 * beside those of its files that belong to the upgraded packages, packed by themselves. And how much longer the deepest stack
 * takes to read than one that is flat.
 * Environment: RELIVE_BENCH_ROUNDS (2), of the whole way; RELIVE_BENCH_PARTS (machine,stack,browser,live-build; the last one takes some minutes).
 */

type Layer = Manifest['layers'][number];

function layerPath(site: string, layer: Pick<Layer, 'digest'>): string {
  return join(site, 'store/live', layerFile(layer));
}

/** The size of a directory packed as the profile packs layers. */
function packedSize(directory: string, work: string): number {
  const output = join(work, 'alone.squashfs');
  const compression = ['-comp', 'zstd', '-Xcompression-level', '9'];
  timed(['mksquashfs', directory, output, '-noappend', ...compression]);
  const { length } = readFileSync(output);
  rmSync(output);
  return length;
}

/** The seconds of each stage of a build. */
type Stages = ReadonlyMap<string, number>;

const timingsSchema = z.array(z.object({ stage: z.string(), seconds: z.number() }));

/** The stages that made an image, and "total". */
function stagesOf(site: string, { image }: Manifest): Stages {
  const file = join(site, '.relive/cache/timings', `${image}.json`);
  const timings = timingsSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  return new Map(timings.map(({ stage, seconds }) => [stage, seconds]));
}

/** An update of a profile, and what came of it. */
interface Upgrade {
  readonly took: Took;
  readonly stages: Stages;
  /** `openssl 3.5.6-1 -> 3.5.6-2`. */
  readonly packages: readonly string[];
  /** What was packed for it. */
  readonly layers: readonly Layer[];
  /** Those of the files in it that belong to the packages, packed by themselves; in bytes, 0 where there are none. */
  readonly alone: number;
}

/** Updates a profile. @param work a directory for what is needed meanwhile */
function upgrade(site: string, profile: string, work: string): Upgrade {
  const before = newest(site, profile);
  execFileSync('sync');
  const took = relive(site, 'update', profile, '--no-test');
  const after = newest(site, profile);
  say(`  ${after.image}: ${took.wall.toFixed(1)} s, ${took.processor.toFixed(1)} s of the processor`);
  const versions = new Map(before.packages.map(({ name, version }) => [name, version]));
  const changed = after.packages.filter(({ name, version }) => versions.get(name) !== version);
  const layers = after.layers.filter(({ digest }) => !before.layers.some((each) => each.digest === digest));
  if (after.kind !== 'incremental' || layers.length === 0)
    throw new Error(`${after.image} is no image with layers of its own on another one`);
  const packages = changed.map(
    ({ name, version }) => `${name} ${versions.get(name) ?? '(new)'} -> ${version}`,
  );
  const names = changed.map(({ name }) => name);
  return {
    took,
    stages: stagesOf(site, after),
    packages,
    layers,
    alone: filesAlone(site, after, layers, names, work),
  };
}

/** Packs those files of some layers of an image that belong to these packages. */
function filesAlone(
  site: string,
  { layers: all }: Manifest,
  layers: readonly Layer[],
  packages: readonly string[],
  work: string,
): number {
  const directory = mkdtempSync(join(work, 'alone-'));
  const unpack = (to: string, layer: Layer, ...only: readonly string[]): void => {
    const wanted = ['-force', '-dest', join(directory, to), layerPath(site, layer), ...only];
    timed(['unsquashfs', '-quiet', '-no-progress', ...wanted]);
  };
  // A list of files that did not change is in a layer below.
  for (const layer of all) unpack('all', layer, 'var/lib/dpkg/info');
  for (const layer of layers) unpack('new', layer);
  const lists = packages.flatMap((name) =>
    ['.list', ':amd64.list'].map((ending) => join(directory, 'all/var/lib/dpkg/info', `${name}${ending}`)),
  );
  const files = lists
    .filter(existsSync)
    .flatMap((file) => readFileSync(file, 'utf8').split('\n'))
    // The packages of Debian 13 have their files below /usr; lists of some still name them by the links to it.
    .map((path) => path.replace(/^\/(bin|sbin|lib|lib64)\//, '/usr/$1/'))
    .filter((path) => lstatSync(join(directory, 'new', path), { throwIfNoEntry: false })?.isFile() === true);
  // An update may change none: another overlay.
  if (files.length === 0) {
    rmSync(directory, { recursive: true, force: true });
    return 0;
  }
  const list = join(directory, 'files');
  writeFileSync(list, [...new Set(files)].map((path) => `.${path}\0`).join(''));
  mkdirSync(join(directory, 'alone'));
  sh('cd new && xargs -0 -a ../files cp --archive --parents --target-directory ../alone', directory);
  const size = packedSize(join(directory, 'alone'), work);
  rmSync(directory, { recursive: true, force: true });
  return size;
}

function bytesOf(layers: readonly Layer[]): number {
  return layers.reduce((sum, { size }) => sum + size, 0);
}

/** Removes what makes a build faster than the first one, and all images. */
function forget(site: string): void {
  for (const name of ['.relive', 'store']) rmSync(join(site, name), { recursive: true, force: true });
}

const openssl = ['openssl', 'libssl3t64', 'openssl-provider-legacy'];

/** What one round of the way from a full build to four deltas took. */
interface Round {
  readonly full: Took;
  readonly fullStages: Stages;
  readonly openssl: Upgrade;
  readonly kernel: Upgrade;
  readonly file: Upgrade;
}

/** A site whose profile demo has openssl, all that it needs in its mirror, and what it may be upgraded with. */
function machineSite(
  work: string,
): { readonly site: string; readonly upgrades: Upgrades } & Record<
  'security' | 'kernel',
  ReturnType<typeof securityPackages>
> {
  const site = newSite(work);
  const file = join(site, 'profiles/demo.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^packages:\n/m, 'packages:\n  - openssl\n'));
  const kernels = securityPackages(site, ['linux-image-cloud-amd64', 'linux-image-*-cloud-amd64']);
  const depends = /^Depends: (linux-image-\S+)/m.exec(
    kernels.find(({ name }) => name === 'linux-image-cloud-amd64')?.control ?? '',
  )?.[1];
  const kernel = kernels.filter(({ name }) => name === 'linux-image-cloud-amd64' || name === depends);
  const security = securityPackages(site, openssl).filter(({ name }) => openssl.includes(name));
  takeUpgrades(site, 'demo');
  const upgrades = addUpgrades(site, work);
  // Brings what a build needs into the mirror.
  timed([process.execPath, cli, 'build', 'demo', '--site', site]);
  return { site, upgrades, security, kernel };
}

/** A full build with nothing cached, then the updates, each upon the image before. */
function goTheWay({ site, upgrades, security, kernel }: ReturnType<typeof machineSite>, work: string): Round {
  upgrades.offer([]);
  forget(site);
  execFileSync('sync');
  const full = relive(site, 'build', 'demo');
  say(`  full build: ${full.wall.toFixed(1)} s, ${full.processor.toFixed(1)} s of the processor`);
  const fullStages = stagesOf(site, newest(site, 'demo'));
  upgrades.offer(security);
  const ofOpenssl = upgrade(site, 'demo', work);
  upgrades.offer([...security, ...kernel]);
  const ofKernel = upgrade(site, 'demo', work);
  const directory = join(site, 'overlays/demo/opt/data');
  mkdirSync(directory, { recursive: true });
  appendFileSync(join(directory, 'large'), Buffer.alloc(8 * 1024 * 1024, 'a line, and so on, and so on\n'));
  return { full, fullStages, openssl: ofOpenssl, kernel: ofKernel, file: upgrade(site, 'demo', work) };
}

const timeColumns = [
  { name: 'from command to image', unit: 's' },
  { name: 'processor', unit: 's' },
] as const;

const sizeColumns = [
  { name: 'packed', unit: 'MB' },
  { name: 'files alone', unit: 'MB' },
  { name: 'ratio', unit: '' },
] as const;

function timeRow(name: string, { wall, processor }: Took) {
  return { name, values: [wall, processor] };
}

function sizeRow(name: string, { layers, alone }: Upgrade) {
  const bytes = bytesOf(layers);
  return { name, values: [bytes / 1e6, alone / 1e6, bytes / alone] };
}

function sizeGoal({ goal }: Report, name: string, { layers, alone }: Upgrade): void {
  goal(
    `${name}: packed delta to the files of its packages packed alone`,
    bytesOf(layers) / alone,
    'at most',
    1.15,
  );
}

async function machine(work: string): Promise<void> {
  const prepared = machineSite(work);
  await part({ bench: 'update', part: 'machine' }, ['mksquashfs', 'mmdebstrap'], (report) => {
    const all: Round[] = Array.from({ length: rounds }, () => goTheWay(prepared, work));
    const [first] = all;
    if (first === undefined) throw new Error('RELIVE_BENCH_ROUNDS is at least 1');
    const full = least(all.map((round) => round.full));
    const tookOf = (name: 'openssl' | 'kernel' | 'file'): Took => least(all.map((round) => round[name].took));
    const [ssl, kernel, file] = [tookOf('openssl'), tookOf('kernel'), tookOf('file')];
    report.table({
      title: 'The profile demo, and updates of it',
      columns: [...timeColumns],
      rows: [
        timeRow('full build, nothing cached', full),
        timeRow('security update of openssl', ssl),
        timeRow('update of the kernel', kernel),
        timeRow('a file of 8 MiB', file),
      ],
      plot: 'from command to image',
    });
    report.note(`openssl: ${first.openssl.packages.join(', ')}`);
    report.note(`kernel: ${first.kernel.packages.join(', ')}`);
    report.goal('security update of openssl', ssl.wall, 'at most', 15, 's');
    const ratioOf = (kind: keyof Took): number =>
      Math.min(...all.map((round) => round.openssl.took[kind] / round.full[kind]));
    report.goal('security update to full build', ratioOf('wall'), 'at most', 0.2);
    report.goal('security update to full build, by processor time', ratioOf('processor'), 'at most', 0.2);
    report.goal('update of the kernel', kernel.wall, 'at most', 45, 's');
    const { fullStages, openssl: ofOpenssl, kernel: ofKernel } = all.at(-1) ?? first;
    const columns = { 'full build': fullStages, openssl: ofOpenssl.stages, kernel: ofKernel.stages };
    report.table({
      title: 'Where the time goes, in the last round',
      columns: Object.keys(columns).map((name) => ({ name, unit: 's' })),
      rows: [...new Set([...ofOpenssl.stages.keys(), ...fullStages.keys()])].map((name) => ({
        name,
        values: Object.values(columns).map((stages) => stages.get(name) ?? null),
      })),
    });
    report.table({
      title: 'How small the deltas are',
      columns: [...sizeColumns],
      rows: [sizeRow('openssl', first.openssl), sizeRow('kernel', first.kernel)],
    });
    sizeGoal(report, 'openssl', first.openssl);
    sizeGoal(report, 'kernel', first.kernel);
  });
  if (isAsked('stack')) await stack(prepared, work);
}

/** Reads all of the newest image, its layers freshly mounted, their files in memory. */
function read(site: string, { layers }: Manifest, work: string): Took {
  const files = layers.map((layer) => layerPath(site, layer));
  const mounts = files.map(
    (file, index) => `mkdir -p m/${index}; mount -t squashfs -o ro,loop '${file}' m/${index}`,
  );
  const lower = files
    .map((_, index) => `m/${index}`)
    .toReversed()
    .join(':');
  const script = `cat ${files.map((file) => `'${file}'`).join(' ')} >/dev/null; ${mounts.join('; ')}; mkdir -p m/all; mount -t overlay overlay -o lowerdir=${lower} m/all
TIMEFORMAT='%3R %3U %3S'; time { cd m/all; find . -type f -print0 | sort -z | xargs -0 cat >/dev/null; find . -printf '%m' >/dev/null; }`;
  const output = execFileSync(
    'unshare',
    ['--mount', '--propagation', 'private', 'bash', '--norc', '-euc', `{ ${script}\n} 2>&1`],
    {
      cwd: work,
      encoding: 'utf8',
    },
  );
  const [wall = 0, user = 0, system = 0] = (output.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { wall, processor: user + system };
}

/** The deepest stack beside a flat one of the same tree. */
async function stack({ site }: ReturnType<typeof machineSite>, work: string): Promise<void> {
  await part({ bench: 'update', part: 'stack' }, ['mksquashfs'], (report) => {
    if (!existsSync(join(site, 'store/images'))) relive(site, 'build', 'demo');
    const issue = join(site, 'overlays/demo/etc/issue');
    const deltas = (): number => newest(site, 'demo').layers.filter(({ role }) => role === 'delta').length;
    while (deltas() < 4) {
      appendFileSync(issue, 'changed\n');
      relive(site, 'update', 'demo', '--no-test');
    }
    const deep = newest(site, 'demo');
    timed([process.execPath, cli, 'image', 'flatten', 'demo', '--site', site]);
    const flat = newest(site, 'demo');
    if (flat.tree !== deep.tree || deep.layers.length !== 6 || flat.layers.length !== 2)
      throw new Error('these are not a deep and a flat image of one tree');
    const took = Array.from({ length: 7 }, () => ({
      deep: read(site, deep, work),
      flat: read(site, flat, work),
    }));
    const [ofDeep, ofFlat] = [least(took.map((each) => each.deep)), least(took.map((each) => each.flat))];
    report.table({
      title: 'Reading all files of an image',
      columns: [
        { name: 'time', unit: 's' },
        { name: 'processor', unit: 's' },
      ],
      rows: [
        timeRow('flat: base and kernel layer', ofFlat),
        timeRow('deepest: base, kernel layer, four deltas', ofDeep),
      ],
      plot: 'time',
    });
    report.goal('reading the deepest stack to the flat one', ofDeep.wall / ofFlat.wall, 'at most', 1.3);
    report.goal('the same, by processor time', ofDeep.processor / ofFlat.processor, 'at most', 1.3);
  });
}

/** A browser and what it shows its pages with, in a container. */
const browserProfile = `version: 1
suite: trixie
architecture: amd64
host: container
repositories: [debian]
packages: [cage, firefox-esr, fonts-dejavu-core, libgl1-mesa-dri, xwayland]
`;

async function browser(work: string): Promise<void> {
  await part({ bench: 'update', part: 'browser' }, ['mksquashfs', 'mmdebstrap'], (report) => {
    const site = newSite(work);
    writeFileSync(join(site, 'profiles/browser.yaml'), browserProfile);
    const packages = securityPackages(site, ['firefox-esr']);
    const security = securityPackages(site, openssl);
    takeUpgrades(site, 'browser');
    const upgrades = addUpgrades(site, work);
    timed([process.execPath, cli, 'lock', 'browser', '--site', site]);
    timed([process.execPath, cli, 'build', 'browser', '--site', site]);
    forget(site);
    const full = relive(site, 'build', 'browser');
    upgrades.offer(security);
    const ssl = upgrade(site, 'browser', work);
    upgrades.offer([...security, ...packages]);
    const firefox = upgrade(site, 'browser', work);
    report.table({
      title: 'A browser in a container, and updates of it',
      columns: [...timeColumns],
      rows: [
        timeRow('full build, nothing cached', full),
        timeRow('security update of openssl', ssl.took),
        timeRow('update of firefox-esr', firefox.took),
      ],
      plot: 'from command to image',
    });
    report.note(`openssl: ${ssl.packages.join(', ')}`);
    report.note(`browser: ${firefox.packages.join(', ')}`);
    report.goal('security update of openssl', ssl.took.wall, 'at most', 15, 's');
    report.goal('security update to full build', ssl.took.wall / full.wall, 'at most', 0.2);
    report.table({
      title: 'How small its delta is',
      columns: [...sizeColumns],
      rows: [sizeRow('firefox-esr', firefox)],
    });
    sizeGoal(report, 'firefox-esr', firefox);
    upgrades.remove();
  });
}

async function againstLiveBuild(work: string): Promise<void> {
  await part({ bench: 'update', part: 'live-build' }, ['live-build', 'mksquashfs'], (report) => {
    const prepared = machineSite(work);
    const liveBuild = measureLiveBuild(work);
    prepared.upgrades.offer(prepared.security);
    const { took } = upgrade(prepared.site, 'demo', work);
    if (liveBuild === undefined) {
      report.note('live-build is not installed');
      return;
    }
    report.table({
      title: 'A security update of openssl, and live-build, which builds all anew',
      columns: [...timeColumns],
      rows: [timeRow('relive update', took), timeRow('live-build, packages in its cache', liveBuild)],
      plot: 'from command to image',
    });
    report.note(`live-build takes ${(liveBuild.wall / took.wall).toFixed(1)} times as long`);
    prepared.upgrades.remove();
  });
}

async function inDirectory(asked: readonly string[], run: (work: string) => Promise<void>): Promise<void> {
  if (!asked.some(isAsked)) return;
  const work = mkdtempSync(join(tmpdir(), 'relive-bench-update-'));
  try {
    await run(work);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

comparison('updates', async () => {
  await inDirectory(['machine', 'stack'], machine);
  await inDirectory(['browser'], browser);
  await inDirectory(['live-build'], againstLiveBuild);
});
