import { createHash, type X509Certificate } from 'node:crypto';
import { ReliveError } from '../core/error.ts';
import {
  derNull,
  element,
  identifier,
  octets,
  readElements,
  sequence,
  set,
  smallInteger,
  tagged,
} from './der.ts';

/**
 * Signatures of programs that UEFI firmware starts: "Windows Authenticode Portable Executable Signature Format" over
 * "Microsoft PE and COFF Specification", by which the UEFI specification (32.5) goes.
 *
 * Not sbsign: it puts the time of its run into each signature, so the same kernel signed twice would be two kernels.
 */

/** Who signs. */
export interface Signer {
  /** Gives the signature of data: RSA, PKCS #1 v1.5, SHA-256. */
  readonly sign: (data: Uint8Array) => Promise<Buffer>;
  readonly certificate: X509Certificate;
}

const signedData = '1.2.840.113549.1.7.2';
const contentType = '1.2.840.113549.1.9.3';
const messageDigest = '1.2.840.113549.1.9.4';
const rsaEncryption = '1.2.840.113549.1.1.1';
const sha256Identifier = '2.16.840.1.101.3.4.2.1';
const indirectData = '1.3.6.1.4.1.311.2.1.4';
const peImageData = '1.3.6.1.4.1.311.2.1.15';

/** Where the parts of a PE file are that a signature does not cover, and its sections. */
interface Layout {
  /** The place of the 4 bytes of the checksum. */
  readonly checksum: number;
  /** The place of the 8 bytes which say where the table of certificates is. */
  readonly directory: number;
  readonly headers: number;
  /** The sections' bytes in the file, in its order. */
  readonly sections: readonly { readonly start: number; readonly size: number }[];
  /** The table of certificates; its size is 0 where there is none. */
  readonly table: { readonly start: number; readonly size: number };
}

/** @throws ReliveError `corrupt` for what is no PE file, or has a table elsewhere than at its end */
function layoutOf(file: Buffer, name: string): Layout {
  const corrupt = (why: string): ReliveError =>
    new ReliveError('corrupt', `${name} is no program that UEFI firmware starts: ${why}`);
  try {
    const header = file.readUInt32LE(0x3c);
    if (file.toString('latin1', 0, 2) !== 'MZ' || file.toString('latin1', header, header + 4) !== 'PE\0\0')
      throw corrupt('it has no PE header');
    const sectionCount = file.readUInt16LE(header + 6);
    const optional = header + 24;
    const sectionTable = optional + file.readUInt16LE(header + 20);
    // PE32+ has wider fields before its directories.
    const directories = optional + (file.readUInt16LE(optional) === 0x20b ? 112 : 96);
    if (file.readUInt32LE(directories - 4) < 5) throw corrupt('it has no room for signatures');
    const directory = directories + 4 * 8;
    const sections = Array.from({ length: sectionCount }, (_none, index) => {
      const entry = sectionTable + 40 * index;
      return { start: file.readUInt32LE(entry + 20), size: file.readUInt32LE(entry + 16) };
    })
      .filter(({ size }) => size > 0)
      .toSorted((a, b) => a.start - b.start);
    const table = { start: file.readUInt32LE(directory), size: file.readUInt32LE(directory + 4) };
    const headers = file.readUInt32LE(optional + 60);
    const ends = [headers, ...sections.map(({ start, size }) => start + size)];
    if (ends.some((end) => end > file.length)) throw corrupt('it is cut off');
    if (table.size > 0 && table.start + table.size !== file.length)
      throw corrupt('its signatures are not at its end');
    return { checksum: optional + 64, directory, headers, sections, table };
  } catch (error) {
    if (error instanceof RangeError) throw corrupt('it is cut off');
    throw error;
  }
}

