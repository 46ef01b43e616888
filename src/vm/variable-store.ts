import { ReliveError } from '../core/error.ts';
import { guidBytes } from '../core/guid.ts';
import type { SecureBootCertificates } from '../image/secure-boot-keys.ts';
import { signatureList } from '../image/signature-list.ts';

/**
 * The variables of UEFI firmware in flash, as EDK2 keeps them: a firmware volume (PI specification, volume 3, 3.2.1) with
 * a store of authenticated variables (MdeModulePkg/Include/Guid/VariableFormat.h of EDK2).
 */

const authenticatedStore = 'aaf32c78-947b-439a-a180-2e144ec37792';
const globalVariable = '8be4df61-93ca-11d2-aa0d-00e098032b8c';
const imageSecurityDatabase = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f';
const secureBootEnable = 'f0a30bc7-af08-4556-99c4-001009c93a44';
const customMode = 'c076ec0c-7028-4399-a072-71ee5c448b9f';

/** SHIM_LOCK_GUID of shim. */
const shimLock = '605dab50-e046-4300-abb6-3dd810dd8b23';

const storeHeaderSize = 28;
const variableHeaderSize = 60;
/** EFI_VARIABLE_NON_VOLATILE, BOOTSERVICE_ACCESS. */
const bootOnly = 0x03;
/** These, RUNTIME_ACCESS and TIME_BASED_AUTHENTICATED_WRITE_ACCESS. */
const authenticated = 0x27;

interface Variable {
  readonly name: string;
  readonly vendor: string;
  readonly attributes: number;
  readonly data: Uint8Array;
}

/** AUTHENTICATED_VARIABLE_HEADER, name and data, up to a multiple of 4. */
function variableBytes({ name, vendor, attributes, data }: Variable): Buffer {
  const header = Buffer.alloc(variableHeaderSize, 0);
  const text = Buffer.from(`${name}\0`, 'utf16le');
  header.writeUInt16LE(0x55aa, 0);
  // VAR_ADDED
  header.writeUInt8(0x3f, 2);
  header.writeUInt32LE(attributes, 4);
  if (attributes === authenticated) {
    // EFI_TIME. Any later one may replace it: what `keys enroll` makes is dated when it is made.
    header.writeUInt16LE(2000, 16);
    header.writeUInt8(1, 18);
    header.writeUInt8(1, 19);
  }
  header.writeUInt32LE(text.length, 36);
  header.writeUInt32LE(data.length, 40);
  guidBytes(vendor).copy(header, 44);
  const size = header.length + text.length + data.length;
  return Buffer.concat([header, text, data, Buffer.alloc((4 - (size % 4)) % 4, 0xff)]);
}

function refuse(why: string): ReliveError {
  return new ReliveError('corrupt', `the firmware's template of variables cannot be used: ${why}`, {
    hint: 'apt-get install --reinstall ovmf',
  });
}

/** Where the variables of a store begin, and where its room ends. @throws ReliveError `corrupt` */
function roomOf(store: Buffer): { readonly first: number; readonly end: number } {
  // EFI_FIRMWARE_VOLUME_HEADER: signature at 40, length of the header at 48.
  if (store.length < 0x80 || store.toString('latin1', 40, 44) !== '_FVH')
    throw refuse('it is no firmware volume');
  const start = store.readUInt16LE(48);
  if (
    store.length < start + storeHeaderSize ||
    !store.subarray(start, start + 16).equals(guidBytes(authenticatedStore))
  )
    throw refuse('it has no store of authenticated variables');
  const end = start + store.readUInt32LE(start + 16);
  if (end > store.length) throw refuse('it is cut off');
  return { first: start + storeHeaderSize, end };
}

/**
 * A variable store in which keys are enrolled and Secure Boot is on.
 * @param template an empty store, as OVMF brings it
 * @throws ReliveError `corrupt` for a template that is no empty store
 */
export function enrolledVariables(
  template: Uint8Array,
  { certificates, owner }: SecureBootCertificates,
): Buffer {
  const store = Buffer.from(template);
  const { first, end } = roomOf(store);
  if (store.subarray(first, end).some((octet) => octet !== 0xff)) throw refuse('it has variables already');
  const list = (name: keyof typeof certificates): Buffer => signatureList(owner, certificates[name].raw);
  const variables: readonly Variable[] = [
    { name: 'PK', vendor: globalVariable, attributes: authenticated, data: list('PK') },
    { name: 'KEK', vendor: globalVariable, attributes: authenticated, data: list('KEK') },
    { name: 'db', vendor: imageSecurityDatabase, attributes: authenticated, data: list('db') },
    { name: 'SecureBootEnable', vendor: secureBootEnable, attributes: bootOnly, data: Buffer.from([1]) },
    { name: 'CustomMode', vendor: customMode, attributes: bootOnly, data: Buffer.from([0]) },
  ];
  Buffer.concat(variables.map(variableBytes)).copy(store, first);
  return store;
}

/**
 * A variable store in which shim knows the key db, as after its enrolment by MokManager: in MokList (shim, MokVars.txt),
 * which only programs may change that run before an operating system does.
 * @param template a store with the keys of Microsoft, as OVMF brings it
 * @throws ReliveError `corrupt` for a template that is no store, or has no room
 */
export function shimVariables(
  template: Uint8Array,
  {
    certificates,
    owner,
  }: Pick<SecureBootCertificates, 'owner'> & {
    readonly certificates: Pick<SecureBootCertificates['certificates'], 'db'>;
  },
): Buffer {
  const store = Buffer.from(template);
  const { first, end } = roomOf(store);
  let at = first;
  while (at + variableHeaderSize <= end && store.readUInt16LE(at) === 0x55aa) {
    const size = variableHeaderSize + store.readUInt32LE(at + 36) + store.readUInt32LE(at + 40);
    at += size + ((4 - (size % 4)) % 4);
  }
  const variable = variableBytes({
    name: 'MokList',
    vendor: shimLock,
    attributes: bootOnly,
    data: signatureList(owner, certificates.db.raw),
  });
  if (at + variable.length > end || store.subarray(at, at + variable.length).some((octet) => octet !== 0xff))
    throw refuse('it has no room for one more');
  variable.copy(store, at);
  return store;
}
