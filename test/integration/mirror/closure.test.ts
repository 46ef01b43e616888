import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { debianKeyring } from '../../fixtures/host-archive.ts';
import { type MirrorSite, mirrorSite } from '../../fixtures/mirror-site.ts';
import { makeSigningKey } from '../../fixtures/signing.ts';
import { type BuiltSite, builtSite } from '../../fixtures/site.ts';

const lockFile = z.object({
  packages: z.array(z.object({ repository: z.string(), path: z.string() })),
});

let built: BuiltSite;
let site: MirrorSite;
let key: ReturnType<typeof makeSigningKey>;

/** The upstream is the mirror that the tests share, whose indices list all of Debian. */
beforeAll(async () => {
  built = await builtSite();
  key = makeSigningKey();
  site = mirrorSite(key, '');
  const upstream = (name: string, suites: readonly string[]): object => ({
    url: [pathToFileURL(join(built.mirror, name)).href],
    suites,
    components: ['main', 'non-free-firmware'],
    signedBy: debianKeyring,
    select: 'closure',
  });
  site.configure({
    debian: upstream('debian', ['trixie', 'trixie-updates']),
    'debian-security': upstream('debian-security', ['trixie-security']),
  });
  mkdirSync(join(site.directory, 'locks'));
  copyFileSync(join(built.directory, 'locks/demo.amd64.json'), join(site.directory, 'locks/demo.amd64.json'));
});

afterAll(() => {
  site.remove();
  key.remove();
});

function poolFiles(): string[] {
  // After a point release the security archive may have none of the packages.
  const names = ['debian', 'debian-security'].filter((name) => site.has(`${name}/pool`));
  return names.flatMap((name) =>
    readdirSync(site.at(`${name}/pool`), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.deb'))
      .map((path) => `${name}/pool/${path}`),
  );
}

test('a mirror of what the locks name has these packages and no others, and is proven intact', async () => {
  const { packages } = lockFile.parse(
    JSON.parse(readFileSync(join(site.directory, 'locks/demo.amd64.json'), 'utf8')),
  );
  await site.good(['mirror', 'sync']);
  expect(poolFiles().toSorted()).toEqual(
    packages.map(({ repository, path }) => `${repository}/${path}`).toSorted(),
  );
  expect((await site.good(['mirror', 'verify'])).findings).toEqual([]);
  // One that was lost comes back.
  const [lost = ''] = poolFiles();
  rmSync(site.at(lost));
  await site.good(['mirror', 'sync']);
  expect(site.has(lost)).toBe(true);
});
