import type { CommandSpec } from './command.ts';

/** Commands for mirrors of APT repositories. */
export const mirrorCommands: readonly CommandSpec[] = [
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
];
