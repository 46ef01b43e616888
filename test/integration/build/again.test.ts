import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseStanzas } from '../../../src/debian/control.ts';
import { sha256 } from '../../../src/host/files.ts';
import type { Manifest } from '../../../src/image/manifest.ts';
import { succeed } from '../../fixtures/command.ts';
import { type BuiltSite, builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

const sites: TestSite[] = [];
afterAll(() => {
  for (const site of sites) removeSite(site);
});

async function anotherSite(name: string): Promise<TestSite> {
  const site = await freshSite({ name });
  sites.push(site);
  return site;
}

interface Shown {
  readonly directory: string;
  readonly manifest: Manifest;
}

async function shown(site: TestSite): Promise<Shown> {
  const { last } = await succeed(['image', 'show', 'demo'], { site: site.directory });
  return last as unknown as Shown;
}

/** The digest of every file of a store, by its path. */
function contentOf(store: string): Map<string, string> {
  const entries = readdirSync(store, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(paths.toSorted().map((path) => [path.slice(store.length), sha256(readFileSync(path))]));
}

/** What of an image does not follow from its name, which has the day in it. */
function lasting({ manifest }: Pick<Shown, 'manifest'>): object {
  const { image: _, version: __, serial: ___, ...rest } = manifest;
  return rest;
}

/**
 * Another host: its own name, time zone, locale and umask, no network, settings of root's shell that would break the
 * build, the cache on another file system, which gives the entries of directories in another order.
 */
const elsewhere = `hostname elsewhere.example && mount -t tmpfs tmpfs /root && echo 'exit 42' >/root/.bashrc && umask 077 && mount -t tmpfs -o size=3g tmpfs "$1" && shift && exec "$@"`;

describe('the same lock once more', () => {
  let built: BuiltSite;
  let site: TestSite;

  test('on another host, in another directory, from nothing: the same bytes, signatures included', async () => {
    built = await builtSite();
    site = await anotherSite('another directory');
    mkdirSync(site.cache, { recursive: true });
    const { last } = await succeed(['build', 'demo', '--offline'], {
      site: site.directory,
      through: [
        ...['unshare', '--mount', '--propagation', 'private', '--uts', '--net', '--', 'sh', '-c'],
        ...[elsewhere, 'sh', site.cache],
      ],
      env: { TZ: 'Pacific/Auckland', LANG: 'de_DE.UTF-8', LC_ALL: undefined, HOME: '/nonexistent' },
    });
    expect(last).toMatchObject({ event: 'result', unchanged: false });
    const again = await shown(site);
    expect(lasting(again)).toEqual(lasting(built));
    const others = contentOf(site.store);
    // Built on another day it has another name, which stands in what is signed.
    const named = again.manifest.image === built.image ? '' : '/live/';
    const same = [...contentOf(built.store)].filter(
      ([path]) => path.startsWith(named) && (named === '' || path.endsWith('.squashfs')),
    );
    expect(same.length).toBeGreaterThanOrEqual(2);
    expect(same.filter(([path, digest]) => others.get(path) !== digest)).toEqual([]);
    expect(named === '' ? others.size : same.length).toBe(same.length);
  });

  test('the files are readable for those who serve them, whatever the umask', () => {
    const modes = execFileSync('find', [site.store, '-not', '-perm', '-a+r', '-printf', '%P %m\n'], {
      encoding: 'utf8',
    });
    expect(modes).toBe('.lock 600\n');
  });
});

describe('bootstrap: debootstrap', () => {
  test('gives the same packages and versions, and what debootstrap takes besides', async () => {
    const built = await builtSite();
    const site = await anotherSite('site');
    const file = join(site.directory, 'profiles/demo.yaml');
    writeFileSync(file, `${readFileSync(file, 'utf8')}\nbootstrap: debootstrap\n`);
    await succeed(['build', 'demo'], { site: site.directory });
    const { manifest } = await shown(site);
    const versions = new Map(manifest.packages.map(({ name, version }) => [name, version]));
    const wanted = new Map(built.manifest.packages.map(({ name, version }) => [name, version]));
    expect([...wanted].filter(([name, version]) => versions.get(name) !== version)).toEqual([]);
    await succeed(['image', 'verify'], { site: site.directory });

    const [base] = manifest.layers;
    const layer = join(site.store, 'live', `${base?.digest.slice(0, 16) ?? ''}.squashfs`);
    const directory = mkdtempSync(join(tmpdir(), 'relive-test-'));
    const root = join(directory, 'root');
    execFileSync('unsquashfs', [
      '-quiet',
      '-no-progress',
      '-dest',
      root,
      layer,
      'etc',
      'var',
      'usr/sbin',
      'debootstrap',
      'dev',
    ]);
    const text = readFileSync(join(root, 'var/lib/dpkg/status'), 'utf8');
    const installed = parseStanzas(text, 'status').map((stanza) => [
      stanza.get('package'),
      stanza.get('version'),
    ]);
    const left = {
      others: installed.filter(([name = '', version]) => versions.get(name) !== version),
      machineId: readFileSync(join(root, 'etc/machine-id'), 'utf8'),
      debootstrap: readdirSync(root).filter((name) => name === 'debootstrap'),
      devices: readdirSync(join(root, 'dev')),
      logs: readdirSync(join(root, 'var/log')).filter((name) => name.endsWith('.log')),
      lists: readdirSync(join(root, 'var/lib/apt/lists')),
      archives: readdirSync(join(root, 'var/cache/apt/archives')),
      sources: readdirSync(join(root, 'etc/apt')).filter((name) => name === 'sources.list'),
    };
    rmSync(directory, { recursive: true });
    expect(left).toEqual({
      others: [],
      machineId: '',
      debootstrap: [],
      devices: [],
      logs: [],
      lists: ['partial'],
      archives: ['partial'],
      sources: [],
    });
    expect(installed).toHaveLength(manifest.packages.length);
  });
});
