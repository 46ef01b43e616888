import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Manifest } from '../../../src/image/manifest.ts';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;

beforeAll(async () => {
  site = await freshSite({ cache: true, store: true });
});
afterAll(() => removeSite(site));

async function update(...words: readonly string[]): Promise<Manifest> {
  const { last } = await succeed(['update', 'demo', '--offline', '--no-test', ...words], {
    site: site.directory,
  });
  const { last: shown } = await succeed(['image', 'show', String(last?.['image'])], { site: site.directory });
  return (shown as unknown as { manifest: Manifest }).manifest;
}

interface Difference {
  readonly path: string;
  readonly kind: string;
  readonly aspects: readonly string[];
}

/**
 * Three updates, each of another kind (files; a package goes, a script comes; the package comes back, a user comes, files go),
 * then a full build out of the same lock: whoever starts the one or the other must not be able to tell.
 */
test('the third of three incremental images is the full image of the same lock, times apart', async () => {
  const overlay = join(site.directory, 'overlays/demo/opt/third');
  const profile = join(site.directory, 'profiles/demo.yaml');
  const text = readFileSync(profile, 'utf8');
  mkdirSync(join(overlay, 'stays'), { recursive: true });
  for (const name of ['goes', 'changes', 'stays/one']) writeFileSync(join(overlay, name), name);
  await update();

  mkdirSync(join(site.directory, 'scripts'), { recursive: true });
  const script = '#!/bin/sh\nset -e\necho made >/etc/third\nrm -r /usr/share/doc/apt\n';
  writeFileSync(join(site.directory, 'scripts/third'), script, { mode: 0o755 });
  const more = '\nscripts: [{name: third, after: configure}]\n';
  writeFileSync(profile, `${text.replace(/^ {2}- less\n/m, '')}${more}`);
  const second = await update();
  expect(second.packages.map(({ name }) => name)).not.toContain('less');

  writeFileSync(profile, `${text}${more}`.replace(/^(users:\n)/m, '$1  - {name: third, groups: [adm]}\n'));
  rmSync(join(overlay, 'goes'));
  writeFileSync(join(overlay, 'changes'), 'changed');
  const third = await update();
  expect(third.layers.map(({ role }) => role)).toEqual(['base', 'kernel', 'delta', 'delta', 'delta']);

  const full = await update('--full');
  expect(full).toMatchObject({ kind: 'full', lock: third.lock, packages: third.packages, tree: third.tree });
  const { last } = await runCommand(['image', 'diff', third.image, full.image], { site: site.directory });
  const diff = last as unknown as {
    files: readonly Difference[];
    packages: readonly unknown[];
    units: readonly unknown[];
    facts: readonly { name: string }[];
  };
  // Everything that is not a time is a fault, and is shown here.
  const faults = diff.files.filter(({ kind, aspects }) => kind !== 'changed' || aspects.join(',') !== 'time');
  expect(faults).toEqual([]);
  expect([diff.packages, diff.units]).toEqual([[], []]);
  // The images differ in how they are packed, and in nothing that starts or runs.
  const told = diff.facts
    .map(({ name }) => name)
    .filter((name) => !/^(?:.* layer|deltas|size|kind|parent)$/.test(name));
  expect(told).toEqual([]);
  expect([full.kernel, full.initrd, full.boot]).toEqual([third.kernel, third.initrd, third.boot]);
});
