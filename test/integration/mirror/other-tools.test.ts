import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeDeb, publishArchive, writeTree } from '../../fixtures/archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { type RsyncDaemon, startRsync } from '../../fixtures/rsync-daemon.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';

/*
 * Trees made by the tools that are in use (Debian packages apt-mirror, debmirror, ftpsync, aptly, reprepro) are verified, and
 * three of them are engines.
 */

let key: SigningKey;
let server: TestServer;
let daemon: RsyncDaemon;
let site: MirrorSite;
let work: string;
let url: string;
const debs = ['alpha', 'beta', 'gamma'].map((name) => makeDeb({ name, size: 3000 }));
const damaged = 'pool/main/b/beta/beta_1.0_amd64.deb';

/** Runs a tool; the server that it fetches from is in this process. */
async function command(name: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): Promise<void> {
  await promisify(execFile)(name, args, {
    cwd: work,
    env: { ...process.env, HOME: work, LC_ALL: 'C.UTF-8', LOGNAME: 'root', http_proxy: '', ...more },
  });
}

beforeAll(async () => {
  key = makeSigningKey();
  server = await startServer({ host: '127.0.53.1', port: 80 });
  url = `${server.url}/debian`;
  site = mirrorSite(key, url);
  work = join(site.directory, 'work');
  mkdirSync(join(work, 'upstream/project/trace'), { recursive: true });
  const files = new Map<string, Buffer>();
  publishArchive(files, 'stable', key, { debs, source: 'tool', detached: 'both' });
  writeTree(join(work, 'upstream'), files);
  for (const [path, content] of files) server.files.set(`debian/${path}`, content);
  writeFileSync(join(work, 'upstream/project/trace/master'), 'Archive serial: 2026010101\n');
  daemon = await startRsync(join(work, 'upstream'));
});
afterAll(async () => {
  await daemon.stop();
  await server.close();
  site.remove();
  key.remove();
});

async function found(path: string): Promise<readonly string[]> {
  const { findings, status, stdout } = await site.relive([
    'mirror',
    'verify',
    path,
    '--keyring',
    key.keyring,
  ]);
  if (status > 1) throw new Error(stdout);
  return findings.map((finding) => finding.replace(`${path}/`, ''));
}

/** The only file below a directory with this name. */
function inTree(path: string, name: string): string {
  const file = readdirSync(path, { recursive: true, encoding: 'utf8' }).find((entry) => entry.endsWith(name));
  if (file === undefined) throw new Error(`${path} has no ${name}`);
  return file;
}

/** What is found in a tree as its tool made it, and what when one byte of a package is flipped. */
async function verdicts(
  path: string,
): Promise<{ readonly made: readonly string[]; readonly flipped: readonly string[] }> {
  const made = await found(path);
  const file = inTree(path, 'beta_1.0_amd64.deb');
  const content = readFileSync(join(path, file));
  content[150] = (content[150] ?? 0) ^ 1;
  // What a tool has by a hard link from its own pool is not to be changed there too.
  rmSync(join(path, file));
  writeFileSync(join(path, file), content);
  return { made, flipped: await found(path) };
}
const proven = { made: [], flipped: [`corrupt ${damaged}`] };

