import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { stringify } from 'yaml';
import { sha256 } from '../src/host/files.ts';
import { cacheDirectory } from '../test/fixtures/cache.ts';
import { debianKeyring, hostArchive } from '../test/fixtures/host-archive.ts';
import { makeSigningKey, type SigningKey } from '../test/fixtures/signing.ts';
import { comparison, isAsked, part, type Report } from './report.ts';
import type { Table } from './result.ts';
import { cli, roundsOr } from './site.ts';

/*
 * Mirrors: relive beside curl (no checks), apt-mirror, debmirror, aptly and reprepro, all of which fetch the same upstream from
 * one nginx on the loopback interface, in turn, several rounds; and verification beside sha256sum and openssl.
 * Disks that others use too make the figures worthless: TMPDIR=/dev/shm takes them out of the comparison.
 * Each goal is printed with what was measured. apt-mirror checks nothing, and writes nothing to the disk: relive does both.
 * Environment: RELIVE_BENCH_ROUNDS (3); RELIVE_BENCH_PARTS (real,small,verify,memory,million; the last one, only where it is named,
 * verifies up to a million files, which takes some minutes and 5 GB).
 */

const rounds = roundsOr(3);
const host = '127.0.53.2';
const realPackages = 341;
const smallPackages = 5000;
const connections = 8;

interface Package {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
  readonly md5: string;
}

function write(path: string, content: string | Buffer): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

/** Indices and signed Release of a suite `stable` over packages that lie in `root`. */
function publish(root: string, key: SigningKey, packages: readonly Package[]): void {
  const stanzas = packages.map(({ path, size, sha256: digest, md5 }) => {
    const [name = '', version = ''] = basename(path, '.deb').split('_');
    return [
      `Package: ${name}`,
      `Version: ${version}`,
      'Architecture: amd64',
      'Maintainer: Bench <bench@example.org>',
      'Section: misc',
      'Priority: optional',
      'Description: a package',
      `Filename: ${path}`,
      `Size: ${size}`,
      `MD5sum: ${md5}`,
      `SHA256: ${digest}`,
      '',
    ].join('\n');
  });
  const plain = Buffer.from(stanzas.join('\n'));
  const forms = new Map([
    ['main/binary-amd64/Packages', plain],
    ['main/binary-amd64/Packages.gz', gzipSync(plain)],
    [
      'main/binary-amd64/Packages.xz',
      execFileSync('xz', ['-1', '--stdout'], { input: plain, maxBuffer: 2 ** 30 }),
    ],
  ]);
  const dists = join(root, 'dists/stable');
  const section = (algorithm: string): string[] =>
    [...forms].map(
      ([path, content]) =>
        ` ${createHash(algorithm).update(content).digest('hex')} ${content.length} ${path}`,
    );
  for (const [path, content] of forms) {
    if (!path.endsWith('Packages')) write(join(dists, path), content);
    write(join(dists, dirname(path), 'by-hash/SHA256', sha256(content)), content);
  }
  const release = Buffer.from(
    [
      ...['Origin: Bench', 'Label: Bench', 'Suite: stable', 'Codename: stable'],
      `Date: ${new Date(Date.now() - 60_000).toUTCString().replace('GMT', 'UTC')}`,
      ...['Acquire-By-Hash: yes', 'Architectures: amd64', 'Components: main'],
      ...['MD5Sum:', ...section('md5'), 'SHA256:', ...section('sha256'), ''],
    ].join('\n'),
  );
  write(join(dists, 'Release'), release);
  write(join(dists, 'Release.gpg'), key.detachSign(release));
  write(join(dists, 'InRelease'), key.clearSign(release));
}

function describePackage(root: string, path: string): Package {
  const content = readFileSync(join(root, path));
  return {
    path,
    size: content.length,
    sha256: sha256(content),
    md5: createHash('md5').update(content).digest('hex'),
  };
}