/** The bytes of a section of a PE file, without what only fills it up; undefined where it has none of that name. */
export function programSection(file: Buffer, section: string): Buffer | undefined {
  try {
    const header = file.readUInt32LE(0x3c);
    const table = header + 24 + file.readUInt16LE(header + 20);
    const count = file.readUInt16LE(header + 6);
    for (let entry = table; entry < table + 40 * count; entry += 40) {
      if (file.toString('latin1', entry, entry + 8).replace(/\0.*$/, '') !== section) continue;
      const start = file.readUInt32LE(entry + 20);
      const size = Math.min(file.readUInt32LE(entry + 8), file.readUInt32LE(entry + 16));
      return file.subarray(start, start + size);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

/** The SHA-256 that a signature states: of all but the checksum, the table of certificates and its place. */
function imageDigest(file: Buffer, { checksum, directory, headers, sections, table }: Layout): Buffer {
  const hash = createHash('sha256')
    .update(file.subarray(0, checksum))
    .update(file.subarray(checksum + 4, directory))
    .update(file.subarray(directory + 8, headers));
  let hashed = headers;
  for (const { start, size } of sections) {
    hash.update(file.subarray(start, start + size));
    hashed += size;
  }
  // What follows the sections.
  return hash.update(file.subarray(hashed, file.length - table.size)).digest();
}

const sha256Algorithm = sequence(identifier(sha256Identifier), derNull);

/** PKCS #7 (RFC 2315) around SpcIndirectDataContent. */
async function pkcs7(digest: Buffer, { sign, certificate }: Signer): Promise<Buffer> {
  // As all signers write it: "<<<Obsolete>>>" in big-endian UTF-16.
  const obsolete = Buffer.from('<<<Obsolete>>>', 'utf16le').swap16();
  const image = sequence(
    identifier(peImageData),
    sequence(element(0x03, Buffer.from([0])), tagged(0, tagged(2, element(0x80, obsolete)))),
  );
  const parts = [image, sequence(sha256Algorithm, octets(digest))];
  // The digest is of the content without its tag and length.
  const content = createHash('sha256').update(Buffer.concat(parts)).digest();
  const attributes = [
    sequence(identifier(contentType), set(identifier(indirectData))),
    sequence(identifier(messageDigest), set(octets(content))),
  ];
  const [body] = readElements(certificate.raw);
  const [toBeSigned] = readElements(body?.content ?? Buffer.alloc(0));
  // TBSCertificate (RFC 5280, 4.1): [0] version, serialNumber, signature, issuer, ...
  const [, serial, , issuer] = readElements(toBeSigned?.content ?? Buffer.alloc(0));
  if (serial === undefined || issuer === undefined)
    throw new ReliveError('corrupt', 'the certificate to sign programs with has no issuer');
  const signerInfo = sequence(
    smallInteger(1),
    sequence(issuer.bytes, serial.bytes),
    sha256Algorithm,
    tagged(0, ...attributes),
    sequence(identifier(rsaEncryption), derNull),
    octets(await sign(set(...attributes))),
  );
  return sequence(
    identifier(signedData),
    tagged(
      0,
      sequence(
        smallInteger(1),
        set(sha256Algorithm),
        sequence(identifier(indirectData), tagged(0, sequence(...parts))),
        tagged(0, certificate.raw),
        set(signerInfo),
      ),
    ),
  );
}

function aligned(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);
}

/**
 * Adds a signature to a program; those that it has stay, and firmware takes one that it trusts. The same program and
 * key give the same bytes.
 * @param name names the program in errors
 * @param place before or behind those that it has. Linux, which checks what it is to start by kexec, looks at the first one
 *   only (crypto/asymmetric_keys/verify_pefile.c)
 * @throws ReliveError `corrupt`, and what the signer throws
 */
export async function signProgram(
  program: Uint8Array,
  name: string,
  signer: Signer,
  place: 'first' | 'last' = 'last',
): Promise<Buffer> {
  // The table begins at a multiple of 8; what is added to reach it is signed.
  const signed = Buffer.from(program);
  const whole = layoutOf(signed, name).table.size > 0 ? signed : aligned(signed);
  const layout = layoutOf(whole, name);
  const signature = await pkcs7(imageDigest(whole, layout), signer);
  // WIN_CERTIFICATE: length, revision 2.0, PKCS #7.
  const header = Buffer.alloc(8);
  header.writeUInt32LE(8 + signature.length);
  header.writeUInt16LE(0x0200, 4);
  header.writeUInt16LE(0x0002, 6);
  const entry = aligned(Buffer.concat([header, signature]));
  const { size } = layout.table;
  const start = whole.length - size;
  const others = whole.subarray(start);
  const entries = place === 'first' ? [entry, others] : [others, entry];
  const result = Buffer.concat([whole.subarray(0, start), ...entries]);
  result.writeUInt32LE(start, layout.directory);
  result.writeUInt32LE(size + entry.length, layout.directory + 4);
  return result;
}
