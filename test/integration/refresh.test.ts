import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parse, stringify } from 'yaml';
import type { RefreshReport } from '../../src/refresh/report.ts';
import { makeDeb, publishArchive } from '../fixtures/archive.ts';
import { type CommandEnd, runCommand, startCommand, succeed } from '../fixtures/command.ts';
import { addTinyImage } from '../fixtures/guest.ts';
import { startServer, type TestServer } from '../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../fixtures/signing.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';

/*
 * The tests of this file follow each other, from the first refresh of a site on. Two containers, which differ in their
 * overlays only, are built of Debian's packages and one of our own archive, own-hello; the medium gets tiny images, which no
 * profile of the site makes.
 */

let site: TestSite;
let server: TestServer;
let upstream: SigningKey;
let disk: string;
let images: { readonly box: string; readonly twin: string };

/** The site's own key, as far as tiny images need it. */
function siteKey(): SigningKey {
  const home = join(site.keys, 'gnupg');
  const detachSign = (input: Buffer): Buffer =>
    execFileSync('gpg', ['--homedir', home, '--batch', '--quiet', '--detach-sign'], { input });
  return { ...upstream, detachSign };
}

function publish(version: string): void {
  const debs = [makeDeb({ name: 'own-hello', version })];
  publishArchive(server.files, 'stable', upstream, { debs, date: new Date() });
}

/** Writes relive.yaml: Debian is what the shared mirror has, so that nothing new comes from there. */
function configure(report: readonly string[], media: readonly string[] = ['./lab.img', 'ABSENT']): void {
  const file = join(site.directory, 'relive.yaml');
  const document = parse(readFileSync(file, 'utf8')) as {
    repositories: Record<string, Record<string, unknown>>;
  };
  for (const [name, repository] of Object.entries(document.repositories)) {
    repository['url'] = [name === 'local' ? server.url : `file://${join(site.mirror, name)}`];
    // The shared mirror may be some days old.
    repository['override'] = ['expired'];
  }
  document.repositories['local'] = {
    ...{ url: [server.url], suites: ['stable'], components: ['main'], architectures: ['amd64'] },
    signedBy: upstream.keyring,
  };
  const own = { ...document, mirror: 'mirror', refresh: { media, report } };
  writeFileSync(file, stringify(own));
}

const told = (name: string): string => join(site.directory, name);
const mail = 'cat >report.txt; cp "$RELIVE_REPORT" report.json; printf %s "$RELIVE_SUBJECT" >subject';

function reportOf({ last }: Pick<CommandEnd, 'last'>): RefreshReport {
  return (last as unknown as { report: RefreshReport }).report;
}

/** Refreshes; the program of the site must have got the report that the command ended with. */
async function refresh(status: number, ...words: readonly string[]): Promise<RefreshReport> {
  rmSync(told('report.json'), { force: true });
  const end = await runCommand(['refresh', ...words], { site: site.directory });
  expect({ status: end.status, stderr: end.stderr, last: end.last }).toMatchObject({ status });
  const report = reportOf(end);
  expect(JSON.parse(readFileSync(told('report.json'), 'utf8'))).toEqual(report);
  return report;
}

/** Runs a command where udev has found a file system on the block device with the number $1, as lsblk(8) reads it. */
const withUdev = [
  'mount -t tmpfs tmpfs /run && mkdir -p /run/udev/data',
  "printf 'I:1\\nE:ID_FS_LABEL_ENC=REFRESHED\\nE:ID_FS_UUID_ENC=1111-AAAA\\nE:ID_FS_TYPE=ext4\\n' >/run/udev/data/b$1",
  'shift; exec "$@"',
].join('\n');

/** Starts a refresh and kills it when a stage begins. */
async function killedAt(stage: RegExp): Promise<void> {
  const run = startCommand(['refresh', '--jobs', '2'], { site: site.directory });
  const line = await run.line((each) => stage.test(String(each['stage'])) && each['state'] === 'start');
  run.child.kill('SIGKILL');
  const { last, status } = await run.ended;
  expect({ stage: line?.['stage'], last, status }).toEqual({
    ...{ stage: expect.stringMatching(stage), last: undefined },
    status: 128 + 9,
  });
}

