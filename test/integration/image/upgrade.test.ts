import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Manifest } from '../../../src/image/manifest.ts';
import { type Deb, packDeb, publishArchive, repackedDeb } from '../../fixtures/archive.ts';
import { type CommandEnd, runCommand, stagesOf, succeed } from '../../fixtures/command.ts';
import { startServer, type TestServer } from '../../fixtures/server.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { temporaryDirectory } from '../../support.ts';

/** Newer packages on the system of the last image, or everything anew where that may not come to the same. */
let site: TestSite;
let server: TestServer;
let key: SigningKey;

beforeAll(async () => {
  site = await freshSite({ cache: true, store: true });
  key = makeSigningKey();
  server = await startServer();
  const profile = join(site.directory, 'profiles/demo.yaml');
  const text = readFileSync(profile, 'utf8');
  writeFileSync(profile, text.replace(/^repositories: \[(.*)\]/m, 'repositories: [$1, newer]'));
  appendFileSync(
    join(site.directory, 'relive.yaml'),
    `  newer:\n    url: [${server.url}]\n    suites: [trixie, trixie-security]\n    components: [main]\n    architectures: [amd64]\n    signedBy: ${key.keyring}\n    select: all\n`,
  );
});
afterAll(async () => {
  removeSite(site);
  key.remove();
  await server.close();
});

/** A package with a configuration file that its own script changes. */
function settings(version: string, script: string): Deb {
  const directory = join(temporaryDirectory(), 'deb');
  const write = (path: string, text: string, mode: number): void => {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text, { mode });
  };
  const fields = [
    'Package: settings',
    `Version: ${version}`,
    'Architecture: all',
    'Maintainer: Test <t@example.org>',
  ];
  write(
    'DEBIAN/control',
    `${[...fields, 'Section: misc', 'Priority: optional', 'Description: settings'].join('\n')}\n`,
    0o644,
  );
  write('DEBIAN/conffiles', '/etc/settings.conf\n', 0o644);
  write('DEBIAN/postinst', `#!/bin/sh\nset -e\n${script}\n`, 0o755);
  write('etc/settings.conf', 'brought\n', 0o644);
  write('usr/share/settings/version', version, 0o644);
  return packDeb(directory);
}

function publish(suite: string, debs: readonly Deb[]): void {
  publishArchive(server.files, suite, key, { debs, date: new Date() });
}

async function offer(...debs: readonly Deb[]): Promise<void> {
  publish('trixie', debs);
  await succeed(['mirror', 'sync', 'newer'], { site: site.directory });
}

async function update(profile: string, ...words: readonly string[]): Promise<CommandEnd> {
  const end = await succeed(['update', profile, '--offline', '--no-test', ...words], {
    site: site.directory,
  });
  expect(end.last).toMatchObject({ unchanged: false });
  return end;
}

async function newest(profile: string): Promise<Manifest> {
  const { last } = await succeed(['image', 'show', profile], { site: site.directory });
  return (last as unknown as { manifest: Manifest }).manifest;
}

/** What of two images differs, times apart. */
async function differences(from: Manifest, to: Manifest): Promise<unknown> {
  const { last } = await runCommand(['image', 'diff', from.image, to.image], { site: site.directory });
  const { files } = last as unknown as { files: { path: string; kind: string; aspects: string[] }[] };
  return files.filter(({ kind, aspects }) => kind !== 'changed' || aspects.join(',') !== 'time');
}

const installing = (end: CommandEnd): string[] =>
  stagesOf(end).filter((stage) => /^(?:bootstrap|packages|upgrade) /.test(stage));

