import { readFile } from 'node:fs/promises';
import { type Signer, signProgram } from '../image/authenticode.ts';

/** Programs of Debian's, by their paths (see `findGrub`). */
export interface Shim {
  /** Signed by Microsoft. */
  readonly shim: string;
  /** MokManager, by which shim learns keys; signed by Debian. */
  readonly manager: string;
}

/** A file of the EFI system partition. */
export interface EfiFile {
  /** `EFI/BOOT/BOOTX64.EFI`: 8 and 3 characters each, of which case does not count. */
  readonly path: string;
  readonly content: Uint8Array;
}

/** The certificate that MokManager is to enrol: the one of db. */
export const mokCertificate = 'RELIVE.CER';

/**
 * The files by which firmware that knows Microsoft's keys comes to our GRUB: shim, which firmware starts, GRUB by the name
 * that shim starts, MokManager, which shim starts where it does not know the key of GRUB, and the certificate for it.
 *
 * shim is signed by us, too: a medium then starts where firmware knows our key alone.
 * @param boot the name of what firmware starts, BOOTX64.EFI
 * @param name how shim calls the processor, x64
 * @param grub signed
 * @returns what firmware starts comes last: what it needs is there before it
 */
export async function shimFiles(
  { shim, manager }: Shim,
  boot: string,
  name: string,
  grub: Uint8Array,
  signer: Signer,
): Promise<readonly EfiFile[]> {
  return [
    { path: mokCertificate, content: signer.certificate.raw },
    { path: `EFI/BOOT/MM${name.toUpperCase()}.EFI`, content: await readFile(manager) },
    { path: `EFI/BOOT/GRUB${name.toUpperCase()}.EFI`, content: grub },
    { path: `EFI/BOOT/${boot}`, content: await signProgram(await readFile(shim), shim, signer) },
  ];
}
