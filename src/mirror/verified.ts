import type { BigIntStats } from 'node:fs';
import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../core/error.ts';
import { writeFileAtomic } from '../host/files.ts';
import type { Layout } from './repository.ts';

/** What a file looked like when its content was found to have a digest. */
export interface Verified {
  readonly sha256: string;
  readonly size: number;
  readonly inode: bigint;
  readonly modified: bigint;
  /** Unix seconds. */
  readonly when: number;
}

/** Rewritten when it holds this many times more lines than files. */
const growth = 4;

function recordPath(layout: Layout): string {
  return join(layout.state, 'verified');
}

function line(path: string, { sha256, size, inode, modified, when }: Verified): string {
  return `${sha256} ${size} ${inode} ${modified} ${when} ${path}\n`;
}

/**
 * The record of which files of a repository's pool were verified when, one a line: SHA-256, size, inode, time of
 * modification (nanoseconds), time of verification, path. It only ever saves reading: a line that is lost or cut off means that
 * the file is read once more.
 */
export async function readVerified(layout: Layout): Promise<Map<string, Verified>> {
  let content: string;
  try {
    content = await readFile(recordPath(layout), 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return new Map();
    throw error;
  }
  const record = new Map<string, Verified>();
  let lines = 0;
  for (const text of content.split('\n')) {
    const match = /^([0-9a-f]{64}) (\d+) (\d+) (\d+) (\d+) (.+)$/.exec(text);
    if (match === null) continue;
    lines += 1;
    const [, sha256 = '', size = '', inode = '', modified = '', when = '', path = ''] = match;
    record.set(path, {
      sha256,
      size: Number(size),
      inode: BigInt(inode),
      modified: BigInt(modified),
      when: Number(when),
    });
  }
  if (lines > 1000 && lines > growth * record.size) {
    await writeFileAtomic(
      recordPath(layout),
      [...record].map(([path, verified]) => line(path, verified)).join(''),
    );
  }
  return record;
}

/** Adds to the record. What is added must be on the disk: a line that outlives its file's content would be a lie. */
export async function addVerified(layout: Layout, added: ReadonlyMap<string, Verified>): Promise<void> {
  if (added.size === 0) return;
  // The newline first ends a line that an interrupted run left half written.
  const lines = [...added].map(([path, verified]) => line(path, verified));
  await appendFile(recordPath(layout), `\n${lines.join('')}`);
}

/** What is recorded of a file that was just found to be right. */
export function verifiedNow(info: BigIntStats, sha256: string): Verified {
  return {
    sha256,
    size: Number(info.size),
    inode: info.ino,
    modified: info.mtimeNs,
    when: Math.floor(Date.now() / 1000),
  };
}

/** Whether a file is still the one that was verified with this digest. */
export function isStill(verified: Verified | undefined, info: BigIntStats, sha256: string): boolean {
  return (
    verified !== undefined &&
    verified.sha256 === sha256 &&
    BigInt(verified.size) === info.size &&
    verified.inode === info.ino &&
    verified.modified === info.mtimeNs
  );
}