async function imageNames(): Promise<string[]> {
  const { last } = await succeed(['image', 'list'], { site: site.directory });
  return (last as unknown as { images: { name: string }[] }).images.map(({ name }) => name).toSorted();
}

const outcomes = (report: RefreshReport): unknown =>
  Object.fromEntries(report.profiles.map(({ profile, outcome }) => [profile, outcome]));

beforeAll(async () => {
  site = await freshSite({ cache: true });
  server = await startServer();
  upstream = makeSigningKey();
  publish('1.0');
  rmSync(join(site.directory, 'profiles/demo.yaml'));
  const box = {
    ...{ version: 1, suite: 'trixie', architecture: 'amd64', host: 'container' },
    ...{
      repositories: ['debian', 'debian-security', 'local'],
      packages: ['own-hello'],
      retention: { keep: 1 },
    },
    image: { compression: { algorithm: 'lz4' } },
  };
  writeFileSync(told('profiles/box.yaml'), stringify(box));
  writeFileSync(told('profiles/twin.yaml'), stringify({ version: 1, extends: ['box'] }));
  configure(['sh', '-c', mail]);
  const { image } = addTinyImage(site.directory, 'healthy', siteKey(), '20261122.01');
  disk = told('lab.img');
  await succeed(['medium', 'create', disk, '--size', '512M', '--image', image], { site: site.directory });
});
afterAll(async () => {
  await server.close();
  upstream.remove();
  execFileSync('gpgconf', ['--homedir', join(site.keys, 'gnupg'), '--kill', 'all']);
  removeSite(site);
});

describe('a site without an image', () => {
  test('has a plan, which makes nothing', async () => {
    const empty = told('empty.img');
    writeFileSync(empty, Buffer.alloc(2 ** 20));
    const device = execFileSync('losetup', ['--find', '--show', empty], { encoding: 'utf8' }).trim();
    onTestFinished(() => void execFileSync('losetup', ['--detach', device]));
    const number = readFileSync(`/sys/block/${basename(device)}/dev`, 'utf8').trim();
    configure(['sh', '-c', mail], ['REFRESHED', 'UUID=1111-aaaa', 'ABSENT']);
    const through = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', withUdev, 'sh', number];
    const { last } = await succeed(['refresh', '--plan'], { site: site.directory, through });
    configure(['sh', '-c', mail]);
    expect(last?.['plan']).toMatchObject({
      mirrors: ['debian', 'debian-security', 'local'],
      profiles: [{ profile: 'box' }, { profile: 'twin' }],
      media: [
        { medium: 'REFRESHED', target: device },
        { medium: 'UUID=1111-aaaa', target: device },
        { medium: 'ABSENT' },
      ],
      ...{ prune: [], failures: [] },
    });
    expect(await imageNames()).toEqual(['tiny-20261122.01']);
    expect(existsSync(told('locks/box.amd64.json'))).toBe(false);
    expect(existsSync(told('report.json'))).toBe(false);
  });

  test('gets them, after a run that was killed, of stages that the profiles share', async () => {
    await killedAt(/^(box|twin): packages$/);
    const end = await runCommand(['refresh', '--jobs', '2'], { site: site.directory });
    expect({ status: end.status, last: end.last }).toMatchObject({ status: 0 });
    const report = reportOf(end);
    expect(outcomes(report)).toEqual({ box: 'new', twin: 'new' });
    const [box, twin] = report.profiles;
    images = { box: box?.image ?? '', twin: twin?.image ?? '' };
    expect(box?.gained).toMatchObject({ kind: 'full', changes: [] });
    expect(report.mirrors).toMatchObject([
      { repository: 'debian', verified: { findings: 0 } },
      { repository: 'debian-security', verified: { findings: 0 } },
      { repository: 'local', verified: { findings: 0 } },
    ]);
    expect(report.media).toMatchObject([
      { medium: disk, outcome: 'unchanged', target: disk },
      { medium: 'ABSENT', outcome: 'absent' },
    ]);
    // One of them makes the stage, the other one takes it.
    const packages = end.lines.filter(
      ({ event, stage, state }) =>
        event === 'stage' && state !== 'done' && /^(box|twin): packages$/.test(String(stage)),
    );
    expect(packages.map(({ state }) => String(state)).toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
      'cached',
      'start',
    ]);
    expect(await imageNames()).toEqual([images.box, 'tiny-20261122.01', images.twin]);
    expect(readFileSync(told('report.txt'), 'utf8')).toContain(`  box: ${images.box} (`);
    expect(readFileSync(told('subject'), 'utf8')).toBe(`relive: new: ${images.box}, ${images.twin}`);
  });
});

