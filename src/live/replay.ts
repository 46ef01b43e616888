import { createHash } from 'node:crypto';
import {
  chmodSync,
  lchownSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  utimesSync,
} from 'node:fs';
import { lstat, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { freemem } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { megabytes } from '../core/megabytes.ts';
import { explainDiskFull, freeBytes, makeDirectories } from '../host/files.ts';
import { run } from '../host/process.ts';
import { directoryType } from '../rootfs/delta.ts';
import { callWithPaths } from '../rootfs/path-arguments.ts';
import { bytesOfPath, entryStatus } from '../rootfs/tree.ts';
import type { Change } from './changes.ts';

/** Where new entries are collected before each takes its place by one rename: on the file system of the root. */
const stagingName = '.relive-apply';
/** Memory that must be left for programs. */
const reserve = 32 * 1024 * 1024;
const page = 4096;

/** What the reports call the replacing of entries. */
export const writeStage = 'write';

export function stagingOf(root: string): string {
  return join(root, stagingName);
}

/**
 * Copies entries that are no directories, with mode, owner, times, extended attributes and the links between them, to the
 * same paths below `target`.
 */
export async function copyEntries(
  root: string,
  paths: readonly string[],
  target: string,
  context: Context,
): Promise<void> {
  if (paths.length === 0) return;
  await makeDirectories(target, 0o700);
  const how = ['--archive', '--no-dereference', '--parents', '--target-directory', target];
  // Names of one file are one in the copy when one call copies them.
  const { program, args, ...input } = callWithPaths(
    'cp',
    how,
    paths.map((path) => Buffer.from(`./${path}`, 'latin1')),
  );
  await run(program, args, { ...context, ...input, cwd: root });
}

/** The bytes that the content of these changes takes in RAM. */
export function bytesOfChanges(changes: readonly Change[], side: 'before' | 'after'): number {
  let bytes = 0;
  for (const change of changes) {
    const entry = change[side];
    const another = side === 'before' ? change.wasName : change.isName;
    if (entry !== null && another === undefined) bytes += Math.ceil(entry.size / page) * page;
  }
  return bytes;
}

/**
 * Refuses what would fill the memory.
 * @param upper the directory in RAM that takes what is written
 * @throws ReliveError `disk-full`
 */
export async function requireMemory(bytes: number, upper: string): Promise<void> {
  const free = Math.min(await freeBytes(upper), freemem()) - reserve;
  if (bytes <= free) return;
  throw new ReliveError(
    'disk-full',
    `applying takes ${megabytes(bytes)} of memory, and ${megabytes(free)} are to spare`,
    {
      hint: 'a restart into the new image needs none of it; or remove large files that were written since the boot: relive live status names them',
    },
  );
}

/** Where the new content of a change is taken from. */
export type Source = (
  change: Change,
) => { readonly root: string; readonly path: string } | { readonly text: string };

/** A later name of a file becomes a name of that, of the one that is staged or of the one that stays as it is. */
async function linkStaged(root: string, { path, isName, after }: Change): Promise<void> {
  if (after === null || isName === undefined) return;
  const staging = stagingOf(root);
  const there = entryStatus(staging, isName) === undefined ? root : staging;
  const other = bytesOfPath(there, isName);
  if (entryStatus(there, isName)?.isFile() !== true) return;
  // Somebody may have changed it by hand.
  const digest = createHash('sha256')
    .update(await readFile(other))
    .digest('hex');
  if (digest !== after.content[0]) return;
  rmSync(bytesOfPath(staging, path), { force: true });
  linkSync(other, bytesOfPath(staging, path));
}

/**
 * Collects the new entries in the staging directory of the root, which is emptied before.
 * @throws ReliveError `disk-full`
 */
export async function stageChanges(
  root: string,
  changes: readonly Change[],
  source: Source,
  context: Context,
): Promise<void> {
  const staging = stagingOf(root);
  await rm(staging, { recursive: true, force: true });
  try {
    await mkdir(staging, { mode: 0o700 });
    const copies = new Map<string, string[]>();
    for (const change of changes) {
      if (change.after === null || change.after.type === directoryType) continue;
      const from = source(change);
      if ('root' in from) copies.set(from.root, [...(copies.get(from.root) ?? []), from.path]);
      else {
        const file = join(staging, change.path);
        await makeDirectories(dirname(file));
        const now = await lstat(join(root, change.path));
        await writeFile(file, from.text, { mode: 0o600 });
        lchownSync(file, now.uid, now.gid);
        chmodSync(file, now.mode & 0o7777);
      }
    }
    for (const [from, paths] of copies) await copyEntries(from, [...new Set(paths)], staging, context);
    for (const change of changes) await linkStaged(root, change);
  } catch (error) {
    throw explainDiskFull(error, staging);
  }
}

/** Makes a directory, or the one that is there, what it is to be. */
async function writeDirectory(root: string, change: Change, context: Context): Promise<void> {
  const { path, after } = change;
  if (after === null) return;
  const place = bytesOfPath(root, path);
  const there = entryStatus(root, path);
  if (there !== undefined && !there.isDirectory()) unlinkSync(place);
  if (there?.isDirectory() !== true) mkdirSync(place);
  lchownSync(place, after.uid, after.gid);
  chmodSync(place, after.mode);
  utimesSync(place, after.time, after.time);
  if (after.attributes === (change.before?.type === directoryType ? change.before.attributes : '')) return;
  const name = path;
  for (const line of change.before?.attributes.split('\n') ?? []) {
    const attribute = line.split('=', 1)[0] ?? '';
    if (attribute !== '' && !after.attributes.includes(`${attribute}=`)) {
      await run('setfattr', ['--remove', attribute, '--', name], { ...context, cwd: root, accept: [0, 1] });
    }
  }
  for (const line of after.attributes.split('\n')) {
    const [attribute = '', value = ''] = line.split('=', 2);
    if (attribute === '') continue;
    await run('setfattr', ['--name', attribute, '--value', value, '--', name], { ...context, cwd: root });
  }
}

/** Puts a staged entry into its place, by one rename. What is not staged any more is there already. */
function writeEntry(root: string, { path, source }: Change): void {
  const staged = bytesOfPath(stagingOf(root), source ?? path);
  if (entryStatus(stagingOf(root), source ?? path) === undefined) return;
  const place = bytesOfPath(root, path);
  if (entryStatus(root, path)?.isDirectory() === true) rmdirSync(place);
  renameSync(staged, place);
}

/** Removes an entry. A directory with something of the user's in it stays. */
function removeEntry(root: string, path: string): void {
  const there = entryStatus(root, path);
  if (there === undefined) return;
  const place = bytesOfPath(root, path);
  if (!there.isDirectory()) {
    unlinkSync(place);
    return;
  }
  try {
    rmdirSync(place);
  } catch (error) {
    if (systemCode(error) !== 'ENOTEMPTY') throw error;
  }
}

/**
 * Makes changes whose new entries are staged, in their order; those that are made already, before a kill, are left as they
 * are. Then the staging directory goes.
 */
export async function writeChanges(
  root: string,
  changes: readonly Change[],
  context: Context,
): Promise<void> {
  for (const [index, change] of changes.entries()) {
    if (index % 64 === 0) {
      await setImmediate();
      context.signal.throwIfAborted();
    }
    if (change.after === null) removeEntry(root, change.path);
    else if (change.after.type === directoryType) await writeDirectory(root, change, context);
    else writeEntry(root, change);
    const item = Buffer.from(change.path, 'latin1').toString('utf8');
    context.emit({
      ...{ event: 'progress', stage: writeStage, done: index + 1, total: changes.length },
      ...{ unit: 'files', item },
    });
  }
  await rm(stagingOf(root), { recursive: true, force: true });
}
