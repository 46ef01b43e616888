import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { licencesIn } from '../debian/copyright.ts';
import { type InstalledPackage, installedPackages } from '../debian/status.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { directoryNames, makeDirectories, regularText } from '../host/files.ts';
import { run } from '../host/process.ts';
import type { Manifest } from './manifest.ts';
import { storedLayers } from './mount.ts';

/** A package as it is installed in an image, with the licences that its copyright file names. */
export interface ImagePackage extends InstalledPackage {
  readonly licences: readonly string[] | undefined;
}

const status = 'var/lib/dpkg/status';
const documents = 'usr/share/doc';

/**
 * The packages that are installed in an image, by its own dpkg, and their licences, out of its layers in the store; those that
 * came with other packages of their source have the licences of these. No mount, no root.
 * @returns none where the image has no dpkg
 * @throws ReliveError `corrupt`, `tool-failed`
 */
export async function packagesInImage(
  store: string,
  manifest: Pick<Manifest, 'layers' | 'image'>,
  temporary: string,
  context: Context,
): Promise<ImagePackage[]> {
  return await withScratchDirectory(temporary, async (scratch) => {
    const trees: string[] = [];
    for (const [index, { file }] of storedLayers(store, manifest).entries()) {
      const tree = join(scratch, String(index));
      await makeDirectories(tree);
      await run(
        'unsquashfs',
        [
          ...['-no-progress', '-quiet', '-no-xattrs', '-force', '-dest', tree, file],
          status,
          `${documents}/*/copyright`,
        ],
        context,
      );
      trees.unshift(tree);
    }
    let text: string | undefined;
    const licences = new Map<string, string[]>();
    for (const tree of trees) {
      text ??= await regularText(join(tree, status));
      const names = await directoryNames(join(tree, documents));
      for (const name of names) {
        if (licences.has(name)) continue;
        const found = licencesIn((await regularText(join(tree, documents, name, 'copyright'))) ?? '');
        if (found !== undefined) licences.set(name, found);
      }
    }
    const packages = installedPackages(text ?? '', `${manifest.image}: ${status}`);
    const bySource = new Map(
      packages.flatMap(({ name, source }) => {
        const found = licences.get(name);
        return found === undefined ? [] : [[source, found] as const];
      }),
    );
    return packages.map((each) => ({
      ...each,
      licences: licences.get(each.name) ?? bySource.get(each.source),
    }));
  });
}
