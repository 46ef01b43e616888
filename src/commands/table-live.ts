import { persistWays } from '../site/volume.ts';
import type { ArgumentSpec, CommandSpec, OptionSpec } from './command.ts';

/** Where `relive live` takes images from. */
const liveStore: OptionSpec = {
  flags: '--store <dir>',
  description: 'the store to take images from (default: what was fetched, or the medium)',
  completes: 'directory',
};

/** The image that the running system is brought to. */
const appliedImage: ArgumentSpec = {
  name: '[image]',
  description: "an image of the store (default: the newest one of this system's profile)",
  completes: 'image',
};

/** The image that is started anew. */
const startedImage: ArgumentSpec = {
  name: '[image]',
  description: 'an image, or a profile for its newest one',
  completes: 'image',
};

/** Whether an image that was gone to without a restart is what restarts are into. */
const liveDefault: OptionSpec = {
  flags: '--default',
  description: 'the next starts are into this image, too: the menu begins its trials',
};

/** What `relive live` does about files that were changed by hand since the boot. */
const liveConflicts: readonly OptionSpec[] = [
  { flags: '--theirs', description: 'where a file was changed by hand, take the one that the image has' },
  { flags: '--ours', description: 'keep it, and put nothing beside it' },
];

/** Commands on a machine that an image has started. */
export const liveCommands: readonly CommandSpec[] = [
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
    arguments: [appliedImage],
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
    arguments: [appliedImage],
    options: [
      liveStore,
      ...liveConflicts,
      liveDefault,
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
  {
    name: 'live switch',
    summary: 'make all of user space new on the same kernel (soft-reboot)',
    description:
      "The image's layers are checked and mounted beside the running ones; volumes and the machine's identity go along; then systemd ends all\nservices and goes into it. An image with another kernel is refused. Without a name: the newest image that follows the running one,\nelse that one anew. The next boot is into the image that was booted, unless --default says otherwise.",
    arguments: [startedImage],
    options: [liveStore, liveDefault],
    needsRoot: true,
    examples: [
      { command: 'relive live switch', says: 'to the newest image' },
      { command: 'relive live switch kiosk-20261122.01', says: 'to this one' },
    ],
    load: async () => await import('./live-switch.ts'),
  },
  {
    name: 'live reboot',
    summary: 'restart into an image without the firmware (kexec)',
    description:
      'Kernel and initrd are checked in RAM before the kernel gets them; services end in order. An image that has not come up before is on trial,\nas from the menu. Without a name: the newest image that follows the running one, else that one again.',
    arguments: [startedImage],
    options: [liveStore, { flags: '--firmware', description: 'go the long way: firmware and menu' }],
    needsRoot: true,
    examples: [
      { command: 'relive live reboot', says: 'into the newest image' },
      { command: 'relive live reboot --firmware', says: 'by way of the menu' },
    ],
    load: async () => await import('./live-reboot.ts'),
  },
];
