import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PackageEntry } from '../../../src/debian/packages.ts';
import { syncIndices } from '../../../src/mirror/indices.ts';
import { fetchPool, type PoolFile } from '../../../src/mirror/pool.ts';
import { readPackages } from '../../../src/mirror/read-packages.ts';
import type { MirroredRepository, Repository } from '../../../src/mirror/repository.ts';
import { cacheDirectory } from '../../fixtures/cache.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { debianKeyring, hostArchive } from '../../fixtures/host-archive.ts';
import { type PrivateApt, privateApt } from '../../fixtures/private-apt.ts';

const mirror = cacheDirectory('mirror');
const wanted = ['libstdc++6', 'xz-utils'];
const context = recordingContext();
let repository: Repository;
let mirrored: MirroredRepository;
let apt: PrivateApt;
let directory: string;

beforeAll(async () => {
  repository = {
    name: 'debian',
    url: [hostArchive()],
    suites: ['trixie', 'trixie-updates'],
    components: ['main'],
    architectures: ['amd64'],
    signedBy: debianKeyring,
  };
  mirrored = await syncIndices(mirror, repository, {}, context);
  directory = mkdtempSync(join(tmpdir(), 'relive-test-apt-'));
  const sources = mirrored.suites.map(
    ({ suite }) => `deb [signed-by=${mirrored.keyring}] file://${mirrored.root} ${suite} main`,
  );
  apt = privateApt(directory, 'amd64', sources);
});

afterAll(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** The files of the closure that apt resolves, with the digests of our own index. */
async function closure(): Promise<PoolFile[]> {
  const byPath = new Map<string, PackageEntry>();
  for (const { suite } of mirrored.suites) {
    const index = { component: 'main', architecture: 'amd64' };
    await readPackages(
      mirror,
      repository,
      suite,
      index,
      (entry) => byPath.set(entry.filename, entry),
      context,
    );
  }
  expect(byPath.size).toBeGreaterThan(60_000);
  return apt.printUris(wanted).map(({ uri, size }) => {
    const path = decodeURIComponent(uri.slice(`file:${mirrored.root}/`.length));
    const entry = byPath.get(path);
    expect(entry?.size).toBe(size);
    return { path, size, sha256: entry?.sha256 ?? '' };
  });
}

test('the suites are the real ones', () => {
  expect(mirrored.suites.map(({ suite, codename }) => [suite, codename])).toEqual([
    ['trixie', 'trixie'],
    ['trixie-updates', 'trixie-updates'],
  ]);
});

test('apt-get update takes the mirror, with all of its own checks', () => {
  expect(apt.run(['update'])).not.toContain('Err:');
});

test('apt-get downloads through the mirror what fetchPool brought, with its own hash checks', async () => {
  apt.run(['update']);
  const files = await closure();
  expect(files.map(({ path }) => path).join()).toContain('libstdc++6');
  await fetchPool(mirror, repository, files, {}, context);
  const again = await fetchPool(mirror, repository, files, {}, context);
  expect(again).toEqual({ downloaded: 0, bytes: 0 });
  apt.run(['download', ...wanted]);
  expect(readdirSync(directory).filter((name) => name.endsWith('.deb'))).toHaveLength(wanted.length);
  // apt itself fetches and checks the whole closure.
  apt.run(['install', '--yes', '--download-only', ...wanted]);

  const [first] = files;
  writeFileSync(join(mirrored.root, first?.path ?? ''), Buffer.alloc(first?.size ?? 0));
  expect(await fetchPool(mirror, repository, files, {}, context)).toMatchObject({ downloaded: 1 });
});

test('a second run changes nothing, and works offline', async () => {
  expect(await syncIndices(mirror, repository, {}, context)).toEqual(mirrored);
  expect(await syncIndices(mirror, repository, { offline: true }, context)).toEqual(mirrored);
});
