import type { CommandSpec } from './command.ts';

/** What the commands of a group are about. */
export const groups: Readonly<Record<string, string>> = {
  keys: 'the keys which images are signed with',
  profile: 'the profiles of a site',
  image: 'the images in a store',
};

/** Every command, in the order of the help. */
export const commands: readonly CommandSpec[] = [];
