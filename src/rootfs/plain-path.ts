import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import { makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';

/** An empty directory of the host; what is mounted on it is seen in our mount namespace only. */
const place = '/run/relive-build';

/**
 * A path of `directory` that apt's sources and debootstrap can write: neither knows how to quote a blank. That is the
 * path itself where it has nothing unusual in it; else one by way of a link, not of a bind mount, since files cannot be
 * hard-linked across mounts. Call it inside the private namespaces only.
 */
export async function plainPath(directory: string, context: Context): Promise<string> {
  if (/^[A-Za-z0-9/._+@-]+$/.test(directory)) return directory;
  const known = linked.get(directory) ?? link(directory, context);
  linked.set(directory, known);
  return await known;
}

/** Directories that have their path already: builds beside each other use the same one. */
const linked = new Map<string, Promise<string>>();

async function link(directory: string, context: Context): Promise<string> {
  await makeDirectories(place);
  await run('mount', ['-t', 'tmpfs', '-o', 'mode=700,nosuid,nodev', 'tmpfs', place], context);
  const path = join(place, 'directory');
  await symlink(directory, path);
  return path;
}
