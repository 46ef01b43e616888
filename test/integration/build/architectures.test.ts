import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { hostArchive } from '../../fixtures/host-archive.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;

/** A repository of its own, so that the mirror which others share has what they know. */
const repository = `  bookworm:
    url: [${JSON.stringify(hostArchive())}]
    suites: [bookworm]
    components: [main]
    architectures: [i386, arm64]
    signedBy: /usr/share/keyrings/debian-archive-keyring.gpg
`;

beforeAll(async () => {
  site = await freshSite();
  const file = join(site.directory, 'relive.yaml');
  writeFileSync(file, `${readFileSync(file, 'utf8').trimEnd()}\n${repository}`);
  mkdirSync(join(site.directory, 'scripts'));
  writeFileSync(
    join(site.directory, 'scripts/look'),
    '#!/bin/sh\n{ dpkg --print-architecture; . /etc/os-release; echo "$VERSION_CODENAME"; } > /srv/seen\n',
  );
  chmodSync(join(site.directory, 'scripts/look'), 0o755);
});
afterAll(() => removeSite(site));

function profile(name: string, architecture: string): void {
  writeFileSync(
    join(site.directory, `profiles/${name}.yaml`),
    `version: 1\nsuite: bookworm\narchitecture: ${architecture}\nhost: container\nrepositories: [bookworm]\nscripts:\n  - {name: look, after: packages}\n`,
  );
}

test('another suite and another architecture: bookworm for i386', async () => {
  profile('old', 'i386');
  await succeed(['build', 'old'], { site: site.directory });
  const { last } = await succeed(['image', 'show', 'old'], { site: site.directory });
  const { manifest } = last as unknown as { manifest: { layers: { digest: string }[] } };
  expect(manifest).toMatchObject({ suite: 'bookworm', architecture: 'i386', host: 'container' });
  const layer = join(site.store, 'live', `${manifest.layers[0]?.digest.slice(0, 16) ?? ''}.squashfs`);
  const cat = (path: string): Buffer =>
    execFileSync('unsquashfs', ['-cat', layer, path], { stdio: 'pipe', maxBuffer: 2 ** 26 });
  expect(cat('srv/seen').toString()).toBe('i386\nbookworm\n');
  // ELF of 32 bits.
  expect(cat('usr/bin/true').subarray(0, 5).toString('latin1')).toBe('\x7fELF\x01');
  const file = join(site.directory, 'old.oci');
  await succeed(['image', 'export', 'old', '--oci', file], { site: site.directory });
  const inspected = execFileSync('skopeo', ['inspect', '--config', `oci-archive:${file}`], {
    encoding: 'utf8',
  });
  expect(JSON.parse(inspected)).toMatchObject({ architecture: '386', os: 'linux' });
});

test('a build for arm64 begins where doctor says that its programs run, else it says what makes them run', async () => {
  profile('arm', 'arm64');
  const doctor = await runCommand(['doctor'], { site: site.directory });
  const checks = (doctor.last as unknown as { checks: { name: string; state: string; hint?: string }[] })
    .checks;
  const check = checks.find(({ name }) => name === 'programs for arm64');
  const { status, last } = await runCommand(['build', 'arm', '--locked'], { site: site.directory });
  const runs = check?.state === 'good';
  // Where they run it goes on to the lock, which is missing.
  expect({ status, code: last?.['code'] }).toEqual(
    runs ? { status: 2, code: 'configuration' } : { status: 3, code: 'host-unable' },
  );
  expect(runs || last?.['hint'] === check?.hint).toBe(true);
  expect(check?.hint ?? 'update-binfmts --enable qemu-aarch64').toContain(
    'update-binfmts --enable qemu-aarch64',
  );
});
