import { guidBytes } from '../core/guid.ts';

/** EFI_CERT_X509_GUID (UEFI specification, 32.4.1). */
const x509Type = 'a5c059a1-94e4-4aa7-87b5-ab155c2bf072';

/**
 * An EFI_SIGNATURE_LIST with one X.509 certificate, the form in which PK, KEK and db are kept (UEFI specification,
 * 32.4.1).
 * @param owner a GUID, whose certificate it is
 * @param certificate DER
 */
export function signatureList(owner: string, certificate: Uint8Array): Buffer {
  const signature = Buffer.concat([guidBytes(owner), certificate]);
  const sizes = Buffer.alloc(12);
  sizes.writeUInt32LE(16 + sizes.length + signature.length, 0);
  // No header between the list's own and the signatures.
  sizes.writeUInt32LE(0, 4);
  sizes.writeUInt32LE(signature.length, 8);
  return Buffer.concat([guidBytes(x509Type), sizes, signature]);
}
