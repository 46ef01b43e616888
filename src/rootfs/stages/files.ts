import {
  chmod,
  copyFile,
  lchown,
  lstat,
  lutimes,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
} from 'node:fs/promises';
import { join, relative } from 'node:path';
import { ReliveError } from '../../core/error.ts';
import { sha256 } from '../../host/files.ts';
import type { Stage } from '../layers.ts';
import { placeInside, throughLinks } from '../links.ts';

/** One entry of an overlay, as it enters the system: owned by root. */
interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly kind: 'directory' | 'file' | 'link';
  /** The file's SHA-256, or the link's target. */
  readonly content: string;
  readonly source: string;
}

export interface FilesOptions {
  /** Directories whose contents are copied onto the root, in this order. */
  readonly overlays: readonly string[];
  readonly sourceDateEpoch: number;
}

/**
 * Copies the overlays into the system. Owners become root, times the build's; modes are kept, as far as git keeps them.
 * @throws ReliveError `configuration` for what cannot be a file of an overlay
 */
export async function filesStage({ overlays, sourceDateEpoch }: FilesOptions): Promise<Stage> {
  const entries = (await Promise.all(overlays.map(async (overlay) => await readOverlay(overlay)))).flat();
  return {
    name: 'files',
    inputs: {
      entries: entries.map(({ path, mode, kind, content }) => [path, mode, kind, content]),
      sourceDateEpoch,
    },
    work: async ({ root }) => {
      for (const entry of entries) await place(entry, root, sourceDateEpoch);
    },
  };
}

async function readOverlay(overlay: string): Promise<Entry[]> {
  const found: Entry[] = [];
  const walk = async (directory: string): Promise<void> => {
    for (const name of (await readdir(directory)).toSorted()) {
      const source = join(directory, name);
      const path = relative(overlay, source);
      const status = await lstat(source);
      const mode = status.mode & 0o7777;
      if (status.isSymbolicLink()) {
        found.push({ path, mode: 0o777, kind: 'link', content: await readlink(source), source });
      } else if (status.isDirectory()) {
        found.push({ path, mode, kind: 'directory', content: '', source });
        await walk(source);
      } else if (status.isFile()) {
        found.push({ path, mode, kind: 'file', content: sha256(await readFile(source)), source });
      } else {
        throw new ReliveError(
          'configuration',
          `${source}: an overlay holds files, directories and links only`,
          {
            hint: 'device nodes, sockets and pipes are made at boot by systemd-tmpfiles (tmpfiles.d(5))',
          },
        );
      }
    }
  };
  await walk(overlay);
  return found;
}

/** Puts one entry into the system. No link of the system is followed on the way. */
async function place(entry: Entry, root: string, sourceDateEpoch: number): Promise<void> {
  const target = join(root, await throughLinks(root, entry.path));
  const there = await lstat(target).catch(() => undefined);
  if (entry.kind === 'directory') {
    // A directory that the system has keeps its mode and owner, also one behind a link: /lib, where /usr is merged.
    const behind = await lstat(await placeInside(root, entry.path)).catch(() => undefined);
    if (behind?.isDirectory() === true) return;
    if (there !== undefined) await rm(target);
    await mkdir(target);
    await chmod(target, entry.mode);
  } else {
    if (there?.isDirectory() === true) {
      throw new ReliveError(
        'configuration',
        `${entry.source}: the system has a directory there, /${entry.path}`,
        {
          hint: 'give the file another name, or make it a directory in the overlay too',
        },
      );
    }
    if (there !== undefined) await rm(target);
    if (entry.kind === 'link') await symlink(entry.content, target);
    else {
      await copyFile(entry.source, target);
      await chmod(target, entry.mode);
    }
  }
  await lchown(target, 0, 0);
  await lutimes(target, sourceDateEpoch, sourceDateEpoch);
}
