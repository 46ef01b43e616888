import { ReliveError } from '../core/error.ts';

const block = 512;
/** What eleven octal digits hold. */
const largestOctal = 8 ** 11 - 1;

/** A field of a header: `value` in octal with the width of the field, ended by NUL. */
function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\0`;
}

/** A size: octal, or beyond 8 GiB as GNU tar and star write it, in binary with the first bit set. */
function sizeField(size: number): string {
  if (size <= largestOctal) return octal(size, 12);
  const bytes = Buffer.alloc(12);
  bytes.writeUInt8(0x80, 0);
  bytes.writeBigUInt64BE(BigInt(size), 4);
  return bytes.toString('latin1');
}

/**
 * The header of a regular file in a tar archive (POSIX.1-1988, ustar), owned by root, dated 1970.
 * @param path at most 99 ASCII characters
 */
export function tarHeader(path: string, size: number): Buffer {
  if (!/^[\u0021-\u007e]{1,99}$/.test(path)) throw new TypeError(`not a path for this archive: ${path}`);
  const fields = [
    path.padEnd(100, '\0'),
    octal(0o644, 8),
    octal(0, 8),
    octal(0, 8),
    sizeField(size),
    octal(0, 12),
    ' '.repeat(8),
    '0',
    '\0'.repeat(100),
    'ustar\u000000',
  ];
  const bytes = Buffer.alloc(block);
  bytes.write(fields.join(''), 'latin1');
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** What follows the content of a file, up to the next block. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((block - (size % block)) % block);
}

/** The end of an archive. */
export const tarEnd: Buffer = Buffer.alloc(2 * block);

/**
 * A tar archive of small files, which GRUB reads as a memory disk: in the given order, so that equal files give equal bytes.
 * @param files paths of at most 99 ASCII characters
 */
export function tarOf(
  files: readonly { readonly path: string; readonly content: string | Uint8Array }[],
): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { path, content } of files) {
    const bytes = Buffer.from(content);
    parts.push(tarHeader(path, bytes.length), bytes, tarPadding(bytes.length));
  }
  return Buffer.concat([...parts, tarEnd]);
}

/**
 * Reads an archive that `tarHeader` wrote, and no other: whatever is not byte for byte what it must be is refused, so that no
 * entry can be of another type, have another name, or be there twice. Reads once from front to end; never holds more than a
 * piece of the stream and what `whole` is asked for.
 */
export class TarReader {
  readonly #pieces: AsyncIterator<Buffer>;
  readonly #what: string;
  #rest: Buffer = Buffer.alloc(0);

  /** @param what the archive's name in errors */
  constructor(stream: AsyncIterable<Buffer>, what: string) {
    this.#pieces = stream[Symbol.asyncIterator]();
    this.#what = what;
  }

  /** The next bytes, at most `most` of them; none at the end. */
  async #next(most: number): Promise<Buffer> {
    while (this.#rest.length === 0) {
      const next = await this.#pieces.next();
      if (next.done === true) return Buffer.alloc(0);
      this.#rest = next.value;
    }
    const piece = this.#rest.subarray(0, most);
    this.#rest = this.#rest.subarray(piece.length);
    return piece;
  }

  async #exactly(length: number, where: string): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for (let missing = length; missing > 0; ) {
      const piece = await this.#next(missing);
      if (piece.length === 0) throw this.#truncated(where);
      pieces.push(piece);
      missing -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  #truncated(where: string): ReliveError {
    return new ReliveError('corrupt', `${this.#what} is cut off in ${where}`, {
      hint: 'get the rest and start again: layers that were received whole are not written again',
    });
  }

  #refuse(message: string): ReliveError {
    return new ReliveError('corrupt', `${this.#what}: ${message}`, {
      hint: 'it was changed or damaged on its way, or another program wrote it: export it again',
    });
  }

  /** The size of the next file, which must have this path. @throws ReliveError `corrupt` */
  async entry(path: string, largest: number): Promise<number> {
    const header = await this.#exactly(block, `the header of ${path}`);
    const field = header.subarray(124, 136);
    const size =
      field[0] === 0x80 ? Number(field.readBigUInt64BE(4)) : Number.parseInt(field.toString('latin1'), 8);
    // All else that it says is known, so that the whole header is.
    if (!Number.isSafeInteger(size) || size < 0 || !tarHeader(path, size).equals(header)) {
      throw this.#refuse(`the next entry is not ${path}`);
    }
    if (size > largest) throw this.#refuse(`${path} has ${size} bytes, ${largest} at most are allowed`);
    return size;
  }

  /** The content of the file whose header was read, piece by piece; it must be read to its end. */
  async *content(path: string, size: number): AsyncGenerator<Buffer, void> {
    for (let missing = size; missing > 0; ) {
      const piece = await this.#next(missing);
      if (piece.length === 0) throw this.#truncated(path);
      missing -= piece.length;
      yield piece;
    }
    const padding = await this.#exactly(tarPadding(size).length, path);
    if (padding.some((byte) => byte !== 0)) throw this.#refuse(`there is something behind ${path}`);
  }

  /** A small file as a whole. @throws ReliveError `corrupt` */
  async whole(path: string, largest: number): Promise<Buffer> {
    const size = await this.entry(path, largest);
    const pieces: Buffer[] = [];
    for await (const piece of this.content(path, size)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  /** Makes sure that the archive ends here. @throws ReliveError `corrupt` */
  async end(): Promise<void> {
    const end = await this.#exactly(tarEnd.length, 'its end');
    if (!end.equals(tarEnd) || (await this.#next(1)).length > 0) {
      throw this.#refuse('there is something behind its last entry');
    }
  }
}
