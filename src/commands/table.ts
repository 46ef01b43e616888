import type { CommandSpec } from './command.ts';

/** What the commands of a group are about. */
export const groups: Readonly<Record<string, string>> = {
  keys: 'the keys which images are signed with',
  profile: 'the profiles of a site',
  image: 'the images in a store',
};

/** Every command, in the order of the help. */
export const commands: readonly CommandSpec[] = [
  {
    name: 'init',
    summary: 'make a new site with an example profile',
    description:
      "Writes relive.yaml, a shipped profile with its overlay, and .gitignore. The addresses of Debian's archives are those which the\nhost's own apt uses; on another system name one with --archive. The directory must be new, empty or a git repository.",
    arguments: [
      { name: '[dir]', description: 'the directory to make or to fill (default: the current one)' },
    ],
    options: [
      { flags: '--profile <name>', description: 'the shipped profile to begin with', default: 'demo' },
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
    name: 'profile list',
    summary: 'list the profiles of the site',
    examples: [{ command: 'relive profile list', says: 'a table' }],
    load: async () => await import('./profile-list.ts'),
  },
  {
    name: 'profile show',
    summary: 'print a profile with all it inherits and where each value comes from',
    arguments: [{ name: '<profile>', description: 'the profile' }],
    examples: [{ command: 'relive profile show demo', says: 'YAML; comments name file and line' }],
    load: async () => await import('./profile-show.ts'),
  },
  {
    name: 'profile check',
    summary: 'check profiles: their files, what they extend and what they refer to',
    arguments: [{ name: '[profile...]', description: 'the profiles (default: all)' }],
    examples: [
      { command: 'relive profile check', says: 'all of the site; exit status 1 when something is wrong' },
      { command: 'relive profile check kiosk', says: 'one, with what it extends' },
    ],
    load: async () => await import('./profile-check.ts'),
  },
];