test('nothing new: nothing is made, and a second refresh at the same time says so and ends', async () => {
  const first = startCommand(['refresh'], { site: site.directory });
  await first.line(() => true);
  const second = await runCommand(['refresh'], { site: site.directory });
  expect([second.status, second.last?.['code']]).toEqual([3, 'locked']);
  expect(second.last?.['message']).toMatch(/^the site .* is in use by "relive refresh/);
  const end = await first.ended;
  expect({ status: end.status, last: end.last }).toMatchObject({ status: 0 });
  expect(reportOf(end)).toMatchObject({
    outcome: 'unchanged',
    ...{ failures: [], pruned: { images: [] }, media: [{ outcome: 'unchanged' }, { outcome: 'absent' }] },
  });
  expect(readFileSync(told('subject'), 'utf8')).toBe('relive: nothing new');
  expect(await imageNames()).toEqual([images.box, 'tiny-20261122.01', images.twin]);
});

describe('when upstream has something new, and a profile cannot be built', () => {
  test('the others get it, the medium and the report too, although a run was killed on its way', async () => {
    publish('2.0');
    const tiny = addTinyImage(site.directory, 'healthy', siteKey(), '20261122.02', 'another layer\n').image;
    writeFileSync(
      told('profiles/broken.yaml'),
      stringify({ version: 1, extends: ['box'], packages: ['no-such-package'] }),
    );
    writeFileSync(told('profiles/odd.yaml'), 'version: 1\nsuites: trixie\n');
    await killedAt(/^lab\.img: copy$/);
    const report = await refresh(3);
    expect(outcomes(report)).toEqual({ box: 'new', broken: 'failed', odd: 'failed', twin: 'new' });
    expect(report.failures).toMatchObject([
      {
        what: 'profile odd',
        code: 'configuration',
        message: expect.stringContaining('profiles/odd.yaml:2:1'),
      },
      { what: 'profile broken', code: 'unknown-package', hint: expect.any(String) },
    ]);
    const [box] = report.profiles;
    expect(box).toMatchObject({
      since: images.box,
      gained: {
        kind: 'incremental',
        changes: [{ name: 'own-hello', kind: 'upgraded', from: '1.0', to: '2.0' }],
      },
    });
    expect(report.media[0]).toMatchObject({ outcome: 'synced', added: [tiny] });
    expect(report.pruned.images.toSorted()).toEqual([images.box, images.twin]);
    expect(await imageNames()).not.toContain(images.box);
    const text = readFileSync(told('report.txt'), 'utf8');
    expect(text).toMatch(/^ +~ +own-hello +1\.0 -> 2\.0$/m);
    expect(text).toMatch(/^ {2}profile broken: .*no-such-package/m);
    // The newest images need layers of those that are gone.
    await succeed(['image', 'verify', 'box'], { site: site.directory });
    await succeed(['image', 'verify', 'twin'], { site: site.directory });
    await succeed(['medium', 'verify', disk], { site: site.directory });
    expect(readdirSync(site.cache).filter((name) => name.startsWith('scratch'))).toEqual([]);
  });

  test('an upstream that is away leaves what the mirror has; a report that nobody takes is told', async () => {
    server.files.clear();
    configure(['sh', '-c', 'echo no such user >&2; exit 67']);
    const { status, last } = await runCommand(['refresh', 'box'], { site: site.directory });
    expect(status).toBe(3);
    const report = reportOf({ last });
    expect(outcomes(report)).toEqual({ box: 'unchanged' });
    expect(report.failures.map(({ what }) => what)).toEqual(['mirror local', 'report']);
    expect(report.failures[1]).toMatchObject({
      code: 'tool-failed',
      message: expect.stringContaining('no such user'),
    });
  });

  test('a profile that is not there is a mistake, and nothing is done', async () => {
    const { status, last } = await runCommand(['refresh', 'boxes'], { site: site.directory });
    expect([status, last?.['code']]).toEqual([2, 'not-found']);
  });
});
