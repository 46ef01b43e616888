import { appendFileSync, cpSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { findTarget } from '../../../src/live/target.ts';
import { type BuiltSite, builtSite } from '../../fixtures/site.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';

let site: BuiltSite;
beforeAll(async () => {
  site = await builtSite();
});

/** A store with the files of the image that are signed. */
function copiedStore(): { readonly store: string; readonly file: string } {
  const store = temporaryDirectory();
  const directory = join(store, site.imageDirectory.slice(site.store.length));
  mkdirSync(directory, { recursive: true });
  cpSync(site.imageDirectory, directory, { recursive: true });
  return { store, file: join(directory, 'manifest.json') };
}

test('an image is gone to by the manifest whose signature was checked', async () => {
  const { store, file } = copiedStore();
  const keys = join(site.keys, 'public.asc');
  const find = async () => await findTarget(store, site.image, site.manifest, keys, recordingContext());
  const found = await find();
  expect(found).toMatchObject({ store, image: { name: site.image }, manifest: site.manifest });
  expect(found.manifestText).toBe(readFileSync(file, 'utf8'));

  appendFileSync(file, '\n');
  await expect(find()).rejects.toMatchObject({
    code: 'not-authentic',
    message: expect.stringContaining(file) as string,
  });
  rmSync(`${file}.sig`);
  await expect(find()).rejects.toMatchObject({ code: 'not-authentic' });
  rmSync(file);
  await expect(find()).rejects.toMatchObject({ code: 'not-authentic' });
});
