import { isReliveError } from '../core/error.ts';
import { loadProfile, type Profile } from '../site/profile.ts';
import type { Site } from '../site/site.ts';
import type { StoredImage } from './store.ts';

/** How many images of a profile stay: the newest ones, and the newest of each of the last days, weeks and months that have some. */
export type Retention = NonNullable<Profile['retention']>;

/** What becomes of an image, and why. */
export interface Decision {
  readonly image: StoredImage;
  readonly keeps: boolean;
  /** Each of them alone keeps the image; for one that goes: why nothing does. */
  readonly reasons: readonly string[];
}

/** What no policy removes. */
export interface Protected {
  /** Names of images that somebody has pinned. */
  readonly pinned: ReadonlySet<string>;
  /** Names of images that channels name. */
  readonly channels?: ReadonlySet<string>;
  /** The name of the image that this machine runs, if it runs one. */
  readonly booted: string | undefined;
  /** The name of the image to which the menu of the store goes back. */
  readonly good?: string | undefined;
}

const dayMilliseconds = 86_400_000;

/** The day of a version, as UTC midnight. */
function dayOf({ version }: StoredImage): Date {
  const [, year = '', month = '', day = ''] = /^(\d{4})(\d{2})(\d{2})/.exec(version) ?? [];
  return new Date(`${year}-${month}-${day}T00:00:00Z`);
}

/** The Monday of its week (ISO 8601): weeks have no number that says which year's they are. */
function weekOf(day: Date): string {
  const monday = new Date(day.getTime() - ((day.getUTCDay() + 6) % 7) * dayMilliseconds);
  return monday.toISOString().slice(0, 10);
}

const periods = [
  ['daily', 'day', (day: Date) => day.toISOString().slice(0, 10)],
  ['weekly', 'week', weekOf],
  ['monthly', 'month', (day: Date) => day.toISOString().slice(0, 7)],
] as const;

/**
 * Decides about the images of one profile. The newest stays in any case, so that there is something to boot and to update.
 * @param images of one profile, newest first
 * @param policy undefined: all stay
 */
export function decide(
  images: readonly StoredImage[],
  policy: Retention | undefined,
  { pinned, channels, booted, good }: Protected,
): Decision[] {
  const reasons = new Map(images.map(({ name }) => [name, [] as string[]]));
  const keep = ({ name }: StoredImage, reason: string): void => void reasons.get(name)?.push(reason);
  for (const [index, image] of images.entries()) {
    if (index === 0) keep(image, 'the newest');
    else if (index < (policy?.keep ?? 0)) keep(image, `among the newest ${policy?.keep}`);
    if (pinned.has(image.name)) keep(image, 'pinned');
    if (channels?.has(image.name) === true) keep(image, 'in a channel');
    if (image.name === booted) keep(image, 'running here');
    if (image.name === good) keep(image, 'the last good one');
    if (policy === undefined) keep(image, 'the profile has no retention');
  }
  for (const [key, unit, periodOf] of periods) {
    const count = policy?.[key] ?? 0;
    const seen = new Set<string>();
    for (const image of images) {
      const period = periodOf(dayOf(image));
      if (seen.has(period) || seen.size >= count) continue;
      seen.add(period);
      keep(image, `the newest of its ${unit}`);
    }
  }
  return images.map((image) => {
    const why = reasons.get(image.name) ?? [];
    return {
      image,
      keeps: why.length > 0,
      reasons: why.length > 0 ? why : ['outside of what the profile keeps'],
    };
  });
}

/** What a profile says of its images; a profile that is gone, or that others only extend, says nothing. */
export async function retentionOf(site: Site, name: string): Promise<Retention | undefined> {
  try {
    return (await loadProfile(site, name)).retention;
  } catch (error) {
    if (isReliveError(error, 'not-found')) return undefined;
    throw error;
  }
}
