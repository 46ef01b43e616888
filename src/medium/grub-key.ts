import { readFile } from 'node:fs/promises';
import { ReliveError } from '../core/error.ts';

const blocks = /-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n([\s\S]*?)-----END PGP PUBLIC KEY BLOCK-----/g;

/** The bytes of OpenPGP armour (RFC 4880, 6.2): headers, an empty line, base64, a checksum after `=`. */
function withoutArmour(text: string): Uint8Array {
  const parts = Array.from(text.matchAll(blocks), ([, inside]) => {
    const [, body] = (inside ?? '').split(/\r?\n[ \t]*\r?\n|^\r?\n/, 2);
    const lines = (body ?? inside ?? '')
      .split(/\r?\n/)
      .filter((line) => line !== '' && !line.startsWith('='));
    return Buffer.from(lines.join(''), 'base64');
  });
  return Buffer.concat(parts);
}

/**
 * Public keys in the form that goes into GRUB: binary OpenPGP.
 *
 * The first key is checked to be one that GRUB's `pgp` can use (RFC 4880: version 4, RSA): GRUB itself would only say
 * "bad signature" later, at the machine that does not boot.
 * @param content of a file, armoured or binary
 * @param file its name, for the error
 * @throws ReliveError `configuration`
 */
export function grubKey(content: Uint8Array, file: string): Uint8Array {
  const text = Buffer.from(content).toString('latin1');
  const key = text.includes('-----BEGIN PGP') ? withoutArmour(text) : content;
  const refuse = (found: string): ReliveError =>
    new ReliveError('configuration', `${file} ${found}; GRUB checks signatures by RSA keys only`, {
      hint: 'relive keys create makes a key that GRUB can use',
    });
  const tag = key[0] ?? 0;
  if ((tag & 0x80) === 0) throw refuse('is not an OpenPGP key');
  const isNew = (tag & 0x40) !== 0;
  if ((isNew ? tag & 0x3f : (tag >> 2) & 0x0f) !== 6) throw refuse('does not begin with a public key');
  // How long the packet's length field is (RFC 4880, 4.2).
  const first = key[1] ?? 0;
  const newLength = first < 192 ? 1 : first < 224 ? 2 : 5;
  const body = 1 + (isNew ? newLength : ([1, 2, 4, 0][tag & 3] ?? 0));
  if (key[body] !== 4) throw refuse(`holds a key of version ${key[body] ?? 'none'}`);
  const algorithm = key[body + 5];
  if (algorithm !== 1 && algorithm !== 3) throw refuse(`holds a key of algorithm ${algorithm ?? 'none'}`);
  return key;
}

/**
 * Reads public keys for GRUB from a file (see `grubKey`).
 * @throws ReliveError `configuration`
 */
export async function readGrubKey(file: string): Promise<Uint8Array> {
  return grubKey(await readFile(file), file);
}
