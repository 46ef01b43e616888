import { copyFile, link, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { digestFile, makeDirectories, sha256 } from '../host/files.ts';
import { run } from '../host/process.ts';
import type { AptSource } from './apt.ts';
import type { ResolvedPackage } from './resolve.ts';

/** So many packages are read at a time. */
const readers = 4;

/** Signs a file: writes the clear-signed text of `file` to `output`. */
export type ClearSign = (file: string, output: string) => Promise<void>;

export interface LocalRepositoryOptions {
  /** Made anew; on the file system of the mirror the packages are linked, else copied. */
  readonly directory: string;
  readonly suite: string;
  readonly architecture: string;
  readonly packages: readonly ResolvedPackage[];
  /** Where a package's file is. */
  readonly fileOf: (each: ResolvedPackage) => string;
  readonly sign: ClearSign;
  /** The public keys that `sign` is checked with. */
  readonly keyring: string;
  readonly sourceDateEpoch: number;
}

/**
 * Makes a repository of exactly the resolved packages, for apt, mmdebstrap and debootstrap to install from: they have
 * no choice left to make, whatever the mirror's indices say meanwhile. Each package is read once more and must have the
 * SHA-256 that its signed index stated; the new index is signed with the site's own key.
 * @returns the source, by `file:`
 * @throws ReliveError `corrupt` for a package that is not what was resolved
 */
export async function makeLocalRepository(
  options: LocalRepositoryOptions,
  context: Context,
): Promise<AptSource> {
  const { directory, suite, architecture, packages, sourceDateEpoch, keyring } = options;
  await rm(directory, { recursive: true, force: true });
  const index = join(directory, 'dists', suite, 'main', `binary-${architecture}`);
  await makeDirectories(index);
  await mkdir(join(directory, 'pool'));
  const stanzas: string[] = [];
  const queue = packages.entries();
  await Promise.all(
    Array.from({ length: readers }, async () => {
      for (const [position, each] of queue) stanzas[position] = await addPackage(each, options, context);
    }),
  );
  // Each with an empty line behind it: debootstrap does not see a last stanza without.
  const text = stanzas.map((stanza) => `${stanza}\n`).join('');
  // debootstrap reads compressed indices only.
  const compressed = gzipSync(text);
  await writeFile(join(index, 'Packages'), text);
  await writeFile(join(index, 'Packages.gz'), compressed);
  const release = [
    'Origin: relive',
    'Label: relive',
    `Suite: ${suite}`,
    `Codename: ${suite}`,
    `Date: ${new Date(sourceDateEpoch * 1000).toUTCString().replace('GMT', 'UTC')}`,
    `Architectures: ${architecture}`,
    'Components: main',
    'SHA256:',
    ` ${sha256(text)} ${Buffer.byteLength(text)} main/binary-${architecture}/Packages`,
    ` ${sha256(compressed)} ${compressed.length} main/binary-${architecture}/Packages.gz`,
    '',
  ].join('\n');
  const plain = join(directory, 'dists', suite, 'Release');
  await writeFile(plain, release);
  await options.sign(plain, join(directory, 'dists', suite, 'InRelease'));
  return { repository: 'relive', uri: fileUri(directory), suite, components: ['main'], keyring };
}

/** Puts one package into the pool and gives its stanza of the index. */
async function addPackage(
  each: ResolvedPackage,
  { directory, fileOf }: LocalRepositoryOptions,
  context: Context,
): Promise<string> {
  const file = fileOf(each);
  const path = `pool/${each.sha256}.deb`;
  await linkOrCopy(file, join(directory, path));
  const { digest, size } = await digestFile(join(directory, path), 'sha256', context.signal);
  if (digest !== each.sha256 || size !== each.size) {
    throw new ReliveError('corrupt', `${file} is not the ${each.name} ${each.version} that was resolved`, {
      hint: 'remove the file: the next build fetches it again',
    });
  }
  const { stdout } = await run('dpkg-deb', ['--field', join(directory, path)], context);
  return `${stdout.trimEnd()}\nFilename: ${path}\nSize: ${size}\nSHA256: ${digest}\n`;
}

async function linkOrCopy(file: string, target: string): Promise<void> {
  try {
    await link(file, target);
  } catch (error) {
    if (systemCode(error) !== 'EXDEV' && systemCode(error) !== 'EMLINK') throw error;
    await copyFile(file, target);
  }
}

/** apt's own spelling, with one slash: it names files so in what it prints. */
export function fileUri(path: string): string {
  return pathToFileURL(path).href.replace('file://', 'file:');
}
