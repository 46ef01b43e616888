import { persistWays } from '../site/schema.ts';
import { type CommandSpec, nouns, type OptionSpec } from './command.ts';
import { asRoot } from './medium.ts';

/** What the commands of a group are about. */
export const groups: Readonly<Record<string, string>> = {
  keys: 'the keys which images are signed with',
  mirror: 'copies of APT repositories',
  profile: 'the profiles of a site',
  image: 'the images in a store',
  channel: 'the images that machines follow',
  medium: 'disks, USB sticks and disk files that boot the images',
  live: 'the running system, on a machine that an image has started',
};

/** Where `relive live` takes images from. */
const liveStore: OptionSpec = {
  flags: '--store <dir>',
  description: 'the store to take images from (default: what was fetched, or the medium)',
  completes: 'directory',
};

/** What `relive live` does about files that were changed by hand since the boot. */
const liveConflicts: readonly OptionSpec[] = [
  { flags: '--theirs', description: 'where a file was changed by hand, take the one that the image has' },
  { flags: '--ours', description: 'keep it, and put nothing beside it' },
];

/** What relive is, in one line. */
export const summary = 'Incremental live operating systems out of Debian: mirror, build, seal, boot, update.';

/** What every command takes. */
export const commonOptions: readonly OptionSpec[] = [
  { flags: '--site <dir>', description: 'the site to work on', default: '.', completes: 'directory' },
  { flags: '--json', description: 'print one JSON object a line: events, last the result' },
  { flags: '-q, --quiet', description: 'print only findings, warnings, errors and the result' },
];

/** Commands that shells call, not people: they stand in no help. */
export const hiddenCommands: readonly CommandSpec[] = [
  {
    name: 'complete',
    summary: 'print the names of a kind, one a line, for the completion of shells',
    arguments: [{ name: '<kind>', description: 'the kind of names', choices: nouns }],
    examples: [{ command: 'relive complete profile', says: 'the profiles of the site' }],
    load: async () => await import('./complete.ts'),
  },
];

