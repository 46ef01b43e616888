const block = 512;

/** A field of a header: `value` in octal with the width of the field, ended by NUL. */
function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, '0')}\0`;
}

function header(path: string, size: number): Uint8Array {
  const fields = [
    path.padEnd(100, '\0'),
    octal(0o644, 8),
    octal(0, 8),
    octal(0, 8),
    octal(size, 12),
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

/**
 * A tar archive (POSIX.1-1988, ustar) of small files, which GRUB reads as a memory disk: owned by root, dated 1970,
 * in the given order, so that equal files give equal bytes.
 * @param files paths of at most 99 ASCII characters
 */
export function tarOf(files: readonly { readonly path: string; readonly content: string }[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { path, content } of files) {
    if (!/^[\u0021-\u007e]{1,99}$/.test(path)) throw new TypeError(`not a path for this archive: ${path}`);
    const bytes = Buffer.from(content);
    parts.push(header(path, bytes.length), bytes, Buffer.alloc((block - (bytes.length % block)) % block));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * block)]);
}
