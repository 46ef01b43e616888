import type { CommandSpec } from './command.ts';

/** Commands that offer images to machines. */
export const channelCommands: readonly CommandSpec[] = [
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
];