describe('verify proves what they made', () => {
  test('apt-mirror', async () => {
    const base = join(work, 'apt-mirror');
    for (const name of ['mirror', 'skel', 'var']) mkdirSync(join(base, name), { recursive: true });
    const list = join(base, 'mirror.list');
    writeFileSync(
      list,
      [
        `set base_path ${base}`,
        'set nthreads 4',
        'set _tilde 0',
        'set run_postmirror 0',
        `deb [arch=amd64] ${url} stable main`,
        `deb-src ${url} stable main`,
        '',
      ].join('\n'),
    );
    await command('apt-mirror', [list]);
    expect(await verdicts(join(base, 'mirror', new URL(url).host, 'debian'))).toEqual(proven);
  });

  test('debmirror', async () => {
    const tree = join(work, 'debmirror');
    writeFileSync(join(work, 'debmirror.conf'), '1;\n');
    await command('debmirror', [
      ...[
        '--method=http',
        `--host=${new URL(server.url).host}`,
        '--root=debian',
        '--dist=stable',
        '--section=main',
      ],
      ...['--arch=amd64', '--source', `--keyring=${key.keyring}`, '--diff=none', '--rsync-extra=none'],
      ...[`--config-file=${join(work, 'debmirror.conf')}`, tree],
    ]);
    expect(await verdicts(tree)).toEqual(proven);
  });

  test('ftpsync', async () => {
    const tree = join(work, 'ftpsync');
    mkdirSync(join(work, '.config/ftpsync'), { recursive: true });
    writeFileSync(
      join(work, '.config/ftpsync/ftpsync.conf'),
      [
        'MIRRORNAME=mirror.example.org',
        `TO=${tree}/`,
        'RSYNC_HOST=127.0.0.1',
        'RSYNC_PATH=archive',
        `RSYNC_EXTRA=--port=${new URL(daemon.url).port}`,
        `LOGDIR=${work}/log`,
        '',
      ].join('\n'),
    );
    await command('ftpsync', ['sync:all']);
    expect(await verdicts(tree)).toEqual(proven);
  });

  test('reprepro', async () => {
    const tree = join(work, 'reprepro');
    mkdirSync(join(tree, 'conf'), { recursive: true });
    writeFileSync(
      join(tree, 'conf/distributions'),
      `Origin: Test\nLabel: Test\nSuite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\nSignWith: ${key.fingerprint}\n`,
    );
    for (const deb of debs) {
      const file = join(work, `${deb.name}.deb`);
      writeFileSync(file, deb.content);
      await command('reprepro', ['--basedir', tree, 'includedeb', 'stable', file], {
        GNUPGHOME: dirname(key.keyring),
      });
    }
    expect(await verdicts(tree)).toEqual(proven);
  });

  test('aptly', async () => {
    const root = join(work, 'aptly');
    writeFileSync(join(work, '.aptly.conf'), JSON.stringify({ rootDir: root, gpgProvider: 'gpg' }));
    const env = { GNUPGHOME: dirname(key.keyring) };
    for (const { name, content } of debs) writeFileSync(join(work, `${name}_1.0_amd64.deb`), content);
    await command('aptly', ['repo', 'create', '-distribution=stable', '-component=main', 'mine'], env);
    await command(
      'aptly',
      ['repo', 'add', 'mine', ...debs.map(({ name }) => join(work, `${name}_1.0_amd64.deb`))],
      env,
    );
    await command(
      'aptly',
      ['publish', 'repo', '-batch', '-architectures=amd64', `-gpg-key=${key.fingerprint}`, 'mine'],
      env,
    );
    expect(await verdicts(join(root, 'public'))).toEqual(proven);
  });
});

describe('engines', () => {
  const kinds = ['packages', 'sources'];

  test.each([
    ['apt-mirror', 'http'],
    ['debmirror', 'http'],
    ['ftpsync', 'rsync'],
  ])('%s fetches by %s; what it brought is verified, then published', async (engine, method) => {
    site.configure({ [engine]: { engine, kinds, url: [method === 'http' ? url : daemon.url] } });
    await site.good(['mirror', 'sync']);
    expect(site.read(`${engine}/${damaged}`).equals(debs[1]?.content ?? Buffer.alloc(0))).toBe(true);
    expect(site.has(`${engine}/pool/main/t/tool/tool_1.0.dsc`)).toBe(true);
    expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
    expect((await site.good(['mirror', 'sync'])).result).toMatchObject({
      repositories: [{ suites: [{ changed: false, downloaded: 0 }] }],
    });
  });

  test('apt-mirror takes a corrupt package; relive does not publish it', async () => {
    const good = server.files.get(`debian/${damaged}`) ?? Buffer.alloc(0);
    const wrong = Buffer.from(good);
    wrong[150] = (wrong[150] ?? 0) ^ 1;
    server.files.set(`debian/${damaged}`, wrong);
    try {
      site.configure({ fresh: { engine: 'apt-mirror', kinds } });
      const { status, result } = await site.relive(['mirror', 'sync']);
      expect([status, result['message']]).toEqual([3, expect.stringContaining('beta_1.0_amd64.deb')]);
      expect(site.has('fresh/dists/stable')).toBe(false);
    } finally {
      server.files.set(`debian/${damaged}`, good);
    }
  });

  test.each([
    [{ engine: 'debmirror', select: 'closure' }, 'whole suites only'],
    [{ engine: 'apt-mirror', kinds: ['packages', 'installer'] }, 'cannot bring installer'],
    [{ engine: 'ftpsync' }, 'cannot fetch from http'],
    [{ engine: 'debmirror', suites: ['./'], components: undefined }, 'flat'],
  ])('%j is refused', async (more, message) => {
    site.configure({ test: more });
    const { status, result } = await site.relive(['mirror', 'sync']);
    expect([status, result['message']]).toEqual([2, expect.stringContaining(message)]);
  });
});

test('rsync:// serves as an upstream of the native engine', async () => {
  site.configure({ byrsync: { url: [daemon.url], kinds: ['packages', 'sources'] } });
  await site.good(['mirror', 'sync']);
  expect((await site.relive(['mirror', 'verify'])).findings).toEqual([]);
  expect(site.read(`byrsync/${damaged}`).equals(debs[1]?.content ?? Buffer.alloc(0))).toBe(true);
  expect((await site.good(['mirror', 'sync'])).result).toMatchObject({
    repositories: [{ suites: [{ changed: false }] }],
  });
});
