import { tmpdir } from 'node:os';
import type { Context } from '../core/event.ts';
import { withScratchDirectory } from '../host/anonymous.ts';
import { decideImages } from '../image/prune.ts';
import { planUpdate, type UpdatePlan } from '../image/update.ts';
import type { Site } from '../site/site.ts';
import { attachedMedium } from './media.ts';
import { namedContext } from './named.ts';
import { chooseProfiles, repositoriesOf } from './refresh.ts';
import { type Failure, failureOf } from './report.ts';

/** What a refresh would do. */
export interface RefreshPlan {
  /** The repositories whose mirrors would be brought up to date and verified. */
  readonly mirrors: readonly string[];
  readonly profiles: readonly { readonly profile: string; readonly plan: UpdatePlan }[];
  /** The media, and the disk or disk file of those that are attached. */
  readonly media: readonly { readonly medium: string; readonly target: string | undefined }[];
  /** Images that retention lets go now, before there are new ones. */
  readonly prune: readonly string[];
  readonly failures: readonly Failure[];
}

/**
 * Tells what a refresh would do, without doing it. Only the indices of the mirrors are brought up to date, unless that is
 * not wanted, because the packages follow from them.
 * @throws ReliveError `not-found` for a name that no profile has
 */
export async function planRefresh(
  site: Site,
  names: readonly string[],
  offline: boolean,
  context: Context,
): Promise<RefreshPlan> {
  const chosen = await chooseProfiles(site, names, context);
  const failures = [...chosen.failures];
  const attempt = async <T>(what: string, work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (error) {
      failures.push(failureOf(what, error, context));
      return undefined;
    }
  };
  const profiles: RefreshPlan['profiles'][number][] = [];
  await withScratchDirectory(tmpdir(), async (scratch) => {
    for (const profile of chosen.good) {
      const { name } = profile;
      const own = namedContext(context, name);
      const options = { offline, from: undefined };
      const plan = await attempt(
        `profile ${name}`,
        async () => await planUpdate(site, profile, options, scratch, own),
      );
      if (plan !== undefined) profiles.push({ profile: name, plan });
    }
  });
  const media: RefreshPlan['media'][number][] = [];
  for (const { medium } of site.refresh.media) {
    const target = await attempt(`medium ${medium}`, async () => await attachedMedium(medium, context));
    media.push({ medium, target });
  }
  const kept = chosen.good.map(({ name }) => name);
  const decisions =
    kept.length === 0 ? [] : await attempt('prune', async () => await decideImages(site, kept));
  const prune = (decisions ?? []).filter(({ keeps }) => !keeps).map(({ image }) => image.name);
  return {
    mirrors: repositoriesOf(chosen.good).map(({ name }) => name),
    ...{ profiles, media, prune, failures },
  };
}
