import { ReliveError } from '../core/error.ts';

/** ASN.1's distinguished encoding (ITU-T X.690), as far as signatures need it. */

/** One element: its tag, its content, and all its bytes. */
interface Element {
  readonly tag: number;
  readonly content: Buffer;
  readonly bytes: Buffer;
}

function corrupt(): ReliveError {
  return new ReliveError('corrupt', 'a certificate is cut off or no DER');
}

/** The element at the begin of `bytes`. @throws ReliveError `corrupt` */
function readElement(bytes: Buffer): Element {
  const [tag, first] = bytes;
  if (tag === undefined || first === undefined) throw corrupt();
  let length = first;
  let start = 2;
  if (first >= 0x80) {
    const wide = first - 0x80;
    if (wide < 1 || wide > 4 || bytes.length < 2 + wide) throw corrupt();
    length = bytes.readUIntBE(2, wide);
    start += wide;
  }
  if (bytes.length < start + length) throw corrupt();
  return { tag, content: bytes.subarray(start, start + length), bytes: bytes.subarray(0, start + length) };
}

/** The elements that `bytes` consists of. @throws ReliveError `corrupt` */
export function readElements(bytes: Buffer): Element[] {
  const elements: Element[] = [];
  let rest = bytes;
  while (rest.length > 0) {
    const read = readElement(rest);
    elements.push(read);
    rest = rest.subarray(read.bytes.length);
  }
  return elements;
}

/** An element of `parts`, one after the other. */
export function element(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(length);
  const needed = size.subarray(size.findIndex((octet) => octet !== 0));
  return Buffer.concat([Buffer.from([tag, 0x80 + needed.length]), needed, content]);
}

export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return element(0x30, ...parts);
}

/** A set, whose parts are to be in the order of their bytes. */
export function set(...parts: readonly Uint8Array[]): Buffer {
  return element(0x31, ...parts);
}

/** `[number]` around or, with its tag taken off, instead of an element; constructed. */
export function tagged(number: number, ...parts: readonly Uint8Array[]): Buffer {
  return element(0xa0 + number, ...parts);
}

export function octets(content: Uint8Array): Buffer {
  return element(0x04, content);
}

export function smallInteger(value: number): Buffer {
  return element(0x02, Buffer.from([value]));
}

export const derNull: Buffer = element(0x05);

/** An object identifier, `1.2.840.113549.1.7.2`. */
export function identifier(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const groups = [first * 40 + second, ...rest].map((number) => {
    const group = [number % 128];
    for (let left = Math.floor(number / 128); left > 0; left = Math.floor(left / 128))
      group.unshift(0x80 + (left % 128));
    return Buffer.from(group);
  });
  return element(0x06, ...groups);
}
