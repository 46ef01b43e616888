import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Spec, Validation } from '@cyclonedx/cyclonedx-library';
import { expect, test } from 'vitest';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { builtSite } from '../../fixtures/site.ts';
import { temporaryDirectory } from '../../support.ts';

interface Bill {
  readonly components: readonly {
    readonly name: string;
    readonly type: string;
    readonly licenses?: unknown;
    readonly hashes?: readonly { readonly content: string }[];
  }[];
}

const issue = (status: string, fixed: string): object => ({
  releases: { trixie: { status, fixed_version: fixed, urgency: 'high' } },
});

test('the bill of materials of an image has all its packages, and is valid', async () => {
  const site = await builtSite();
  const file = join(temporaryDirectory(), 'demo.cdx.json');
  await succeed(['image', 'sbom', 'demo', '--output', file], { site: site.directory });
  const text = readFileSync(file, 'utf8');
  expect(await new Validation.JsonStrictValidator(Spec.Version.v1dot6).validate(text)).toBeNull();
  const packages = (JSON.parse(text) as Bill).components.filter(({ type }) => type === 'library');
  expect(packages.map(({ name, hashes }) => [name, hashes?.[0]?.content])).toEqual(
    site.manifest.packages
      .map(({ name, sha256 }) => [name, sha256])
      .toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1)),
  );
  // Most of Debian's copyright files are machine-readable, and some are not.
  const licensed = packages.filter(({ licenses }) => licenses !== undefined).length;
  expect(licensed).toBeGreaterThan(packages.length / 2);
}, 300_000);

test('known vulnerabilities, by data of the tracker', async () => {
  const site = await builtSite();
  const tracker = join(temporaryDirectory(), 'tracker.json');
  const apt = site.manifest.packages.find(({ name }) => name === 'apt')?.version ?? '';
  writeFileSync(
    tracker,
    JSON.stringify({
      apt: { 'CVE-2026-0001': issue('resolved', `${apt}+u1`), 'CVE-2026-0002': issue('resolved', apt) },
    }),
  );
  const options = { site: site.directory };
  const asked = await runCommand(['image', 'vulnerabilities', 'demo', '--tracker', tracker], options);
  expect(asked).toMatchObject({
    status: 1,
    last: { fixable: 1, vulnerabilities: [{ name: 'CVE-2026-0001' }] },
  });
  const { last } = await succeed(['image', 'sbom', 'demo', '--tracker', tracker], options);
  expect(last).toMatchObject({ document: { vulnerabilities: [{ id: 'CVE-2026-0001' }] } });

  expect(await runCommand(['image', 'vulnerabilities', 'demo'], options)).toMatchObject({ status: 2 });
  const missing = ['image', 'vulnerabilities', 'demo', '--tracker', '/nowhere.json'];
  expect(await runCommand(missing, options)).toMatchObject({ status: 2, last: { code: 'not-found' } });
}, 300_000);
