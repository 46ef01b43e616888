import { join } from 'node:path';
import { home } from '../core/home.ts';

/** The profiles that ship with relive: NAME/profile.yaml and NAME/overlay/. */
export const shippedDirectory = join(home, 'profiles');

/** The file of a shipped profile, should there be one of that name. */
export function shippedProfile(name: string): string {
  return join(shippedDirectory, name, 'profile.yaml');
}

/** The overlay of a shipped profile, should it have one. */
export function shippedOverlay(name: string): string {
  return join(shippedDirectory, name, 'overlay');
}