test('newer packages go upon the system that is there, and it is the system that a full build makes', async () => {
  // Real packages with their real scripts: one of the bootstrap, one whose configuration is newer too.
  const newer = (name: string): Deb =>
    repackedDeb(site, 'demo', name, '+newer1', (directory) => {
      appendFileSync(join(directory, `usr/share/doc/${name}/copyright`), 'newer\n');
      if (name === 'nano') appendFileSync(join(directory, 'etc/nanorc'), '# newer\n');
    });
  const before = await newest('demo');
  publish('trixie-security', [newer('libssl3t64')]);
  await offer(newer('less'), newer('nano'));
  const { last } = await succeed(['update', 'demo', '--offline', '--plan'], { site: site.directory });
  const { plan } = last as unknown as { plan: { security: { name: string; fromSecurity: boolean }[] } };
  expect(plan.security.map(({ name, fromSecurity }) => [name, fromSecurity])).toEqual([
    ['less', false],
    ['libssl3t64', true],
    ['nano', false],
  ]);

  const upgraded = await update('demo');
  expect(installing(upgraded)).toEqual(['bootstrap cached', 'packages cached', 'upgrade start']);
  const image = await newest('demo');
  expect(image).toMatchObject({ kind: 'incremental' });
  // What is in the initrd has stayed the same, libcrypto of that library, too: so have all of its bytes, on a later date.
  expect(image.sourceDateEpoch).toBeGreaterThan(before.sourceDateEpoch);
  expect(image.initrd).toEqual(before.initrd);

  const again = ['update', 'demo', '--offline', '--no-test'];
  expect((await succeed(again, { site: site.directory })).last).toMatchObject({ unchanged: true });

  await update('demo', '--full');
  const full = await newest('demo');
  expect(await differences(image, full)).toEqual([]);
  expect(full).toMatchObject({ kind: 'full', tree: image.tree, lock: image.lock, inputs: image.inputs });
});

/** The same in a container, which needs no initramfs and shares the bootstrap. */
test('everything is made anew where a script is another one, found its configuration changed, or fails', async () => {
  const box = async (...packages: readonly string[]): Promise<CommandEnd> => {
    const lines = ['version: 1', 'suite: trixie', 'architecture: amd64', 'host: container'];
    lines.push('repositories: [debian, debian-security, newer]', `packages: [${packages.join(', ')}]`, '');
    writeFileSync(join(site.directory, 'profiles/box.yaml'), lines.join('\n'));
    return await update('box');
  };
  const script = 'echo changed >>/etc/settings.conf';
  const once = `[ -n "$2" ] || ${script}`;
  await offer(settings('1', once));
  const [bootstrap] = installing(await box('settings'));
  expect(bootstrap).toBe('bootstrap cached');

  const library = repackedDeb(site, 'demo', 'libssl3t64', '+newer2');
  await offer(settings('1', once), library);
  // One more package is no other version: all are installed upon the bootstrap that is there, though that is older.
  expect(installing(await box('settings', 'less'))).toEqual(['bootstrap cached', 'packages start']);
  const more = await newest('box');
  expect(installing(await update('box', '--full'))).toEqual(['bootstrap start', 'packages start']);
  expect(await differences(more, await newest('box'))).toEqual([]);

  await offer(settings('2', once), library);
  expect(installing(await update('box'))).toEqual(['bootstrap cached', 'packages start']);
  // Its script says that it takes upgrades no more than it did before: that is found out by trying.
  const never = '[ -z "$2" ]';
  await offer(settings('3', never), library);
  expect(installing(await update('box'))).toEqual(['bootstrap cached', 'packages start']);
  await offer(settings('4', never), library);
  const tried = await update('box');
  const upgrading = ['bootstrap cached', 'packages cached', 'upgrade start'];
  expect(installing(tried)).toEqual([...upgrading, 'bootstrap cached', 'packages start']);
  // Where another test has the mirror, which all of them share, it is waited for with a warning, too.
  const warnings = tried.lines.filter(({ event }) => event === 'warning');
  expect(warnings).toContainEqual(
    expect.objectContaining({
      message: expect.stringContaining('cannot be installed upon the system of before'),
      hint: expect.stringContaining('upgrade-'),
    }),
  );
  const { packages } = await newest('box');
  expect(packages.find(({ name }) => name === 'settings')?.version).toBe('4');
});
