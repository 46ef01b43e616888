import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { formatManifest } from '../../../src/image/manifest.ts';
import { storePaths } from '../../../src/image/store.ts';
import type { Target } from '../../../src/live/target.ts';
import { copyBootFiles, requireLayers } from '../../../src/live/verified.ts';
import { temporaryDirectory } from '../../support.ts';
import { exampleManifest } from '../image/example.ts';

/** A file of zeros. */
function make(path: string, size: number): void {
  writeFileSync(path, '');
  truncateSync(path, size);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** An image in a store of its own: layers of zeros, a kernel and an initrd. */
function stored(): Target {
  const store = temporaryDirectory();
  const directory = join(store, 'image');
  for (const each of [directory, storePaths.layers(store)]) mkdirSync(each, { recursive: true });
  for (const layer of exampleManifest.layers) {
    make(storePaths.layer(store, layer), layer.size);
    make(storePaths.verity(store, layer), layer.verity.size);
  }
  writeFileSync(join(directory, 'vmlinuz'), 'a kernel');
  writeFileSync(join(directory, 'initrd.img'), 'an initrd');
  const manifest = {
    ...exampleManifest,
    kernel: { ...exampleManifest.kernel, digest: digest('a kernel') },
    initrd: { ...exampleManifest.initrd, digest: digest('an initrd') },
  };
  const { image: name, version } = manifest;
  const image = { name, profile: manifest.profile.name, version, directory };
  return { store, image, manifest, manifestText: formatManifest(manifest) };
}

test('what is started is what was checked: the copies of kernel and initrd', async () => {
  const verified = stored();
  const directory = join(temporaryDirectory(), 'kexec');
  const { kernel, initrd } = await copyBootFiles(verified, directory);
  expect([kernel, initrd]).toEqual([join(directory, 'vmlinuz'), join(directory, 'initrd.img')]);
  expect(readFileSync(kernel, 'utf8')).toBe('a kernel');
  expect(readFileSync(initrd, 'utf8')).toBe('an initrd');
});

test.each(['vmlinuz', 'initrd.img'])('%s that is not the one of the manifest is refused', async (name) => {
  const verified = stored();
  const file = join(verified.image.directory, name);
  writeFileSync(file, readFileSync(file, 'utf8').toUpperCase());
  await expect(copyBootFiles(verified, join(temporaryDirectory(), 'kexec'))).rejects.toMatchObject({
    code: 'corrupt',
    message: `${file}: not what the manifest of ${verified.image.name} says`,
  });
});

test.each([
  ['layer', storePaths.layer],
  ['verity', storePaths.verity],
] as const)('an image that lacks a %s, or has another one, is not started', async (_, pathOf) => {
  const verified = stored();
  await expect(requireLayers(verified)).resolves.toBeUndefined();
  const [layer] = verified.manifest.layers;
  if (layer === undefined) throw new Error('no layer');
  truncateSync(pathOf(verified.store, layer), 1);
  await expect(requireLayers(verified)).rejects.toMatchObject({
    code: 'corrupt',
    message: `${pathOf(verified.store, layer)}: not what the manifest of ${verified.image.name} says`,
  });
});
