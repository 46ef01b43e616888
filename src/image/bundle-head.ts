import { createReadStream } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { exists } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import type { TarReader } from '../host/tar.ts';
import {
  type BundleContents,
  type BundleIndex,
  headFiles,
  largest,
  readIndex,
  requireSound,
} from './bundle.ts';
import { type Manifest, parseManifest } from './manifest.ts';

/** A bundle that is to be read once, from front to end. */
export interface BundleSource {
  readonly stream: AsyncIterable<Buffer>;
  /** What errors call it. */
  readonly name: string;
}

export interface ImportOptions {
  /** The public keys that are trusted: armoured text or the path of a keyring. */
  readonly keyring: string;
  /** The site's own, where others are trusted; an image that they do not prove is warned of. */
  readonly own?: string | undefined;
}

/**
 * Opens a bundle for reading; `-` is standard input.
 * @throws ReliveError `not-found`, `usage` for a directory
 */
export async function openBundle(
  path: string,
  { signal }: Context,
): Promise<BundleSource & { close: () => void }> {
  const source = (stream: Readable, name: string) => ({
    // Nobody else wakes up who waits for a pipe.
    stream: addAbortSignal(signal, stream) as AsyncIterable<Buffer>,
    ...{ name, close: () => void stream.destroy() },
  });
  if (path === '-') return source(process.stdin, 'standard input');
  const file = resolve(path);
  if (!(await exists(file))) throw new ReliveError('not-found', `there is no file ${file}`);
  if ((await stat(file)).isDirectory()) {
    throw new ReliveError('usage', `${file} is a directory, not a bundle`, {
      hint: 'relive image export IMAGE --bundle FILE writes one',
    });
  }
  return source(createReadStream(file, { highWaterMark: 1024 * 1024 }), file);
}

/** The head of a bundle: proven to be by a trusted key, and to hold together. */
export interface Head {
  readonly manifest: Manifest;
  /** The bytes that were signed, and the signature. */
  readonly text: Buffer;
  readonly signature: Buffer;
  readonly index: BundleIndex & BundleContents;
}

export async function readHead(
  reader: TarReader,
  what: string,
  { keyring, own }: ImportOptions,
  context: Context,
): Promise<Head> {
  const text = await reader.whole(headFiles.manifest, largest.manifest);
  const signature = await reader.whole(headFiles.signature, largest.signature);
  await withScratchDirectory(tmpdir(), async (scratch) => {
    const [file, beside] = [join(scratch, headFiles.manifest), join(scratch, headFiles.signature)];
    await writeFile(file, text);
    await writeFile(beside, signature);
    await verifyDetached(file, beside, keyring, context, { as: `the manifest in ${what}` });
    if (own === undefined) return;
    try {
      await verifyDetached(file, beside, own, context);
    } catch (error) {
      if (!isReliveError(error, 'not-authentic')) throw error;
      const message = `the image in ${what} is signed by a key that is not among the site's: relive image verify and media refuse it`;
      context.emit({ event: 'warning', message, hint: 'add the key to keys/public.asc' });
    }
  });
  const manifest = parseManifest(text.toString('utf8'), `the manifest in ${what}`);
  requireSound(manifest, what);
  const index = await reader.whole(headFiles.index, largest.index);
  return {
    ...{ manifest, text, signature },
    index: readIndex(index.toString('utf8'), manifest, { text: text.toString('utf8'), signature }, what),
  };
}
