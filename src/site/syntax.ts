import { z } from 'zod';

/*
 * The syntax of every name which a user writes into relive.yaml or a profile, as its own documentation gives it, with what could
 * be taken for an option, a path or a second word on some command line left out. The message of each check completes
 * "allowed: ..."; the descriptions go into the JSON Schemas.
 */

const pattern = (expression: RegExp, allowed: string) => z.string().regex(expression, allowed);

/** One component of file paths and image names. */
export const namePattern = /^[a-z0-9]+(-[a-z0-9]+)*$/;
const longestName = 63;

/** Whether `name` may name a profile: also a host name (RFC 1123) and a part of image names. */
export function isProfileName(name: string): boolean {
  return name.length <= longestName && namePattern.test(name);
}

const simpleName = (what: string) =>
  z
    .string()
    .max(longestName, `${what} of at most ${longestName} characters`)
    .regex(namePattern, `${what} of small letters and digits, "-" between them`);

export const profileName = simpleName('a name');
export const overlayName = simpleName('a name');
export const repositoryName = simpleName('a name');

/** Debian Policy 5.6.1; without "-" at the end, which apt-get(8) reads as an order to remove. */
export const packageName = pattern(
  /^[a-z0-9][a-z0-9+.-]*[a-z0-9+.]$/,
  'a package name (Debian Policy 5.6.1: small letters, digits, "+", "-", "."; two characters or more)',
);

