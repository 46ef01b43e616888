import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { messageOf, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { strongestDigest } from '../debian/release.ts';
import { start } from '../host/process.ts';

/** An index whose uncompressed size nobody tells may grow by this factor: real ones grow by 10. */
const mostInflated = 1000;

/** The programs that decompress; gzip is done here. */
const decompressors: Readonly<Record<string, readonly string[]>> = {
  '.xz': ['xz', '--decompress', '--stdout', '--format=xz'],
  '.lzma': ['xz', '--decompress', '--stdout', '--format=lzma'],
  '.zst': ['zstd', '--decompress', '--stdout', '--quiet'],
  '.bz2': ['bzip2', '--decompress', '--stdout'],
};

/** The bytes of a file, decompressed as `ending` (`.xz`, ..., or empty) says. @throws ReliveError `corrupt`, `tool-missing` */
export async function* decompressed(
  path: string,
  ending: string,
  context: Pick<Context, 'signal'>,
): AsyncGenerator<Buffer> {
  const [program, ...args] = decompressors[ending] ?? [];
  const corrupt = (reason: string): ReliveError =>
    new ReliveError('corrupt', `${path} cannot be decompressed: ${reason}`);
  if (program === undefined) {
    const file = createReadStream(path, { highWaterMark: 1024 * 1024 });
    try {
      const bytes = ending === '.gz' ? file.pipe(createGunzip({ chunkSize: 256 * 1024 })) : file;
      file.once('error', (error) => bytes.destroy(error));
      yield* bytes as AsyncIterable<Buffer>;
    } catch (error) {
      throw corrupt(messageOf(error));
    } finally {
      file.destroy();
    }
    return;
  }
  const ended = new AbortController();
  const child = start(program, [...args, '--', path], {
    signal: AbortSignal.any([context.signal, ended.signal]),
  });
  const closed = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve(status ?? -1));
  });
  closed.catch(() => undefined);
  const errors: string[] = [];
  child.stderr?.on('data', (data: Buffer) => errors.push(data.toString('utf8')));
  let finished = false;
  try {
    const output: AsyncIterable<unknown> = child.stdout ?? Readable.from([]);
    for await (const chunk of output) {
      if (Buffer.isBuffer(chunk)) yield chunk;
    }
    const status = await closed;
    finished = true;
    context.signal.throwIfAborted();
    if (status !== 0) throw corrupt(errors.join('').trim());
  } finally {
    // A reader that stops early, at a bomb say, ends the program.
    if (!finished) ended.abort(new ReliveError('interrupted', `${path} is not read any further`));
  }
}

/** What an index is when it is decompressed, as its Release lists it. */
export interface IndexContent {
  readonly size: number;
  readonly sha256?: string | undefined;
  readonly sha512?: string | undefined;
}

/** What is fed piece by piece and then ended: a reader of an index. */
export interface IndexReader {
  readonly push: (chunk: Buffer) => void;
  readonly end: () => void;
}

/**
 * Reads an index file through a reader, without ever holding it as a whole. Size and digest of what comes out of the
 * decompression are checked where they are known, so a compressed bomb ends early.
 * @param index where it is, the ending of its compression, and what it is when it is decompressed
 * @param afterPiece awaited after each piece
 * @throws ReliveError `corrupt`, `tool-missing`; what the reader throws. What the reader got before must not be used then.
 */
export async function readIndexFile(
  index: {
    readonly path: string;
    readonly ending: string;
    readonly expected: IndexContent | undefined;
  },
  reader: IndexReader,
  context: Pick<Context, 'signal'>,
  afterPiece?: () => Promise<void>,
): Promise<void> {
  const { path, ending, expected } = index;
  const digest = expected && strongestDigest({ path, sha256: expected.sha256, sha512: expected.sha512 });
  const hash = createHash(digest?.algorithm ?? 'sha256');
  const differs = new ReliveError('corrupt', `${path} does not decompress to what its Release lists`, {
    hint: 'upstream published an index that contradicts itself: tell those who run the repository',
  });
  const largest = expected?.size ?? (statSync(path).size + 65_536) * mostInflated;
  let size = 0;
  for await (const chunk of decompressed(path, ending, context)) {
    size += chunk.length;
    if (size > largest) throw differs;
    if (digest !== undefined) hash.update(chunk);
    reader.push(chunk);
    await afterPiece?.();
  }
  reader.end();
  if (expected === undefined || digest === undefined) return;
  if (size !== expected.size || hash.digest('hex') !== digest.value) throw differs;
}
