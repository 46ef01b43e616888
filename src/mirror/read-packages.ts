import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { type PackageEntry, packagesReader } from '../debian/packages.ts';
import { readIndexFile } from './read-index.ts';
import type { Repository } from './repository.ts';
import { splitCompression } from './select.ts';
import { publishedSuite } from './state.ts';

/**
 * Reads the Packages index of a published suite, package by package.
 * @param index component and architecture
 * @param onPackage called with each package; what it got before an error must not be used
 * @param more names of further fields to hand over
 * @throws ReliveError `not-found` (suite or index not mirrored), `corrupt`, `unsafe-path`, `tool-missing`
 */
export async function readPackages(
  mirrorDirectory: string,
  repository: Pick<Repository, 'name'>,
  suite: string,
  index: { readonly component: string; readonly architecture: string },
  onPackage: (entry: PackageEntry) => void,
  context: Context,
  more: readonly string[] = [],
): Promise<void> {
  const { directory, state } = await publishedSuite(mirrorDirectory, repository, suite);
  const plain = `${index.component}/binary-${index.architecture}/Packages`;
  const file = state.files.find(({ path }) => splitCompression(path).plain === plain);
  if (file === undefined) {
    throw new ReliveError('not-found', `the mirrored suite ${suite} of ${repository.name} has no ${plain}`, {
      hint: 'add the component and the architecture to the repository in relive.yaml',
    });
  }
  const path = join(directory, file.path);
  const { ending } = splitCompression(file.path);
  const expected = ending === '' ? file : file.uncompressed;
  await readIndexFile({ path, ending, expected }, packagesReader(path, onPackage, more), context);
}
