import type { CommandSpec } from './command.ts';

/** Commands for what a site consists of: profiles, keys, locks. */
export const siteCommands: readonly CommandSpec[] = [
  {
    name: 'profile list',
    summary: 'list the profiles of the site',
    examples: [{ command: 'relive profile list', says: 'a table' }],
    load: async () => await import('./profile-list.ts'),
  },
  {
    name: 'profile show',
    summary: 'print a profile with all it inherits and where each value comes from',
    arguments: [{ name: '<profile>', description: 'the profile', completes: 'profile' }],
    examples: [{ command: 'relive profile show demo', says: 'YAML; comments name file and line' }],
    load: async () => await import('./profile-show.ts'),
  },
  {
    name: 'profile check',
    summary: 'check profiles: their files, what they refer to and what would become of them',
    description:
      "Offline, and without root. Of profiles without a fault in their files: unknown packages (by the mirror's indices), overlays\nwith what cannot enter a system or with files of packages, units that nothing brings, users that packages make (by the lock\nand the packages in the mirror). Says what it could not look at. Exit status 1 when it finds anything.",
    arguments: [{ name: '[profile...]', description: 'the profiles (default: all)', completes: 'profile' }],
    examples: [
      { command: 'relive profile check', says: 'all of the site; exit status 1 when something is wrong' },
      { command: 'relive profile check kiosk', says: 'one, with what it extends' },
    ],
    load: async () => await import('./profile-check.ts'),
  },
  {
    name: 'keys create',
    summary: 'make the RSA key which images are signed with',
    description:
      "The secret key lies in the site's own GnuPG home (keys/gnupg, mode 0700), without a passphrase; the public key is\nexported to keys/public.asc. A key that is there is never replaced without --replace, and keeps verifying the images\nthat it signed.",
    options: [
      {
        flags: '--name <user id>',
        description: "the key's user id (default: relive and the site's directory)",
      },
      {
        flags: '--bits <number>',
        description: 'its length (default: 3072; 2048 for Secure Boot, as some firmware knows no other)',
        choices: ['2048', '3072', '4096'],
      },
      { flags: '--replace', description: 'sign with a new key from now on' },
      {
        flags: '--secure-boot',
        description: 'make the keys of UEFI Secure Boot instead: PK, KEK and db, in keys/secure-boot',
      },
      {
        flags: '--token <address>',
        description:
          'take the key which is there on a PKCS #11 token (RFC 7512), with --secure-boot as db; the PIN is in a file that pin-source names',
      },
    ],
    examples: [
      { command: 'relive keys create', says: 'make the key of this site' },
      { command: "relive keys create --name 'Lab <lab@example.org>'", says: 'with a user id of your own' },
      {
        command: 'relive keys create --secure-boot',
        says: 'for profiles with "boot: {secureBoot: true}", or shim',
      },
      {
        command:
          "relive keys create --secure-boot --token 'pkcs11:token=lab;object=db?pin-source=file:/root/pin'",
        says: 'the private key of db never leaves its token',
      },
      {
        command:
          "relive keys create --token 'pkcs11:token=lab;object=images?pin-source=file:/root/pin&module-path=/usr/lib/softhsm/libsofthsm2.so'",
        says: 'nor does that of the images',
      },
    ],
    load: async () => await import('./keys-create.ts'),
  },
  {
    name: 'keys enroll',
    summary: 'write what firmware needs to know the Secure Boot keys of the site',
    description:
      "For each of PK, KEK and db: NAME.cer (certificate), NAME.esl (list) and NAME.auth (list, signed by the key that may change it);\nOVMF_VARS_4M.fd, the variables of a virtual machine with these keys and Secure Boot on, and OVMF_VARS_4M.shim.fd, those with\nMicrosoft's keys where shim knows db. Nothing of it is secret.",
    arguments: [
      { name: '<directory>', description: 'where to write them; it is made', completes: 'directory' },
    ],
    examples: [{ command: 'relive keys enroll /media/stick/keys', says: "for a machine's firmware" }],
    load: async () => await import('./keys-enroll.ts'),
  },
  {
    name: 'keys list',
    summary: 'list the keys of the site, and the fingerprints (SHA-256) of its Secure Boot certificates',
    examples: [{ command: 'relive keys list', says: 'the newest one signs' }],
    load: async () => await import('./keys-list.ts'),
  },
  {
    name: 'keys export',
    summary: 'write the public keys, for whoever checks the images',
    arguments: [
      { name: '[file]', description: 'where to write them; standard output without it', completes: 'file' },
    ],
    options: [
      { flags: '--binary', description: 'as a binary keyring, for gpgv and GRUB (with a file only)' },
    ],
    examples: [
      { command: 'relive keys export', says: 'print them, armoured' },
      { command: 'relive keys export images.gpg --binary', says: 'a keyring for gpgv' },
    ],
    load: async () => await import('./keys-export.ts'),
  },
  {
    name: 'lock',
    summary: 'resolve the packages of profiles and write their locks',
    description:
      'Asks the repositories what they have now and apt what goes together, and writes locks/PROFILE.ARCHITECTURE.json:\n' +
      'each package with its version, SHA-256 and why it is in. Prints what changed. relive build installs what is locked\n' +
      'until it is locked anew; commit locks together with profiles.',
    arguments: [
      {
        name: '[profile...]',
        description: 'the profiles (default: all that can be built)',
        completes: 'profile',
      },
    ],
    options: [{ flags: '--offline', description: 'use the indices that the mirror has, and no network' }],
    examples: [
      { command: 'relive lock', says: 'take the newest packages for all profiles' },
      { command: 'relive lock demo && git diff locks', says: 'see what came, went or changed' },
    ],
    load: async () => await import('./lock.ts'),
  },
];
