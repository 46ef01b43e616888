import { stat } from 'node:fs/promises';
import { ReliveError } from '../core/error.ts';
import { parseImageName, profilePattern } from '../image/name.ts';
import { syncMedium } from '../medium/sync.ts';
import { formatBytes } from '../report/format.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, manyArguments } from './command.ts';
import { countOption } from './medium.ts';

/** The medium, if the first word is one: a path, a name that no image can have, or a file that is there. */
async function split(
  words: readonly string[],
): Promise<{ readonly target: string | undefined; readonly images: readonly string[] }> {
  const [first, ...others] = words;
  const isTarget =
    first !== undefined &&
    (!(profilePattern.test(first) || parseImageName(first) !== undefined) ||
      (await stat(first).catch(() => undefined))?.isFile() === true);
  return isTarget ? { target: first, images: others } : { target: undefined, images: words };
}

function part(words: string, names: readonly string[]): string[] {
  return names.length === 0 ? [] : [`${words} ${names.join(', ')}`];
}

export async function run(call: Call): Promise<CommandResult> {
  const site = await loadSite(call.siteDirectory);
  const { target, images } = await split(manyArguments(call, 0));
  const stray = images.find((name) => name.includes('/'));
  if (stray !== undefined) {
    throw new ReliveError('usage', `${stray} is no image: one medium at a time, and it comes first`);
  }
  const options = { images, keep: countOption(call, 'keep'), check: call.options['check'] === true };
  const done = await syncMedium(site, target, options, call.context);
  const changes = [
    ...part('brought', done.added),
    ...part('removed', done.removed),
    ...part('made anew: GRUB for', done.grub),
    ...part('mended:', done.mended),
  ];
  const state = `${done.images.length} images on it, ${formatBytes(done.freeBytes)} free`;
  return {
    ok: true,
    data: { ...done },
    text: `${done.target}: ${changes.length === 0 ? 'nothing to do' : changes.join('; ')}\n${state}`,
  };
}
