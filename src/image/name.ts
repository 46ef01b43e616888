import { ReliveError } from '../core/error.ts';

/** What a version looks like: the day (UTC) and a number within it, so that names sort by age everywhere. */
export const versionPattern = /^\d{8}\.\d{2}$/;
/** What a profile's name looks like. It becomes part of file names and of GRUB scripts. */
export const profilePattern = /^[a-z0-9][a-z0-9-]*$/;

const imagePattern = /^([a-z0-9][a-z0-9-]*)-(\d{8}\.\d{2})$/;

export interface ImageName {
  readonly profile: string;
  readonly version: string;
}

/** PROFILE-VERSION, the name of an image. */
export function imageName({ profile, version }: ImageName): string {
  return `${profile}-${version}`;
}

/** The parts of an image's name, or undefined for what is none. */
export function parseImageName(name: string): ImageName | undefined {
  const [, profile, version] = imagePattern.exec(name) ?? [];
  return profile === undefined || version === undefined ? undefined : { profile, version };
}

/**
 * The version after `newest`: today's first, or the next one of the day. A clock that went back does not lead behind
 * what is there.
 * @throws ReliveError `exists` after 99 images of today
 */
export function nextVersion(newest: string | undefined, now: Date): string {
  const today = now.toISOString().slice(0, 10).replaceAll('-', '');
  if (newest === undefined || newest.slice(0, 8) < today) return `${today}.01`;
  const number = Number(newest.slice(9)) + 1;
  if (number > 99) {
    // A clock that was ahead once must not end all updates until that day comes.
    if (newest.slice(0, 8) > today) return nextVersion(newest, dayAfter(newest));
    throw new ReliveError('exists', `there are 99 images of ${newest.slice(0, 8)} already`, {
      hint: 'remove some of them, or go on tomorrow',
    });
  }
  return `${newest.slice(0, 8)}.${String(number).padStart(2, '0')}`;
}

function dayAfter(version: string): Date {
  const [, year, month, day] = /^(\d{4})(\d{2})(\d{2})/.exec(version) ?? [];
  return new Date(Date.UTC(Number(year), Number(month) - 1, Number(day) + 1));
}

/** A number that rises with the version: whoever keeps the highest one seen cannot be led back to an older image. */
export function serialOf(version: string): number {
  return Number(version.replace('.', ''));
}
