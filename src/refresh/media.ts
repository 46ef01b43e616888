import { realpath } from 'node:fs/promises';
import { basename } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { type BlockDevice, blockDevices } from '../host/disk.ts';
import { ifThere } from '../host/files.ts';
import { syncMedium } from '../medium/sync.ts';
import type { RefreshedMedium, Site } from '../site/site.ts';
import { namedContext } from './named.ts';
import { type Failure, failureOf, type MediumReport } from './report.ts';

const uuidPrefix = 'UUID=';

/**
 * The disk that has a label or a UUID (`UUID=...`), itself or in one of its parts, or undefined.
 * @throws ReliveError `usage` where several have it
 */
export function diskNamed(name: string, disks: readonly BlockDevice[]): BlockDevice | undefined {
  const uuid = name.startsWith(uuidPrefix) ? name.slice(uuidPrefix.length).toLowerCase() : undefined;
  const found = disks.filter((disk) =>
    [disk, ...disk.parts].some(({ labels, uuids }) =>
      uuid === undefined ? labels.includes(name) : uuids.some((one) => one.toLowerCase() === uuid),
    ),
  );
  if (found.length <= 1) return found[0];
  throw new ReliveError('usage', `several disks have ${name}: ${found.map((disk) => disk.name).join(', ')}`, {
    hint: 'unplug all but one, or name it by UUID= or a path of /dev/disk/by-id in relive.yaml',
  });
}

/** The disk or disk file that a medium of relive.yaml is, or undefined where it is not attached. @throws as `diskNamed` */
export async function attachedMedium(medium: string, context: Context): Promise<string | undefined> {
  if (!medium.includes('/')) return diskNamed(medium, await blockDevices(undefined, context))?.name;
  return await ifThere(realpath(medium));
}

/** Brings a medium up to date if it is attached. */
export async function refreshMedium(
  site: Site,
  { medium, images }: RefreshedMedium,
  context: Context,
): Promise<{ readonly report: MediumReport; readonly failure?: Failure }> {
  const nothing = { medium, target: undefined, added: [], removed: [], copied: 0, free: undefined };
  let target: string | undefined;
  try {
    target = await attachedMedium(medium, context);
    if (target === undefined) return { report: { ...nothing, outcome: 'absent' } };
    const options = { images, keep: undefined, check: false };
    const done = await syncMedium(site, target, options, namedContext(context, basename(medium)));
    const { added, removed, copiedBytes: copied, freeBytes: free, grub, mended } = done;
    const changes = added.length + removed.length + grub.length + mended.length;
    const outcome = changes === 0 ? 'unchanged' : 'synced';
    return { report: { medium, outcome, target, added, removed, copied, free } };
  } catch (error) {
    const failure = failureOf(`medium ${medium}`, error, context);
    return { report: { ...nothing, target, outcome: 'failed' }, failure };
  }
}