/** Real packages of Debian, fetched once by relive itself: by filters that choose as many as are wanted. */
function realUpstream(root: string, key: SigningKey): readonly Package[] {
  const site = join(root, '..', 'real-site');
  const pool = join(site, 'mirror/debian/pool');
  if (!existsSync(join(site, 'complete'))) {
    mkdirSync(site, { recursive: true });
    const common = {
      url: [hostArchive()],
      suites: ['trixie'],
      components: ['main'],
      architectures: ['amd64'],
      signedBy: debianKeyring,
    };
    const configure = (more: object): void =>
      writeFileSync(
        join(site, 'relive.yaml'),
        stringify({ version: 1, repositories: { debian: { ...common, ...more } } }),
      );
    configure({ select: 'closure' });
    relive(site, ['mirror', 'sync']);
    const index = execFileSync(
      'xzcat',
      [join(site, 'mirror/debian/dists/trixie/main/binary-amd64/Packages.xz')],
      {
        encoding: 'utf8',
        maxBuffer: 2 ** 30,
      },
    );
    // Of 1.2 to 8 MB, spread over the alphabet by their digests: 0.9 GB together.
    const candidates = index.split('\n\n').flatMap((stanza) => {
      const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
      const size = Number(field('Size'));
      return size > 1.2e6 && size < 8e6 ? [{ name: field('Package'), digest: field('SHA256') }] : [];
    });
    const names = candidates.toSorted((a, b) => (a.digest < b.digest ? -1 : 1)).slice(0, realPackages);
    configure({ select: 'filters', filters: { names: names.map(({ name }) => name) } });
    relive(site, ['mirror', 'sync']);
    writeFileSync(join(site, 'complete'), '');
  }
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  symlinkSync(pool, join(root, 'pool'));
  const paths = readdirSync(pool, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.deb'),
  );
  const packages = paths.toSorted().map((path) => describePackage(root, join('pool', path)));
  publish(root, key, packages);
  return packages;
}

/** Made-up packages of 20 to 130 kB; nothing opens them. */
function smallUpstream(root: string, key: SigningKey, count: number): readonly Package[] {
  const noise = Buffer.concat(
    Array.from({ length: 4096 }, (_, number) => createHash('sha512').update(`noise ${number}`).digest()),
  );
  const paths = Array.from(
    { length: count },
    (_, number) => `pool/main/p/p${number % 500}/p${number}_1.0_amd64.deb`,
  );
  for (const [number, path] of paths.entries()) {
    if (existsSync(join(root, path))) continue;
    const size = 20_000 + ((number * 7919) % 111_000);
    write(join(root, path), Buffer.concat([Buffer.from(`package ${number}\n`), noise.subarray(0, size)]));
  }
  const packages = paths.map((path) => describePackage(root, path));
  publish(root, key, packages);
  return packages;
}

