import { createHash } from 'node:crypto';
import { chmod, lutimes, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from '../../src/host/process.ts';
import { controlFile, type PackageJson } from './control.ts';
import type { PackagedFile } from './tree.ts';

/** KiB as dpkg counts them: each file rounded up, one for each directory (deb-substvars(5), Installed-Size). */
function installedKib(files: readonly PackagedFile[]): number {
  const directories = new Set<string>();
  for (const { path } of files) {
    for (let at = dirname(path); at !== '.'; at = dirname(at)) directories.add(at);
  }
  return files.reduce((sum, { content }) => sum + Math.ceil(content.length / 1024), directories.size);
}

function md5sums(files: readonly PackagedFile[]): string {
  return files
    .map(({ path, content }) => `${createHash('md5').update(content).digest('hex')}  ${path}\n`)
    .join('');
}

async function setTimes(directory: string, epoch: number): Promise<void> {
  for (const name of await readdir(directory, { recursive: true }))
    await lutimes(join(directory, name), epoch, epoch);
  await lutimes(directory, epoch, epoch);
}

/**
 * Makes the binary package (deb(5)) by dpkg-deb: the same files and time give the same bytes.
 * @param output the .deb, which appears complete or not at all
 */
export async function writeDeb(
  files: readonly PackagedFile[],
  json: PackageJson,
  epoch: number,
  output: string,
): Promise<void> {
  const staging = `${output}.tmp`;
  await rm(staging, { recursive: true, force: true });
  const tree = join(staging, 'tree');
  // The caller's umask would be in the modes of the directories.
  process.umask(0o022);
  try {
    const control = [
      { path: 'DEBIAN/control', content: Buffer.from(controlFile(json, installedKib(files))), mode: 0o644 },
      { path: 'DEBIAN/md5sums', content: Buffer.from(md5sums(files)), mode: 0o644 },
    ];
    for (const { path, content, mode } of [...control, ...files]) {
      const target = join(tree, path);
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, content);
      await chmod(target, mode);
    }
    await setTimes(tree, epoch);
    const made = join(staging, 'relive.deb');
    // One thread: xz makes other bytes with several.
    await run('dpkg-deb', ['--root-owner-group', '--threads-max=1', '-Zxz', '--build', tree, made], {
      signal: new AbortController().signal,
      env: { SOURCE_DATE_EPOCH: String(epoch) },
    });
    await rename(made, output);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}
