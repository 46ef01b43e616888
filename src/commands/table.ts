import { type CommandSpec, nouns, type OptionSpec } from './command.ts';
import { channelCommands } from './table-channel.ts';
import { imageCommands } from './table-image.ts';
import { liveCommands } from './table-live.ts';
import { mediumCommands } from './table-medium.ts';
import { mirrorCommands } from './table-mirror.ts';
import { siteCommands } from './table-site.ts';

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
  ...mirrorCommands,
  ...siteCommands,
  ...imageCommands,
  ...channelCommands,
  ...mediumCommands,
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
        flags: '--power-off <seconds>',
        description: 'how long it may take to power off, then it is ended; 0: at once',
        default: '60',
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
  ...liveCommands,
];