async function answers(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** nginx over a directory, on port 80: apt-mirror knows no other. */
async function startServer(
  root: string,
  work: string,
): Promise<{ readonly log: string; readonly stop: () => void }> {
  const log = join(work, 'access.log');
  const directory = join(work, 'nginx');
  mkdirSync(directory, { recursive: true });
  write(
    join(directory, 'nginx.conf'),
    `user root; worker_processes 1; daemon off; pid ${directory}/pid; error_log ${directory}/error.log;
     events { worker_connections 256; }
     http { access_log ${log}; sendfile on; tcp_nopush on; keepalive_requests 100000;
       client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy; fastcgi_temp_path ${directory}/fastcgi;
       uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
       server { listen ${host}:80; root ${root}; } }`,
  );
  const child: ChildProcess = spawn('nginx', ['-c', join(directory, 'nginx.conf'), '-p', directory], {
    stdio: 'inherit',
  });
  for (let attempt = 0; !(await answers(80)) || child.exitCode !== null; attempt += 1) {
    if (attempt > 100) throw new Error('nginx did not start');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { log, stop: () => child.kill('SIGTERM') };
}

function relive(site: string, args: readonly string[]): string {
  return execFileSync(process.execPath, [cli, ...args, '--site', site, '--quiet'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, XDG_CACHE_HOME: join(site, 'cache') },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** One way to bring the upstream into a directory that is empty, or not any more. */
interface Contestant {
  readonly name: string;
  readonly run: (directory: string) => void;
}

interface Upstream {
  /** The directory of the archive below the server's root. */
  readonly name: string;
  readonly root: string;
  readonly packages: readonly Package[];
}

/** Runs a tool without its output. */
function quiet(command: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): void {
  execFileSync(command, args, {
    cwd,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, HOME: cwd, ...env },
  });
}

function once(path: string, content: string): void {
  if (!existsSync(path)) write(path, content);
}

function contestants(upstream: Upstream, key: SigningKey): readonly Contestant[] {
  const url = `http://${host}/${upstream.name}`;
  return [
    {
      name: 'relive',
      run: (directory) => {
        const repository = {
          ...{ url: [url], suites: ['stable'], components: ['main'], architectures: ['amd64'] },
          ...{ signedBy: key.keyring, select: 'all' },
        };
        once(join(directory, 'relive.yaml'), stringify({ version: 1, repositories: { bench: repository } }));
        relive(directory, ['mirror', 'sync']);
      },
    },
    {
      name: 'curl',
      run: (directory) => {
        const lines = upstream.packages.map(({ path }) => `url = "${url}/${path}"\noutput = "${path}"`);
        once(join(directory, 'list'), lines.join('\n'));
        quiet(
          'curl',
          ['-sfZ', '--parallel-max', String(connections), '--create-dirs', '-K', 'list'],
          directory,
        );
      },
    },
    {
      name: 'apt-mirror',
      run: (directory) => {
        for (const name of ['mirror', 'skel', 'var']) mkdirSync(join(directory, name), { recursive: true });
        const settings = `set base_path ${directory}\nset nthreads ${connections}\nset _tilde 0\nset run_postmirror 0\n`;
        once(join(directory, 'list'), `${settings}deb [arch=amd64] ${url} stable main\n`);
        quiet('apt-mirror', [join(directory, 'list')], directory);
      },
    },
    {
      name: 'debmirror',
      run: (directory) => {
        once(join(directory, 'conf'), '1;\n');
        quiet(
          'debmirror',
          [
            ...[
              '--method=http',
              `--host=${host}`,
              `--root=${upstream.name}`,
              '--dist=stable',
              '--section=main',
            ],
            ...[
              '--arch=amd64',
              '--nosource',
              `--keyring=${key.keyring}`,
              '--diff=none',
              '--rsync-extra=none',
            ],
            ...[`--config-file=${join(directory, 'conf')}`, join(directory, 'tree')],
          ],
          directory,
        );
      },
    },
    {
      name: 'aptly',
      run: (directory) => {
        const isNew = !existsSync(join(directory, '.aptly.conf'));
        once(
          join(directory, '.aptly.conf'),
          JSON.stringify({
            rootDir: join(directory, 'root'),
            downloadConcurrency: connections,
            gpgProvider: 'gpg',
          }),
        );
        const ring = [`-keyring=${key.keyring}`];
        if (isNew)
          quiet(
            'aptly',
            ['mirror', 'create', ...ring, '-architectures=amd64', 'm', url, 'stable', 'main'],
            directory,
          );
        quiet('aptly', ['mirror', 'update', ...ring, 'm'], directory);
      },
    },
    {
      name: 'reprepro',
      run: (directory) => {
        once(
          join(directory, 'conf/distributions'),
          'Codename: stable\nArchitectures: amd64\nComponents: main\nUpdate: up\n',
        );
        once(
          join(directory, 'conf/updates'),
          `Name: up\nMethod: ${url}\nSuite: stable\nComponents: main\nArchitectures: amd64\nVerifyRelease: ${key.fingerprint.slice(-16)}\n`,
        );
        quiet('reprepro', ['--basedir', directory, 'update'], directory, { GNUPGHOME: dirname(key.keyring) });
      },
    },
  ];
}

function seconds(run: () => void): number {
  const started = performance.now();
  run();
  return (performance.now() - started) / 1000;
}

function requestsIn(log: string): number {
  return readFileSync(log, 'utf8').split('\n').length - 1;
}

interface Row {
  readonly cold: number[];
  readonly warm: number[];
  requests: number;
  failure?: string;
}

/** A figure, if there is one. */
function known(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** All contestants in turn, round after round: into an empty directory, then once more without changes. */
function compare(upstream: Upstream, key: SigningKey, work: string, log: string, report: Report): void {
  const rows = new Map<string, Row>();
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, run } of contestants(upstream, key)) {
      const row = rows.get(name) ?? { cold: [], warm: [], requests: 0 };
      rows.set(name, row);
      const directory = join(work, 'run');
      rmSync(directory, { recursive: true, force: true });
      mkdirSync(directory, { recursive: true });
      execFileSync('sync');
      try {
        row.cold.push(seconds(() => run(directory)));
        const before = requestsIn(log);
        if (name !== 'curl') row.warm.push(seconds(() => run(directory)));
        row.requests = requestsIn(log) - before;
      } catch (error) {
        row.failure = error instanceof Error ? error.message.slice(0, 300) : String(error);
      }
    }
  }
  const bytes = upstream.packages.reduce((sum, { size }) => sum + size, 0);
  const fastestOf = (name: string, kind: 'cold' | 'warm'): number =>
    Math.min(...(rows.get(name)?.[kind] ?? []));
  const ours = fastestOf('relive', 'cold');
  report.table({
    title: `${upstream.packages.length} packages, ${(bytes / 1e6).toFixed(0)} MB`,
    columns: [
      { name: 'into an empty directory', unit: 's' },
      { name: 'to relive', unit: '' },
      { name: 'without changes', unit: 's' },
      { name: 'requests without changes', unit: '' },
    ],
    rows: [...rows.keys()].map((name) => ({
      name,
      values: [
        known(fastestOf(name, 'cold')),
        known(fastestOf(name, 'cold') / ours),
        known(fastestOf(name, 'warm')),
        name === 'curl' ? null : (rows.get(name)?.requests ?? null),
      ],
    })),
    plot: 'into an empty directory',
  });
  for (const [name, { failure }] of rows)
    if (failure !== undefined) report.note(`${name} failed: ${failure.split('\n')[0] ?? ''}`);
  report.goal('apt-mirror to relive', fastestOf('apt-mirror', 'cold') / ours, 'at least', 1);
  for (const name of ['debmirror', 'aptly']) {
    report.goal(`${name} to relive`, fastestOf(name, 'cold') / ours, 'at least', 2);
  }
  report.goal('without changes', fastestOf('relive', 'warm'), 'at most', 0.15, 's');
  report.goal('requests without changes', rows.get('relive')?.requests ?? 0, 'at most', 1);
  report.note(`node itself starts in ${startOfNode().toFixed(2)} s`);
}

/** What no program on Node.js can go below. */
function startOfNode(): number {
  return best(() => execFileSync(process.execPath, ['--eval', '0']));
}

function opensslRate(): number {
  const output = execFileSync('openssl', ['speed', '-evp', 'sha256', '-bytes', '1048576', '-seconds', '2'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return Number(/sha256\s+([\d.]+)k/.exec(output)?.[1] ?? Number.NaN) * 1000;
}

function best(run: () => void): number {
  return Math.min(...Array.from({ length: rounds }, () => seconds(run)));
}

/** Verification of the real packages beside sha256sum, and of large files beside what openssl can do. */
function compareVerify(upstream: Upstream, key: SigningKey, work: string, report: Report): void {
  const site = join(work, 'verify');
  mkdirSync(site, { recursive: true });
  const list = join(work, 'sums');
  writeFileSync(list, upstream.packages.map(({ path, sha256: digest }) => `${digest}  ${path}\n`).join(''));
  // The tree whose pool is a link that leads out would be refused: a copy of it, cached.
  const tree = join(work, 'verify/tree');
  execFileSync('cp', ['-rL', `${upstream.root}/.`, tree]);
  const verify = (): string => relive(site, ['mirror', 'verify', tree, '--keyring', key.keyring]);
  verify();
  const ours = best(verify);
  const theirs = best(() => execFileSync('sha256sum', ['--quiet', '-c', list], { cwd: tree }));
  report.table({
    title: `${upstream.packages.length} packages, in memory`,
    columns: [{ name: 'time', unit: 's' }],
    rows: [
      { name: 'relive mirror verify', values: [ours] },
      { name: 'sha256sum -c', values: [theirs] },
    ],
    plot: 'time',
  });
  report.goal('sha256sum -c to relive', theirs / ours, 'at least', 4);
  rmSync(tree, { recursive: true, force: true });

  const large = join(work, 'verify/large');
  const size = 2 ** 30;
  const block = Buffer.alloc(2 ** 20);
  const hash = createHash('sha256');
  for (let at = 0; at < size; at += block.length) hash.update(block);
  const digest = hash.digest('hex');
  const packages = Array.from({ length: 8 }, (_, number) => {
    const path = `pool/main/l/l${number}/l${number}_1.0_amd64.deb`;
    write(join(large, path), '');
    truncateSync(join(large, path), size);
    return { path, size, sha256: digest, md5: '0'.repeat(32) };
  });
  publish(large, key, packages);
  const all = (): string => relive(site, ['mirror', 'verify', large, '--keyring', key.keyring]);
  all();
  const rate = (8 * size) / best(all);
  const limit = opensslRate() * cpus().length;
  report.table({
    title: '8 files of 1 GiB, in memory',
    columns: [{ name: 'rate', unit: 'GB/s' }],
    rows: [
      { name: 'relive mirror verify', values: [rate / 1e9] },
      { name: `openssl speed, times ${cpus().length} cores`, values: [limit / 1e9] },
    ],
    plot: 'rate',
  });
  report.goal('relive to openssl', rate / limit, 'at least', 0.8);
  rmSync(large, { recursive: true, force: true });
}

/** Runs relive and tells its largest resident memory, in MB. */
async function peakMemory(
  site: string,
  args: readonly string[],
): Promise<{ readonly megabytes: number; readonly seconds: number }> {
  const started = performance.now();
  const child = spawn(process.execPath, [cli, ...args, '--site', site, '--quiet'], {
    stdio: 'ignore',
    env: { ...process.env, XDG_CACHE_HOME: join(site, 'cache') },
  });
  let peak = 0;
  const timer = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${child.pid ?? 0}/status`, 'utf8');
      peak = Math.max(peak, Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0));
    } catch {
      // It is gone.
    }
  }, 20);
  await new Promise((resolve) => child.once('exit', resolve));
  clearInterval(timer);
  return { megabytes: peak / 1000, seconds: (performance.now() - started) / 1000 };
}

const memoryColumns: Table['columns'] = [
  { name: 'memory at most', unit: 'MB' },
  { name: 'time', unit: 's' },
];

async function measureMemory(work: string, report: Report): Promise<void> {
  const site = join(work, 'memory');
  mkdirSync(site, { recursive: true });
  const repository = {
    ...{ url: [hostArchive()], suites: ['trixie'], components: ['main'], architectures: ['amd64'] },
    ...{ signedBy: debianKeyring, kinds: ['packages', 'sources', 'translations', 'contents', 'dep11'] },
    // The pool list of everything is made; nothing of it is called so.
    ...{ select: 'filters', filters: { names: ['no-such-package'] } },
  };
  writeFileSync(join(site, 'relive.yaml'), stringify({ version: 1, repositories: { debian: repository } }));
  const { megabytes, seconds: time } = await peakMemory(site, ['mirror', 'sync']);
  report.table({
    title: 'Sync of the indices of trixie main, nothing of the pool',
    columns: memoryColumns,
    rows: [{ name: 'relive mirror sync', values: [megabytes, time] }],
  });
  report.goal('memory', megabytes, 'at most', 250, 'MB');
  rmSync(site, { recursive: true, force: true });
}

async function measureMillion(key: SigningKey, work: string, report: Report): Promise<void> {
  const root = join(work, 'million');
  const site = join(work, 'million-site');
  mkdirSync(site, { recursive: true });
  let made = 0;
  const packages: Package[] = [];
  const rows: Table['rows'] = [];
  for (const count of [100_000, 300_000, 1_000_000]) {
    for (; made < count; made += 1) {
      const path = `pool/main/p/p${made % 4000}/p${made}_1.0_amd64.deb`;
      const content = Buffer.from(`package ${made}`);
      if (made < 4000) mkdirSync(dirname(join(root, path)), { recursive: true });
      const descriptor = openSync(join(root, path), 'w');
      writeSync(descriptor, content);
      closeSync(descriptor);
      packages.push({ path, size: content.length, sha256: sha256(content), md5: '0'.repeat(32) });
    }
    publish(root, key, packages);
    const args = ['mirror', 'verify', root, '--keyring', key.keyring];
    const { megabytes, seconds: time } = await peakMemory(site, args);
    rows.push({ name: `${count} files`, values: [megabytes, time] });
  }
  report.table({ title: 'Verification of many small files', columns: memoryColumns, rows });
  rmSync(root, { recursive: true, force: true });
}

comparison('mirrors', async () => {
  const work = mkdtempSync(join(tmpdir(), 'relive-bench-mirror-'));
  const cache = cacheDirectory('bench-mirror');
  const key = makeSigningKey('Bench');
  try {
    const upstream = (name: string, packages: readonly Package[]): Upstream => ({
      name,
      root: join(cache, 'www', name),
      packages,
    });
    const peers = ['curl', 'apt-mirror', 'debmirror', 'aptly', 'reprepro', 'nginx'];
    if (['real', 'small', 'verify'].some(isAsked)) {
      const real = upstream('real', realUpstream(join(cache, 'www/real'), key));
      if (['real', 'small'].some(isAsked)) {
        const small = upstream('small', smallUpstream(join(cache, 'www/small'), key, smallPackages));
        const server = await startServer(join(cache, 'www'), work);
        try {
          for (const one of [real, small])
            await part({ bench: 'mirror', part: one.name }, peers, (report) =>
              compare(one, key, work, server.log, report),
            );
        } finally {
          server.stop();
        }
      }
      await part({ bench: 'mirror', part: 'verify' }, ['sha256sum', 'openssl'], (report) =>
        compareVerify(real, key, work, report),
      );
    }
    await part({ bench: 'mirror', part: 'memory' }, [], async (report) => await measureMemory(work, report));
    if (process.env['RELIVE_BENCH_PARTS'] !== undefined)
      await part(
        { bench: 'mirror', part: 'million' },
        [],
        async (report) => await measureMillion(key, work, report),
      );
  } finally {
    key.remove();
    rmSync(work, { recursive: true, force: true });
  }
});
