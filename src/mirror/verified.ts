import { createHash } from 'node:crypto';
import {
  type BigIntStats,
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { systemCode } from '../core/error.ts';
import { writeFileAtomic } from '../host/files.ts';
import { WordTable } from './word-table.ts';

/** One record: 8 bytes that name path and digest, 8 that name size, inode and times, 4 for the time of the verification. */
const recordBytes = 20;
const words = recordBytes / 4;
/** Rewritten when it holds this many times more records than files. */
const growth = 4;
const header = Buffer.from('relive-verified-1\n');

/** What a file looks like from outside: as long as all of it is the same, so is its content (or somebody lies). */
export interface Appearance {
  /** Bytes. */
  readonly size: bigint;
  readonly inode: bigint;
  /** Nanoseconds. */
  readonly modified: bigint;
  readonly changed: bigint;
}

export function appearanceOf(info: BigIntStats): Appearance {
  return { size: info.size, inode: info.ino, modified: info.mtimeNs, changed: info.ctimeNs };
}

function short(text: string): readonly [number, number] {
  const digest = createHash('sha256').update(text).digest();
  // A word of zero marks a free place of the table.
  return [digest.readUInt32LE(0) || 1, digest.readUInt32LE(4)];
}

function nameWords(path: string, digest: string): readonly [number, number] {
  return short(`${digest} ${path}`);
}

function appearanceWords({ size, inode, modified, changed }: Appearance): readonly [number, number] {
  return short(`${size} ${inode} ${modified} ${changed}`);
}

/**
 * The record of which files were found to have which digest, and when: 20 bytes a file, so that an archive of a
 * million files takes some tens of megabytes. It only ever saves reading: a record that is lost means that the file is read
 * once more.
 */
export class VerifiedRecord {
  readonly #path: string;
  readonly #table: WordTable;
  #fresh: number[] = [];

  constructor(path: string, content: Buffer) {
    this.#path = path;
    const records = Math.floor(content.length / recordBytes);
    this.#table = new WordTable(words, sizeFor(records));
    for (let at = 0; at + recordBytes <= content.length; at += recordBytes) {
      this.#table.set(Array.from({ length: words }, (_, word) => content.readUInt32LE(at + 4 * word)));
    }
  }

  get count(): number {
    return this.#table.count;
  }

  /** Whether a file still looks as it did when it was found to have this digest. */
  isStill(path: string, digest: string, appearance: Appearance): boolean {
    const record = this.#table.get(...nameWords(path, digest));
    if (record === undefined) return false;
    const [first, second] = appearanceWords(appearance);
    return record[2] === first && record[3] === second;
  }

  /** When a file was last found to have this digest, in seconds since 1970; 0 for never. */
  when(path: string, digest: string): number {
    return this.#table.get(...nameWords(path, digest))?.[4] ?? 0;
  }

  /** Remembers a file that was just found to be right. */
  add(path: string, digest: string, appearance: Appearance): void {
    const now = Math.floor(Date.now() / 1000);
    const record = [...nameWords(path, digest), ...appearanceWords(appearance), now];
    this.#table.set(record);
    for (const word of record) this.#fresh.push(word);
    if (this.#fresh.length >= 4096 * words) this.save();
  }

  /** Writes what was added. What is added must be on the disk: a record that outlives its file's content would be a lie. */
  save(): void {
    if (this.#fresh.length === 0) return;
    const bytes = Buffer.alloc(this.#fresh.length * 4);
    for (const [index, word] of this.#fresh.entries()) bytes.writeUInt32LE(word, index * 4);
    this.#fresh = [];
    mkdirSync(dirname(this.#path), { recursive: true });
    const descriptor = openSync(this.#path, 'a', 0o644);
    try {
      const { size } = fstatSync(descriptor);
      if (size === 0) writeSync(descriptor, header);
      // An interrupted run may have left a record half written.
      else ftruncateSync(descriptor, size - ((size - header.length) % recordBytes));
      writeSync(descriptor, bytes);
    } finally {
      closeSync(descriptor);
    }
  }

  /** Writes the record anew without what was replaced. */
  async compact(): Promise<void> {
    const bytes = Buffer.alloc(this.#table.count * recordBytes);
    let to = 0;
    for (const record of this.#table.records()) {
      for (const word of record) to = bytes.writeUInt32LE(word, to);
    }
    await writeFileAtomic(this.#path, Buffer.concat([header, bytes]));
  }
}

function sizeFor(records: number): number {
  let places = 1024;
  while (places < records * 3) places *= 2;
  return places;
}

/** Reads a record; one that is not there, or is none, is empty. */
export async function readVerified(path: string): Promise<VerifiedRecord> {
  let content: Buffer;
  try {
    content = readFileSync(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return new VerifiedRecord(path, Buffer.alloc(0));
  }
  if (!content.subarray(0, header.length).equals(header)) {
    rmSync(path, { force: true });
    return new VerifiedRecord(path, Buffer.alloc(0));
  }
  const record = new VerifiedRecord(path, content.subarray(header.length));
  const records = (content.length - header.length) / recordBytes;
  if (records > 1000 && records > growth * record.count) await record.compact();
  return record;
}