/** An archive's root; what is appended to it makes the addresses of its files. No secrets: the file is committed. */
export const archiveUrl = z
  .string()
  .regex(
    /^https?:\/\/([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(\/[A-Za-z0-9._~%+:@=,-]*)*$/,
    'the http or https address of an archive, without user, password, query and fragment',
  )
  .refine(isCleanUrl, 'the http or https address of an archive, without ".." in it');

function isCleanUrl(text: string): boolean {
  return URL.canParse(text) && !/\/\.{1,2}(\/|$)|%2e|%2f|%00/i.test(text);
}

/** An upstream of a mirror: what `archiveUrl` takes, and rsync servers and directories of this machine. */
export const repositoryUrl = z
  .string()
  .refine(
    isRepositoryUrl,
    'the http, https, rsync or file address of an archive, without user, password, query and fragment',
  );

function isRepositoryUrl(text: string): boolean {
  const local = /^file:\/\/(\/[A-Za-z0-9._~%+:@=,-]+)+\/?$/.test(text);
  return (local && isCleanUrl(text)) || archiveUrl.safeParse(text.replace(/^rsync:/, 'http:')).success;
}

/** 40 hexadecimal digits, or 64 (RFC 9580, 5.5.4); blanks between them are for people. */
export const fingerprint = pattern(
  /^([0-9A-Fa-f] ?){40}!?$|^([0-9A-Fa-f] ?){64}!?$/,
  'the fingerprint of a key: 40 hexadecimal digits, with "!" behind them for this very subkey',
);

/** A language as the names of translations have it; `*` stands for any characters. */
export const languagePattern = pattern(/^[A-Za-z_*-]{1,20}$/, 'a language: en, de, pt_BR, or * for all');

/** A word in which `*` stands for any characters. */
export const wordPattern = pattern(
  /^[A-Za-z0-9*][A-Za-z0-9.+*/_~%:-]{0,199}$/,
  'a name in which * stands for any characters',
);

/** A rate: bytes a second. */
export const byteRate = z
  .string()
  .refine((text) => parseByteRate(text) !== undefined, 'a rate: 500 kB/s, 10 MB/s');

/** Bytes a second of a rate as it is written in relive.yaml. */
export function parseByteRate(text: string): number | undefined {
  const match = /^([0-9]{1,9}) ?(k|M|G)?B\/s$/.exec(text);
  const factor = { k: 1e3, M: 1e6, G: 1e9 }[match?.[2] ?? ''] ?? 1;
  const rate = Number(match?.[1] ?? 0) * factor;
  return rate > 0 ? rate : undefined;
}

const segmented = (what: string) =>
  pattern(
    /^[A-Za-z0-9]+([._~+-]+[A-Za-z0-9]+)*(\/[A-Za-z0-9]+([._~+-]+[A-Za-z0-9]+)*)*$/,
    `${what} of letters, digits and, between them, "-", ".", "_", "~", "+", "/"`,
  ).refine((text) => !text.includes('..'), `${what} without ".."`);

export const suiteName = segmented('a suite');

/** A suite of a mirror, or the directory of a flat repository: `./`, `packages/`. */
export const mirroredSuite = z
  .string()
  .refine(
    (text) => text === './' || suiteName.safeParse(text.replace(/\/$/, '')).success,
    'a suite, or the directory of a flat repository with "/" at its end (./)',
  );
export const componentName = segmented('a component');

/** A path of the host. */
export const hostPath = z
  .string()
  .min(1, 'a path')
  .max(1024, 'a path of at most 1024 characters')
  .refine(hasNoControls, 'a path without control characters');

function hasNoControls(text: string): boolean {
  return !/\p{Cc}|\p{Zl}|\p{Zp}/u.test(text);
}

const armourStart = '-----BEGIN PGP PUBLIC KEY BLOCK-----';
const armourEnd = '-----END PGP PUBLIC KEY BLOCK-----';

/** Whether `signedBy` holds the key itself (RFC 9580, 6.2) and no path. */
export function isArmouredKey(text: string): boolean {
  return text.startsWith(armourStart);
}

function isKeyOrPath(text: string): boolean {
  if (!isArmouredKey(text)) return text.length <= 1024 && hasNoControls(text);
  return text.trimEnd().endsWith(armourEnd) && /^[\x20-\x7e\n]*$/.test(text);
}

export const signedBy = z
  .string()
  .min(1, 'the path of a keyring, or an armoured public key')
  .refine(isKeyOrPath, 'the path of a keyring, or an armoured public key');

const loginPattern = /^[a-z_][a-z0-9_-]{0,31}$/;

/** useradd(8). */
export const userName = pattern(
  loginPattern,
  'a user name (useradd(8): small letters, digits, "_", "-", a letter or "_" first; at most 32 characters)',
);

/** groupadd(8). */
export const groupName = pattern(
  loginPattern,
  'a group name (groupadd(8): small letters, digits, "_", "-", a letter or "_" first; at most 32 characters)',
);

/** Debian Policy 9.2.2: the range of user accounts. */
const uidRange = 'a whole number from 1000 to 59999 (Debian Policy 9.2.2)';
export const uid = z.int().min(1000, uidRange).max(59999, uidRange);

/** crypt(5): yescrypt, gost-yescrypt, bcrypt, SHA-512, SHA-256; what is weaker is refused. */
export const passwordHash = pattern(
  /^\$(y|gy|2[aby]|6|5)\$[./A-Za-z0-9=,]+\$[./A-Za-z0-9$]+$|^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$/,
  'the hash of a password (crypt(5): yescrypt, SHA-512, SHA-256 or bcrypt), as mkpasswd prints it',
).max(384, 'the hash of a password (crypt(5)), at most 384 characters');

const keyTypes = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
];

/** sshd(8), AUTHORIZED_KEYS FILE FORMAT, without options. The encoded key begins with its own type (RFC 4253, 6.6). */
function isSshKey(text: string): boolean {
  const [type = '', encoded = ''] = text.split(' ');
  if (text.length > 8192 || !hasNoControls(text) || !keyTypes.includes(type)) return false;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) return false;
  const bytes = Buffer.from(encoded, 'base64');
  return bytes.length > 4 + type.length && bytes.toString('latin1', 4, 4 + bytes.readUInt32BE(0)) === type;
}

export const sshKey = z.string().refine(isSshKey, `a public key in one line: ${keyTypes.join(', ')}`);

