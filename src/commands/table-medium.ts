import type { CommandSpec } from './command.ts';
import { asRoot } from './medium.ts';

/** Commands for disks, USB sticks and disk files. */
export const mediumCommands: readonly CommandSpec[] = [
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
      {
        flags: '--filesystem <type>',
        description:
          'of the store (default: ext4); exfat is for machines that read no ext4: it needs root, has no journal and cannot grow',
        choices: ['ext4', 'exfat'],
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
    // A store of exFAT is read by a mount.
    mounts: asRoot,
    load: async () => await import('./medium-menu.ts'),
  },
];
