import { listImages } from '../image/store.ts';
import type { CommandResult } from '../report/reporter.ts';
import { shippedProfiles } from '../site/init.ts';
import { profileNames } from '../site/profile.ts';
import { loadSite } from '../site/site.ts';
import { type Call, type Noun, nouns, requiredArgument } from './command.ts';

function nounOf(word: string): Noun {
  const noun = nouns.find((each) => each === word);
  if (noun === undefined) throw new TypeError(`${word} is not in the table's choices`);
  return noun;
}

/** The names of a kind that there are, for the shells: of the site, save those of the shipped profiles. */
async function namesOf(noun: Noun, siteDirectory: string): Promise<readonly string[]> {
  if (noun === 'shipped') return (await shippedProfiles()).map(({ name }) => name);
  const site = await loadSite(siteDirectory);
  if (noun === 'profile') return await profileNames(site);
  if (noun === 'repository') return Object.keys(site.repositories);
  const images = await listImages(site.store);
  // A profile's name stands for its newest image.
  return [...new Set(images.map(({ profile }) => profile)), ...images.map(({ name }) => name)];
}

export async function run(call: Call): Promise<CommandResult> {
  const names = await namesOf(nounOf(requiredArgument(call, 0)), call.siteDirectory);
  return { ok: true, data: { names }, text: names.join('\n') };
}