export const shellPath = pattern(
  /^(\/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$/,
  'the absolute path of a shell, without ".."',
).max(255, 'a path of at most 255 characters');

/** passwd(5): a field between colons; useradd(8) would read a leading "-" as an option. */
export const userComment = z
  .string()
  .max(200, 'a text of at most 200 characters')
  .refine(
    (text) => hasNoControls(text) && !text.includes(':') && !text.startsWith('-'),
    'a text in one line, without ":" and without "-" in front',
  );

export const descriptionText = z
  .string()
  .min(1, 'a text in one line')
  .max(200, 'a text of at most 200 characters')
  .refine(hasNoControls, 'a text in one line');

/** RFC 1123, 2.1 and hostname(7); Linux takes 64 characters. */
export const hostName = pattern(
  /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/,
  'a host name (RFC 1123: letters, digits, "-" inside, labels joined by ".")',
).max(64, 'a host name of at most 64 characters');

/** locale(7), as in /usr/share/i18n/SUPPORTED. */
export const localeName = pattern(
  /^(C|POSIX|[a-z]{2,3}_[A-Z]{2})(\.[A-Za-z0-9-]{1,20})?(@[a-z]{1,20})?$/,
  'a locale: C.UTF-8, en_GB.UTF-8, ca_ES.UTF-8@valencia',
);

/** tzfile(5), the names of the tz database ("Theory and pragmatics", names of timezones). */
export const timezoneName = pattern(
  /^[A-Za-z][A-Za-z0-9_+-]{0,29}(\/[A-Za-z0-9][A-Za-z0-9_+-]{0,29}){0,2}$/,
  'a time zone of the tz database: Etc/UTC, Europe/Berlin',
).refine(isKnownTimezone, 'a time zone of the tz database: Etc/UTC, Europe/Berlin');

/** keyboard(5); the file is read by shells, so nothing that means something to them. */
export const keyboardWord = pattern(
  /^[A-Za-z0-9_-]{1,40}$/,
  'a name of XKB (keyboard(5)): pc105, de, nodeadkeys',
);
export const keyboardWords = pattern(
  /^[A-Za-z0-9_-]{0,40}(,[A-Za-z0-9_-]{0,40}){0,3}$/,
  'names of XKB (keyboard(5)), up to four with "," between them: de; us,ru',
).min(1, 'a name of XKB');
export const keyboardOption = pattern(
  /^[A-Za-z0-9_-]{1,40}:[A-Za-z0-9_-]{1,60}$/,
  'an option of XKB (keyboard(5)): compose:menu',
);

/** A file below scripts/. */
export const scriptName = pattern(
  /^[A-Za-z0-9_][A-Za-z0-9._-]*(\/[A-Za-z0-9_][A-Za-z0-9._-]*)*$/,
  'a file below scripts/: letters, digits, ".", "_", "-", "/" between names',
).max(200, 'a name of at most 200 characters');

/** The names of time zones that a misspelt one may mean. */
export const timezones: readonly string[] = ['Etc/UTC', 'UTC', ...Intl.supportedValuesOf('timeZone')];

function isKnownTimezone(name: string): boolean {
  if (timezones.includes(name)) return true;
  // Intl takes any case, the file system does not.
  if (timezones.some((zone) => zone.toLowerCase() === name.toLowerCase())) return false;
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).format(0) !== '';
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

const unitTypes = 'service|socket|device|mount|automount|swap|target|path|timer|slice|scope';
const unitSuffix = new RegExp(`\\.(${unitTypes})$`);

/** systemd.unit(5); a name without a type is a service, as systemctl(1) reads it. */
export const unitName = pattern(
  /^[A-Za-z0-9_]([A-Za-z0-9_:.@-]|\\x[0-9a-f]{2})*$/,
  'the name of a unit (systemd.unit(5)): ssh, ssh.service, serial-getty@ttyS0.service',
)
  .max(200, 'the name of a unit, at most 200 characters')
  .refine((text) => !text.includes('..'), 'the name of a unit, without ".."');

/** The whole name of a unit: `ssh` is `ssh.service`. */
export function wholeUnitName(name: string): string {
  return unitSuffix.test(name) ? name : `${name}.service`;
}

/** What the boot menu and the live side write on the kernel's command line themselves. */
const ownParameters = /^(BOOT_IMAGE|initrd|root|boot|module|relive\..*)$/;

/** The kernel's admin-guide/kernel-parameters; nothing that GRUB's scripts or the kernel's parser read as more than a word. */
export const kernelParameter = pattern(
  /^[A-Za-z0-9_][A-Za-z0-9_.-]*(=[A-Za-z0-9_.,:/=+@%-]*)?$/,
  'a kernel parameter: NAME or NAME=VALUE of letters, digits and "_.,:/=+@%-"',
)
  .max(256, 'a kernel parameter of at most 256 characters')
  .refine(
    (text) => !ownParameters.test(text.split('=')[0] ?? ''),
    'a kernel parameter that relive does not set itself (those are boot, module, root, initrd, relive.*)',
  );

/** Directories without which nothing boots, or which are the kernel's, and all below them. */
const systemsOwn =
  /^\/(bin|boot|dev|lib|lib32|lib64|libx32|proc|run|sbin|sys|tmp|usr(?!\/local(\/|$))|volumes|etc\/systemd|etc\/machine-id|etc\/hostname|var\/lib\/dpkg)(\/|$)/;
/** Those of which parts may be kept, but not all. */
const inParts = new Set(['/etc', '/var', '/var/lib']);

/** An absolute path in words that need no quoting. */
const plainPath = pattern(
  /^(\/[A-Za-z0-9._@+-]+)+$/,
  'an absolute path of letters, digits, ".", "_", "@", "+", "-"',
)
  .max(255, 'a path of at most 255 characters')
  .refine(
    (path) => !path.split('/').some((part) => part === '.' || part === '..'),
    'a path without "." and ".."',
  );

/** A path whose content is apart from the image. */
export const persistentPath = plainPath.refine(
  (path) => !systemsOwn.test(path) && !inParts.has(path),
  'a path that the system does not need to boot: /home, /srv, /root, /opt, parts of /etc and /var',
);

/** A file on a volume, from its top. */
export const keyPath = plainPath;

/** A program of the system that is built. */
export const programPath = pattern(
  /^(\/[A-Za-z0-9_+-][A-Za-z0-9._@+-]*)+$/,
  'the absolute path of a program in the system: letters, digits, ".", "_", "@", "+", "-"',
).max(255, 'a path of at most 255 characters');

/** What a system asks of itself or of another one; no secrets, since it stands in the image. */
export const healthUrl = pattern(
  /^https?:\/\/([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(\/[A-Za-z0-9._~%+:@=,/-]*)?(\?[A-Za-z0-9._~%+:@=,&/-]*)?$/,
  'an http or https address without user, password and fragment: http://localhost:8080/status',
)
  .max(255, 'an address of at most 255 characters')
  .refine((text) => URL.canParse(text), 'an http or https address');

/** Where a store is served, for machines. */
export const servedStore = pattern(
  /^https?:\/\/([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(\/[A-Za-z0-9._~%+:@=,-]+)*$/,
  'an http or https address without user and password, and no slash at its end: http://server:3143/store',
)
  .max(255, 'an address of at most 255 characters')
  .refine((text) => URL.canParse(text), 'an http or https address');

/** As in src/image/channel.ts. */
export const channelName = pattern(
  /^[a-z0-9][a-z0-9-]{0,31}$/,
  'small letters, digits and "-", at most 32 characters',
);

/** The label of a file system, as much of it as ext4 takes, or its UUID. */
export const volumeName = pattern(
  /^([A-Za-z0-9_]{1,16}|UUID=[0-9A-Fa-f]{4,8}(-[0-9A-Fa-f]{4,12})*)$/,
  'the label of a file system (letters, digits and "_", at most 16), or UUID= and its UUID',
);

/** A medium: a path, or a label or UUID of the disk or of a part of it. */
export const mediumName = z
  .string()
  .max(1024, 'at most 1024 characters')
  .refine(
    (text) =>
      (text.includes('/') && hasNoControls(text)) ||
      /^([A-Za-z0-9_][A-Za-z0-9_.-]{0,35}|UUID=[0-9A-Fa-f]{4,8}(-[0-9A-Fa-f]{4,12})*)$/.test(text),
    'a path (with "/" in it), a label, or UUID= and a UUID',
  );

/** The name or path of a program, or an argument of it. */
export const commandWord = z
  .string()
  .max(4096, 'at most 4096 characters')
  .refine((text) => !text.includes('\0'), 'text without NUL');

/** chown(1). */
export const ownerName = pattern(
  /^[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?$/,
  'the name of a user, or USER:GROUP',
);

export const fileMode = pattern(/^[0-7]{3,4}$/, 'a mode of three or four octal digits, in quotes: "0750"');