/** Every command, in the order of the help. */
export const commands: readonly CommandSpec[] = [
  {
    name: 'init',
    summary: 'make a new site with an example profile',
    description:
      "Writes relive.yaml, a shipped profile with its overlay, and .gitignore. The addresses of Debian's archives are those which the\nhost's own apt uses; on another system name one with --archive. The directory must be new, empty or a git repository.",
    arguments: [
      {
        name: '[dir]',
        description: 'the directory to make or to fill (default: the current one)',
        completes: 'directory',
      },
    ],
    options: [
      {
        flags: '--profile <name>',
        description: 'the shipped profile to begin with',
        default: 'demo',
        completes: 'shipped',
      },
      { flags: '--archive <url>', description: "the address of Debian's archive" },
      { flags: '--security-archive <url>', description: "the address of Debian's security archive" },
      { flags: '--list', description: 'list the shipped profiles and make nothing' },
    ],
    examples: [
      { command: 'relive init lab', says: 'a site in ./lab' },
      {
        command: 'relive init --archive http://ftp.debian.org/debian',
        says: 'with this archive, in this directory',
      },
    ],
    load: async () => await import('./init.ts'),
  },
  {
    name: 'doctor',
    summary: 'what this host has, what is missing, and the command that installs it',
    description:
      'Ends with status 1 when something is missing that relive needs. As root it also tries what only root may do: ' +
      'namespaces and mounts.',
    examples: [
      { command: 'relive doctor', says: 'look at this host' },
      { command: 'relive doctor --json', says: 'the same for a program' },
    ],
    load: async () => await import('./doctor.ts'),
  },
  {
    name: 'mirror sync',
    summary: 'bring mirrors up to date',
    description:
      'Fetches the signed Release of each suite (one conditional request), then its indices and of its packages what "select" names:\nall, those that filters choose, or (closure) those that the locks of the site name. Each file is checked; a suite is published\nby one switch when all of it is there. Exit status 1: some repositories or locked packages could not be had.',
    arguments: [
      {
        name: '[repository...]',
        description: 'repositories of relive.yaml (default: all)',
        completes: 'repository',
      },
    ],
    examples: [
      { command: 'relive mirror sync', says: 'all repositories' },
      { command: 'relive mirror sync debian', says: 'one' },
    ],
    load: async () => await import('./mirror-sync.ts'),
  },
  {
    name: 'mirror verify',
    summary: 'prove a mirror intact, offline; any tool may have made it',
    description:
      'From the signature over each Release to each index and each file of the pool, on all cores. Finds what is missing, truncated,\ncorrupt, unreferenced, expired, unsigned, inconsistent, or leads out of the tree. Exit status 1 when it finds anything.',
    arguments: [
      {
        name: '[what...]',
        description:
          'repositories of relive.yaml, or directories (with a slash in the name) that hold a mirror (default: all repositories)',
        completes: 'repository',
      },
    ],
    options: [
      { flags: '--deep', description: 'open packages and compare their control data with the index' },
      { flags: '--changed', description: 'trust files that look as they did when they were verified' },
      {
        flags: '--sample <share>',
        description: 'read this share of the pool, what was not read for longest first: 5%',
      },
      { flags: '--partial', description: 'of a directory: what indices list need not be there' },
      {
        flags: '--keyring <files>',
        description: 'of a directory: keyrings, separated by commas (default: those of apt)',
        completes: 'file',
      },
    ],
    examples: [
      { command: 'relive mirror verify', says: 'all repositories of the site' },
      { command: 'relive mirror verify /srv/mirror/debian', says: 'a tree of debmirror, ftpsync, ...' },
      { command: 'relive mirror verify debian --sample 5%', says: 'a slice, for a nightly timer' },
    ],
    load: async () => await import('./mirror-verify.ts'),
  },
  {
    name: 'mirror repair',
    summary: 'verify, fetch what is missing or damaged, verify again',
    description: 'What was damaged is kept in quarantine, below .relive in the mirror.',
    arguments: [
      {
        name: '[repository...]',
        description: 'repositories of relive.yaml (default: all)',
        completes: 'repository',
      },
    ],
    options: [
      { flags: '--deep', description: 'open packages and compare their control data with the index' },
      { flags: '--changed', description: 'trust files that look as they did when they were verified' },
    ],
    examples: [{ command: 'relive mirror repair debian', says: 'mends one repository' }],
    load: async () => await import('./mirror-repair.ts'),
  },
  {
    name: 'mirror list',
    summary: 'list mirrors: state, age, size, snapshots, last verification',
    arguments: [
      {
        name: '[repository...]',
        description: 'repositories of relive.yaml (default: all)',
        completes: 'repository',
      },
    ],
    examples: [{ command: 'relive mirror list', says: 'a table' }],
    load: async () => await import('./mirror-list.ts'),
  },
  {
    name: 'mirror snapshot',
    summary: 'create, list, remove or compare snapshots of a mirror',
    description:
      'create REPOSITORY [NAME]   freezes the indices; the pool is shared\nlist [REPOSITORY]\nremove REPOSITORY NAME...\ndiff REPOSITORY A [B]      packages added, removed, upgraded; "current" (and B unless given) is what is published; exit status 1 when they differ',
    arguments: [
      {
        name: '<action>',
        description: 'create, list, remove, diff',
        completes: ['create', 'list', 'remove', 'diff'],
      },
      { name: '[repository]', description: 'a repository of relive.yaml', completes: 'repository' },
      { name: '[snapshot...]', description: 'names of snapshots' },
    ],
    examples: [
      { command: 'relive mirror snapshot create debian', says: 'named by the time' },
      { command: 'relive mirror snapshot diff debian 20261101T000000Z', says: 'what changed since' },
    ],
    load: async () => await import('./mirror-snapshot.ts'),
  },
  {
    name: 'mirror prune',
    summary: 'remove pool files that no suite and no snapshot needs',
    description:
      'What no suite, snapshot or lock names goes when its grace period is over. When more than the limit would go, it asks;\nwhere nobody can be asked nothing goes, and it says what to type if that is what you want (exit status 2).',
    arguments: [
      {
        name: '[repository...]',
        description: 'repositories of relive.yaml (default: all)',
        completes: 'repository',
      },
    ],
    options: [
      {
        flags: '--grace <days>',
        description: 'days a file stays when nothing needs it (default: keep in relive.yaml, 7)',
      },
      {
        flags: '--limit <percent>',
        description: 'refuse to remove more of the pool (default: keep in relive.yaml, 40)',
      },
      { flags: '--dry-run', description: 'only tell' },
    ],
    examples: [
      { command: 'relive mirror prune --dry-run', says: 'what would go' },
      { command: 'relive mirror prune debian --grace 0', says: 'at once' },
    ],
    load: async () => await import('./mirror-prune.ts'),
  },
  {
    name: 'mirror import',
    summary: "turn another tool's configuration into relive.yaml",
    description:
      "Reads apt-mirror's mirror.list, sources.list (one-line and deb822) and debmirror.conf; prints the YAML and what it could not carry over.",
    arguments: [{ name: '<file>', description: 'the configuration', completes: 'file' }],
    examples: [{ command: 'relive mirror import /etc/apt/mirror.list', says: 'prints repositories:' }],
    load: async () => await import('./mirror-import.ts'),
  },
  {
    name: 'mirror serve',
    summary: 'offer the mirrors and snapshots over HTTP',
    description:
      'Read-only, to this machine only unless --listen says otherwise: /REPOSITORY and /REPOSITORY/snapshots/NAME, for apt, debootstrap and\nmmdebstrap. No lists of directories, nothing hidden, no links that lead out. Ctrl-C ends it.',
    options: [{ flags: '--listen <address>', description: 'address and port', default: '127.0.0.1:3142' }],
    examples: [{ command: 'relive mirror serve', says: 'deb http://127.0.0.1:3142/debian trixie main' }],
    load: async () => await import('./mirror-serve.ts'),
  },
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
          'for --secure-boot: db is the key which is there on a PKCS #11 token (RFC 7512); the PIN is in a file that pin-source names',
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
  {
    name: 'build',
    summary: 'build a full image of a profile',
    description:
      'Takes the packages of the lock (made when there is none, or when the profile asks for others), builds the system in\nstages, packs, proves and seals it. Stages whose inputs did not change are taken from the cache; where nothing changed\nat all, no image is made. relive lock brings newer packages.',
    arguments: [
      { name: '<profile>', description: 'the name of a profile of the site', completes: 'profile' },
    ],
    options: [
      { flags: '--offline', description: 'use what the mirror has, and no network' },
      {
        flags: '--locked',
        description: 'fail where there is no lock, or the profile asks for other packages',
      },
      { flags: '--timings', description: 'say how long each stage took; image show tells it later' },
    ],
    examples: [
      { command: 'relive build demo', says: 'the next image of the profile demo' },
      { command: 'relive build demo --offline', says: 'out of the local mirror alone' },
    ],
    mounts: true,
    load: async () => await import('./build.ts'),
  },
  {
    name: 'update',
    summary: 'make the next image as a small layer on the newest one',
    description:
      'Resolves the packages anew, builds the system in stages (those that did not change are in the cache), and packs what differs\nfrom the newest image: as a delta on its layers. The stack shows what a full image would show, and is proven to before it\nis published. Where nothing differs no image is made. A new kernel has its layer replaced; the fifth delta takes the place of\nthose before; deltas of more than half of the layers below make a full image. A damaged image is not built upon. The image is booted as by\nrelive image test, and published if it passes; else it stays in STORE/candidates with its consoles, until an update succeeds.',
    arguments: [
      { name: '<profile>', description: 'the name of a profile of the site', completes: 'profile' },
    ],
    options: [
      {
        flags: '--plan',
        description: 'make nothing: say which packages would change, and what that asks of a machine',
      },
      { flags: '--no-test', description: 'publish the image without booting it in QEMU first' },
      { flags: '--full', description: 'a full image, needing none before' },
      {
        flags: '--from <image>',
        description: 'build upon this image (default: the newest)',
        completes: 'image',
      },
      { flags: '--offline', description: 'use what the mirror has, and no network' },
      { flags: '--timings', description: 'say how long each stage took; image show tells it later' },
    ],
    examples: [
      { command: 'relive update demo --plan', says: 'what there would be to bring' },
      { command: 'relive update demo', says: 'the next image' },
      { command: 'relive update demo --full', says: 'a new base' },
    ],
    mounts: true,
    load: async () => await import('./update.ts'),
  },
  {
    name: 'image list',
    summary: 'list the images in the store',
    options: [
      { flags: '--candidates', description: 'those that failed the test of an update instead, and why' },
    ],
    examples: [
      { command: 'relive image list', says: 'by profile, newest first' },
      { command: 'relive image list --candidates', says: 'what was not published' },
    ],
    load: async () => await import('./image-list.ts'),
  },
  {
    name: 'image show',
    summary: 'show what an image consists of',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [{ flags: '--packages', description: 'list its packages, too' }],
    examples: [
      { command: 'relive image show demo', says: 'the newest image of demo' },
      { command: 'relive image show demo --packages', says: 'with its packages and their versions' },
    ],
    load: async () => await import('./image-show.ts'),
  },
  {
    name: 'image diff',
    summary: 'explain how two images differ, down to the file',
    description:
      'What their manifests say, packages, units, and every entry of their trees: content, mode, owner, attributes, time; so too of\ntheir initrds where these differ. Exit status 1 when there is any difference.',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
      {
        name: '[image]',
        description: 'the image to compare it with (default: the first with the one before it)',
        completes: 'image',
      },
    ],
    options: [
      { flags: '--all', description: 'list every entry, also those that differ in their time only' },
      { flags: '--html <file>', description: 'write a page to read, too', completes: 'file' },
    ],
    examples: [
      { command: 'relive image diff demo', says: 'what the newest image brought' },
      { command: 'relive image diff demo-20261122.01 demo-20261122.02', says: 'from one image to another' },
      { command: 'relive image diff demo --html diff.html', says: 'as a page' },
    ],
    mounts: true,
    load: async () => await import('./image-diff.ts'),
  },
  {
    name: 'image sbom',
    summary: 'the bill of materials of an image, as CycloneDX',
    description:
      'Checks the image, then writes CycloneDX 1.6 (JSON): each package that its own dpkg knows, with package URL, digest, source,\nlicences as far as copyright files are machine-readable, and what it depends on; the layers, kernel and initrd. The same image\ngives the same text.',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      {
        flags: '--tracker <file>',
        description: "with the known vulnerabilities, out of the data of Debian's security tracker",
        completes: 'file',
      },
      {
        flags: '--output <file>',
        description: 'where to write it (default: standard output)',
        completes: 'file',
      },
    ],
    examples: [
      { command: 'relive image sbom demo', says: 'of the newest image of demo' },
      { command: 'relive image sbom demo --output demo.cdx.json', says: 'into a file' },
    ],
    load: async () => await import('./image-sbom.ts'),
  },
  {
    name: 'image vulnerabilities',
    summary: 'known vulnerabilities of the packages in an image',
    description:
      "By the data of Debian's security tracker, which you fetch (https://security-tracker.debian.org/tracker/data/json, some 70 MB), for\nthe source packages in the versions that the image's own dpkg knows. Exit status 1 when it has any that matter.",
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      { flags: '--tracker <file>', description: 'the data of the tracker (required)', completes: 'file' },
      { flags: '--all', description: 'list those, too, that Debian calls unimportant' },
    ],
    examples: [
      {
        command: 'relive image vulnerabilities demo --tracker tracker.json',
        says: 'what is known of the newest image of demo',
      },
    ],
    load: async () => await import('./image-vulnerabilities.ts'),
  },
  {
    name: 'image verify',
    summary: 'check images, from the signatures down to every layer',
    arguments: [
      {
        name: '[image]',
        description: 'an image, or a profile for its newest one; all images without it',
        completes: 'image',
      },
    ],
    examples: [
      { command: 'relive image verify', says: 'all images of the store' },
      { command: 'relive image verify demo-20261122.01', says: 'one image; exit status 1 names every fault' },
    ],
    load: async () => await import('./image-verify.ts'),
  },
  {
    name: 'image remove',
    summary: 'remove images, and the layers that no other image needs',
    arguments: [{ name: '<image...>', description: 'images, each by its whole name', completes: 'image' }],
    examples: [
      { command: 'relive image remove demo-20261122.01', says: 'this one; others keep their layers' },
    ],
    load: async () => await import('./image-remove.ts'),
  },
  {
    name: 'image prune',
    summary: 'remove the images that the retention of their profiles lets go',
    description:
      'A profile keeps its newest image in any case, and what "retention" says: keep (the newest ones), daily, weekly, monthly (the newest\nof each day, week, month). Without it all stay; so do pinned images, those in channels,\nthe one that this machine runs and the last good one.',
    arguments: [{ name: '[profile...]', description: 'profiles; all without it', completes: 'profile' }],
    options: [{ flags: '--plan', description: 'remove nothing, explain every decision' }],
    examples: [
      { command: 'relive image prune --plan', says: 'what would go, and why each other image stays' },
      { command: 'relive image prune', says: 'remove it' },
    ],
    load: async () => await import('./image-prune.ts'),
  },
  {
    name: 'image test',
    summary: 'boot an image in QEMU by each firmware, until it reports itself healthy',
    description:
      "Through the GRUB of its ISO, as a machine would: on PCs by BIOS and UEFI (by the site's keys alone, where it is for Secure Boot), else\nby UEFI; at once where cores and memory allow. An image whose initramfs lacks relive's script does not pass. Exit status 1\nwhen one boot fails. Consoles are kept in the cache, consoles/IMAGE.",
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      {
        flags: '--firmware <kinds>',
        description: 'only these of bios, uefi, uefi32, secure-boot, shim, microsoft, separated by commas',
        completes: ['bios', 'uefi', 'uefi32', 'secure-boot', 'shim', 'microsoft', 'bios,uefi'],
      },
      {
        flags: '--accel <kind>',
        description: 'KVM, emulation, or KVM where a tiny guest proves that it works',
        choices: ['auto', 'kvm', 'tcg'],
        default: 'auto',
      },
      {
        flags: '--memory <mib>',
        description: 'memory of each machine in MiB (default: 1024, and what the image copies to RAM)',
      },
      {
        flags: '--timeout <seconds>',
        description: 'how long each may take until it is healthy (default: 300; emulated 900)',
      },
    ],
    examples: [
      { command: 'relive image test demo', says: 'by all that can start it' },
      { command: 'relive image test demo --firmware uefi', says: 'by UEFI only' },
    ],
    load: async () => await import('./image-test.ts'),
  },
  {
    name: 'image pin',
    summary: 'keep an image: neither remove nor prune take it away',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    examples: [{ command: 'relive image pin demo-20261122.01', says: 'until: relive image unpin' }],
    load: async () => await import('./image-pin.ts'),
  },
  {
    name: 'image unpin',
    summary: 'take the pin of an image away',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    examples: [{ command: 'relive image unpin demo-20261122.01', says: 'it may go again' }],
    load: async () => await import('./image-unpin.ts'),
  },
  {
    name: 'image export',
    summary: 'write an image as one file: an ISO that boots, a container, a bundle for another store',
    description:
      'The ISO starts by BIOS and UEFI (for arm64 and armhf by UEFI), from a CD or written byte for byte to a USB stick. GRUB checks the signatures of all\nthat it reads by the public keys of the site. Containers become OCI archives, which podman and skopeo load; the tree of any image\nbecomes a tar archive. The same image gives the same bytes.\nA bundle is for relive image import on another machine; with --since only what the image named there does not have.',
    arguments: [
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [
      {
        flags: '--iso [file]',
        description: 'a hybrid ISO (default: isos/IMAGE.iso in the store)',
        completes: 'file',
      },
      { flags: '--oci <file>', description: 'an OCI archive, of a container', completes: 'file' },
      { flags: '--tar <file>', description: 'the whole tree as a tar archive', completes: 'file' },
      {
        flags: '--bundle <file>',
        description: 'a bundle; - is standard output',
        completes: 'file',
      },
      {
        flags: '--since <image>',
        description: 'of a bundle: leave out the layers of this image, which the receiver has',
        completes: 'image',
      },
    ],
    examples: [
      { command: 'relive image export demo --iso', says: 'the newest image of demo, into the store' },
      { command: 'relive image export demo-20261122.01 --iso /tmp/demo.iso', says: 'one image, elsewhere' },
      { command: 'relive image export box --oci box.tar', says: 'then: podman load --input box.tar' },
      { command: 'relive image export demo --bundle demo.bundle', says: 'for another store' },
      {
        command:
          'relive image export demo --bundle - --since demo-20261122.01 | ssh far relive image import -',
        says: 'through a pipe, only what is new',
      },
    ],
    mounts: ({ oci, tar }) => oci !== undefined || tar !== undefined,
    load: async () => await import('./image-export.ts'),
  },
  {
    name: 'image flatten',
    summary: 'make the next image of the newest one, with the same tree and without deltas',
    description:
      'The tree, the kernel, the initrd and the packages are the same, and proven to be; only the layers are new: a base and a kernel\nlayer. An image without deltas is left as it is. Older images stay as they are; when they go, so do the deltas.',
    arguments: [
      { name: '<image>', description: 'the newest image of a profile, or the profile', completes: 'image' },
    ],
    examples: [
      { command: 'relive image flatten demo', says: 'of base, kernel and deltas make base and kernel' },
    ],
    mounts: true,
    load: async () => await import('./image-flatten.ts'),
  },
  {
    name: 'image import',
    summary: 'bring the image of a bundle into the store',
    description:
      'Reads the bundle once. The manifest must be signed by a key of the site (keys/public.asc) or of --keyring before anything else\nis read; each layer is checked while it is received, and the image appears complete or not at all. Layers that the store has\nare not written again, nor those which an import that was cut off has received. Layers that are missing are named all at once.',
    arguments: [{ name: '<file>', description: 'a bundle; - is standard input', completes: 'file' }],
    options: [
      {
        flags: '--keyring <file>',
        description: "trust these public keys instead of the site's, armoured or binary",
        completes: 'file',
      },
      { flags: '--plan', description: 'say what would be done; only the head of the bundle is read' },
    ],
    examples: [
      { command: 'relive image import demo.bundle', says: 'of a site whose keys this site has' },
      { command: 'relive image import demo.bundle --plan', says: 'what is in it, and what is missing here' },
      {
        command: 'relive image import - --keyring other.asc <demo.bundle',
        says: 'from a pipe, of another site',
      },
    ],
    load: async () => await import('./image-import.ts'),
  },
  {
    name: 'image compare',
    summary: 'pack the system of a profile with every compression, and say what each comes to',
    description:
      'Builds the stages (or takes them from the cache), packs the whole tree with gzip, lzma, lzo, lz4, xz and zstd, and reads\nevery file once. The compression of the profile is taken with its level, the others with their own. Publishes nothing.',
    arguments: [
      { name: '<profile>', description: 'the name of a profile of the site', completes: 'profile' },
    ],
    options: [{ flags: '--offline', description: 'use what the mirror has, and no network' }],
    examples: [
      { command: 'relive image compare demo', says: 'size, time to pack, time to read, who can boot it' },
    ],
    mounts: true,
    load: async () => await import('./image-compare.ts'),
  },
  {
    name: 'serve',
    summary: 'offer store and mirrors over HTTP, read-only',
    description:
      'For relive live pull, boot.http and apt: /store and /mirror/REPOSITORY, to this machine only unless --listen says otherwise. Only\nwhat is published, no lists of directories, nothing hidden, no links that lead out; parts of files (Range). Each answer is told. Ctrl-C ends it.',
    options: [{ flags: '--listen <address>', description: 'address and port', default: '127.0.0.1:3143' }],
    examples: [
      { command: 'relive serve --listen 0.0.0.0:3143', says: 'everybody who reaches this machine' },
      {
        command: 'relive serve --listen [::]:3143 --json',
        says: 'by IPv6 and IPv4, with a log for a program',
      },
    ],
    load: async () => await import('./serve.ts'),
  },
  {
    name: 'channel set',
    summary: 'make machines that follow a channel run an image',
    description:
      "Writes channels/PROFILE/CHANNEL.asc in the store, signed by the site's key: the image, the digest of its manifest, a serial that rises with\neach change, and when it expires. Machines take none with a lower serial than they have seen, and none that has expired.",
    arguments: [
      { name: '<channel>', description: 'stable, testing, or any other name' },
      { name: '<image>', description: 'an image, or a profile for its newest one', completes: 'image' },
    ],
    options: [{ flags: '--days <number>', description: 'how long machines believe it', default: '30' }],
    examples: [
      { command: 'relive channel set stable kiosk', says: 'the newest kiosk' },
      { command: 'relive channel set stable kiosk-20261101.01', says: 'back to an older one' },
    ],
    load: async () => await import('./channel-set.ts'),
  },
  {
    name: 'channel list',
    summary: 'list the channels of the store',
    examples: [{ command: 'relive channel list', says: 'a table' }],
    load: async () => await import('./channel-list.ts'),
  },
  {
    name: 'channel remove',
    summary: 'take a channel away; machines stay with what they have',
    arguments: [
      { name: '<channel>', description: 'the channel' },
      { name: '<profile>', description: 'the profile whose channel it is', completes: 'profile' },
    ],
    examples: [{ command: 'relive channel remove testing kiosk', says: 'of the profile kiosk' }],
    load: async () => await import('./channel-remove.ts'),
  },
  {
    name: 'medium create',
    summary: 'make a disk, a USB stick or a disk file that boots the images',
    description:
      'Writes a partition table (GPT), GRUB for BIOS and UEFI, a store (ext4, label RELIVE) with the images, and empty volumes\n(ext4). The store takes what is left, and so do volumes without a size, in even shares. Says what is on the target and asks\nbefore it erases it; a disk that anything uses is refused. A disk file is sparse, and may be made without root. With sectors\nof 4096 bytes there is no GRUB for BIOS: no BIOS boots from such disks.',
    arguments: [
      { name: '<target>', description: 'a whole disk (/dev/sdb), or a disk file', completes: 'file' },
    ],
    options: [
      { flags: '--size <size>', description: 'of a disk file: 16G (default: 8G, or as large as it is)' },
      {
        flags: '--volume <label[:size]>',
        description: 'volumes for persistent data, separated by commas: DATA:2G,HOME',
      },
      {
        flags: '--image <names>',
        description: 'images, or profiles for their newest ones, separated by commas (default: all profiles)',
        completes: 'image',
      },
      {
        flags: '--sector-size <bytes>',
        description: 'of a disk file (default: 512; a device has its own)',
        choices: ['512', '4096'],
      },
      { flags: '--yes', description: 'erase what is there without asking' },
    ],
    examples: [
      { command: 'relive medium create /dev/sdb', says: 'a stick with the newest image of each profile' },
      { command: 'relive medium create lab.img --size 16G', says: 'a disk file' },
      { command: 'relive medium create /dev/sdb --volume DATA:8G,HOME', says: 'with two volumes' },
      { command: 'relive medium create a.img --image kiosk --yes', says: 'one profile; replaces a.img' },
    ],
    mounts: asRoot,
    load: async () => await import('./medium-create.ts'),
  },
  {
    name: 'medium sync',
    summary: 'bring images to a medium',
    description:
      'Copies the layers that the medium lacks, checks what it wrote, then each image appears by one rename; GRUB is made anew when it\nchanged. Interrupted at any point the medium boots, and the next sync finishes. Images go as --keep\nsays, else as the retention of their profile does; the newest of a profile never. As root the store is mounted; without, the store of a disk file is read out and made anew in a\ncopy of it, which takes room for both beside it.',
    arguments: [
      {
        name: '[target|image...]',
        description:
          'the medium, a disk or a disk file (default: the only one of this host), then images, or profiles for their newest ones (default: all profiles)',
        completes: 'file',
      },
    ],
    options: [
      {
        flags: '--keep <number>',
        description: 'remove all but so many images of each profile (default: its retention)',
      },
      { flags: '--check', description: 'read every layer on the medium, too, and replace damaged ones' },
    ],
    examples: [
      { command: 'relive medium sync', says: 'the stick that is plugged in, the newest images' },
      { command: 'relive medium sync /dev/sdb --keep 3', says: 'and at most three of each profile' },
      { command: 'relive medium sync lab.img kiosk', says: 'one profile, to a disk file' },
    ],
    mounts: asRoot,
    load: async () => await import('./medium-sync.ts'),
  },
  {
    name: 'medium grow',
    summary: 'make a medium as large as its disk',
    description:
      'For a medium that was copied to a larger disk, or a disk file that is to be larger: moves the second copy of the partition\ntable to the end, and makes the store, the last partition, and its file system reach there. Interrupted at any point the medium\nboots, and the next call finishes. A disk file is grown in a copy of it, which then replaces it and takes room beside it; that needs no root.',
    arguments: [{ name: '<target>', description: 'a disk, or a disk file', completes: 'file' }],
    options: [{ flags: '--size <size>', description: 'make a disk file so large: 32G (default: as it is)' }],
    examples: [
      { command: 'relive medium grow /dev/sdb', says: 'a stick that a smaller one was copied to' },
      { command: 'relive medium grow lab.img --size 32G', says: 'a disk file' },
    ],
    mounts: asRoot,
    load: async () => await import('./medium-grow.ts'),
  },
  {
    name: 'medium verify',
    summary: 'check a medium: partitions, file system, GRUB, every image',
    description:
      'Changes nothing. Images are checked by the public keys of the site, GRUB must be what this site, relive and GRUB make. Without\nroot the store of a disk file is read out beside it first. Exit status 1 when it finds anything.',
    arguments: [{ name: '<target>', description: 'a disk, or a disk file', completes: 'file' }],
    examples: [{ command: 'relive medium verify /dev/sdb', says: 'all of a stick' }],
    mounts: asRoot,
    load: async () => await import('./medium-verify.ts'),
  },
  {
    name: 'medium menu',
    summary: 'show the menu that GRUB makes of a store or a medium',
    description:
      'GRUB makes its menu when it is shown: of the images that lie in the store then, the newest first, and of what it remembers of\nthem. This is the same menu, made here; a medium is only read, and nothing mounted. Exit status 1 when GRUB would refuse an image,\nalso one that the menu offers since GRUB looks at its kernel only when it is chosen.',
    arguments: [
      {
        name: '[target]',
        description:
          "a device or disk file, or a store, for example on a mounted medium (default: the site's)",
        completes: 'file',
      },
    ],
    options: [
      {
        flags: '--check <how>',
        description:
          'how GRUB checks what it reads (default: as that of media: signature if the site has a key)',
        choices: ['signature', 'checksum', 'none'],
      },
      { flags: '--next <image>', description: 'start this image once, at the next boot', completes: 'image' },
      {
        flags: '--architecture <name>',
        description:
          'the processor of the machine that shows the menu: it offers what this machine can start (default: amd64, unless no image is for PCs)',
        choices: ['amd64', 'i386', 'arm64', 'armhf'],
      },
    ],
    examples: [
      { command: 'relive medium menu', says: "of the site's own store" },
      { command: 'relive medium menu lab.img', says: 'of a medium' },
      {
        command: 'relive medium menu /mnt --next demo-20261122.01',
        says: 'on a mounted medium; once this image',
      },
    ],
    load: async () => await import('./medium-menu.ts'),
  },
  {
    name: 'refresh',
    summary: 'all of it in one run, for a timer: mirrors, images, media, what goes',
    description:
      'Brings the mirrors that the profiles need up to date and verifies what changed in them; locks each profile and makes an image\nwhere anything differs (several side by side), published if it comes up in QEMU; brings images to the media of relive.yaml that are attached; removes what\nretention lets go; and reports, to the program of relive.yaml too. What fails keeps nothing else from being done. A run that was\ncut off is finished by the next one. Exit status 3: something failed, or another refresh of the site runs.',
    arguments: [
      {
        name: '[profile...]',
        description: 'the profiles (default: all that can be built)',
        completes: 'profile',
      },
    ],
    options: [
      { flags: '--plan', description: 'tell what there would be to do, and make nothing' },
      { flags: '--no-test', description: 'publish images without booting them in QEMU first' },
      { flags: '--offline', description: 'use what the mirrors have, and no network' },
      {
        flags: '--jobs <number>',
        description: 'how many profiles are built at a time (default: by cores and free memory)',
      },
    ],
    examples: [
      { command: 'relive refresh --plan', says: 'what there would be to do' },
      { command: 'relive refresh', says: 'all profiles of the site' },
      { command: 'relive refresh server --quiet', says: 'one of them, with its mirrors; prints the report' },
    ],
    mounts: ({ plan }) => plan !== true,
    load: async () => await import('./refresh.ts'),
  },
  {
    name: 'vm',
    summary: 'boot an image here, in QEMU',
    description:
      'Boots, waits until the guest reports itself healthy on its serial console, powers it off and says how long that took.\nA guest that does not come up is an error with the last screen of its console. What it writes to a disk file that it boots from is dropped.',
    arguments: [
      {
        name: '<image|file>',
        description:
          'an image, a profile for its newest one, an ISO file, or a disk file (FILE.img, or with a slash)',
        completes: 'image',
      },
    ],
    options: [
      {
        flags: '--architecture <name>',
        description: 'the machine for an ISO file (default: amd64; images know theirs)',
        choices: ['amd64', 'i386', 'arm64', 'armhf'],
      },
      {
        flags: '--firmware <kind>',
        description:
          "what starts it (default: bios of PCs, else uefi); uefi32 is UEFI of 32 bits; of those with Secure Boot, secure-boot knows the keys of the site alone, microsoft those of Microsoft, and behind shim Debian's shim knows that of the site, too",
        choices: ['bios', 'uefi', 'uefi32', 'secure-boot', 'shim', 'microsoft'],
      },
      {
        flags: '--accel <kind>',
        description: 'KVM, emulation, or KVM where a tiny guest proves that it works',
        choices: ['auto', 'kvm', 'tcg'],
        default: 'auto',
      },
      { flags: '--memory <mib>', description: 'its memory in MiB', default: '1024' },
      { flags: '--cpus <number>', description: 'its processors', default: '2' },
      {
        flags: '--disk <files>',
        description: 'further disks (raw files or devices), separated by commas; the guest may write to them',
        completes: 'file',
      },
      {
        flags: '--net <kind>',
        description: "its network: none, or QEMU's own",
        choices: ['none', 'user'],
        default: 'none',
      },
      { flags: '--console', description: 'show its serial console' },
      { flags: '--log <file>', description: 'keep all that it prints there', completes: 'file' },
      {
        flags: '--screenshot <file.png>',
        description: 'a picture of its screen, once it has reported',
        completes: 'file',
      },
      {
        flags: '--settle <seconds>',
        description: 'take the picture so long after that: a desktop comes up later than the system',
      },
      {
        flags: '--timeout <seconds>',
        description: 'how long it may take until it is healthy',
        default: '300',
      },
      {
        flags: '--pull-out',
        description:
          'pull the medium out when it is healthy: what runs in RAM goes on, and must power off by itself',
      },
      { flags: '--keep', description: 'leave it running until Ctrl-C' },
    ],
    examples: [
      { command: 'relive vm demo', says: 'does the newest image of demo come up?' },
      { command: 'relive vm demo --firmware uefi --console', says: 'by UEFI, with its console shown' },
      {
        command: 'relive vm factory --disk mirror.img,store.img --memory 4096',
        says: 'with two more disks',
      },
      { command: 'relive vm lab.img --firmware uefi', says: 'a medium; what it writes to itself is dropped' },
      { command: 'relive vm demo.iso --keep --net user', says: 'an ISO, with a network, until Ctrl-C' },
    ],
    load: async () => await import('./vm.ts'),
  },
  {
    name: 'live status',
    summary: 'the image that runs, what in RAM differs from it, and newer images at hand',
    description:
      'Which image, since when, where its layers are, what was changed by hand since the boot, the memory that this takes,\nvolumes, the newer images in the store, what they would ask of this machine, and why a restart is wanted.',
    needsRoot: true,
    options: [liveStore, { flags: '--all', description: 'list every changed file' }],
    examples: [
      { command: 'relive live status', says: 'of this machine' },
      { command: 'relive live status --store /mnt', says: 'with the images of a mounted medium' },
    ],
    load: async () => await import('./live-status.ts'),
  },
  {
    name: 'live plan',
    summary: 'what bringing the running system to an image would do',
    description:
      'Compares the trees of both images and the running system: which files change, which services start anew, what was changed\nby hand, what only a restart can do. The scale of disturbance: nothing, services, switch, kexec, firmware. Changes nothing.',
    privateMounts: true,
    arguments: [
      {
        name: '[image]',
        description: "an image of the store (default: the newest one of this system's profile)",
        completes: 'image',
      },
    ],
    options: [
      liveStore,
      ...liveConflicts,
      { flags: '--all', description: 'list every entry, in the order of writing' },
    ],
    examples: [
      { command: 'relive live plan', says: 'the newest image at hand' },
      {
        command: 'relive live plan server-20261122.02 --store /mnt',
        says: 'another one, of a mounted medium',
      },
    ],
    load: async () => await import('./live-plan.ts'),
  },
  {
    name: 'live pull',
    summary: 'fetch an image from a served store',
    description:
      'Into the store of the medium, into --store, or into RAM where neither can be written. Only layers that are missing; what was cut off is\ngone on with; the image appears when all of it was read and is what its signer made. Without a name: what the channel says, else the newest\nimage of the profile that runs. /etc/relive/live.yaml may say "from" and "channel".',
    arguments: [{ name: '[image]', description: 'an image, or a profile' }],
    options: [
      { flags: '--from <url>', description: 'the served store: http://HOST:3143/store' },
      { flags: '--channel <name>', description: 'the channel to follow' },
      { flags: '--store <dir>', description: 'a store on a volume', completes: 'directory' },
    ],
    needsRoot: true,
    examples: [
      { command: 'relive live pull', says: 'as /etc/relive/live.yaml says' },
      {
        command: 'relive live pull --from http://server:3143/store --channel stable',
        says: 'what stable names',
      },
    ],
    load: async () => await import('./live-pull.ts'),
  },
  {
    name: 'live persist',
    summary: 'what this machine keeps on volumes; keep more; let a volume grow',
    description:
      'list                what is kept, what became of each volume, and the lines for the profile\nadd PATH VOLUME     copies what is at the path to the volume, unless that has it already, and puts the volume in its place\n                    until the next start; prints the line with which the profile keeps it for good\ngrow VOLUME         gives a file system (ext4) all of its disk or partition while it is used, through LUKS where it is\n                    encrypted',
    arguments: [
      {
        name: '<action>',
        description: 'list, add, grow',
        choices: ['list', 'add', 'grow'],
      },
      { name: '[what]', description: 'add: a path; grow: a volume', completes: 'directory' },
      { name: '[volume]', description: 'add: the label of the file system, or UUID=...' },
    ],
    options: [
      { flags: '--how <way>', description: 'add: how the profile is to bring it', choices: persistWays },
      { flags: '--owner <user[:group]>', description: 'add: who owns what is made on the volume' },
      { flags: '--mode <mode>', description: 'add: the mode of what is made on the volume' },
      { flags: '--required', description: 'add: the boot is to stop without the volume' },
      { flags: '--grow', description: 'add: the file system is to grow at boot' },
    ],
    needsRoot: true,
    examples: [
      { command: 'relive live persist list', says: 'what is kept, and the lines of the profile' },
      {
        command: 'relive live persist add /srv/www DATA',
        says: 'from now on, and what the profile is to say',
      },
      { command: 'relive live persist grow DATA', says: 'after its partition was made larger' },
    ],
    load: async () => await import('./live-persist.ts'),
  },
  {
    name: 'live apply',
    summary: 'bring the running system to an image, in memory, without a restart',
    description:
      'Signature and layers are checked first. Then each file is replaced by one rename, libraries before programs, configuration, units,\ndeletions last; users and groups are merged; exactly the services whose files or libraries changed are started anew. A file that\nwas changed by hand stays, with the new one beside it (NAME.relive-new). An apply that was cut off goes on when it is\ncalled again. The next boot is into the image that was booted, unless --default says otherwise. Exit status 1: a service did not start.',
    privateMounts: true,
    arguments: [
      {
        name: '[image]',
        description: "an image of the store (default: the newest one of this system's profile)",
        completes: 'image',
      },
    ],
    options: [
      liveStore,
      ...liveConflicts,
      {
        flags: '--default',
        description: 'the next starts are into this image, too: the menu begins its trials',
      },
      { flags: '--plan', description: 'only say what would be done: relive live plan' },
      { flags: '--all', description: 'with --plan: list every entry' },
    ],
    examples: [
      { command: 'relive live apply', says: 'the newest image at hand' },
      { command: 'relive live apply server-20261101.01', says: 'an older one' },
    ],
    load: async () => await import('./live-apply.ts'),
  },
  {
    name: 'live undo',
    summary: 'take the last apply back',
    description:
      'What was applied since the boot is taken back, the last one first, done or cut off. What was changed by hand since stays, with\nwhat it was before beside it (NAME.relive-old).',
    privateMounts: true,
    options: liveConflicts,
    examples: [{ command: 'relive live undo', says: 'as it was before' }],
    load: async () => await import('./live-undo.ts'),
  },
];
