import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Finding } from '../core/event.ts';
import { trustedKeys } from '../image/keys.ts';
import { findImage } from '../image/store.ts';
import { mediumKeys } from '../medium/disk-grub.ts';
import { chooseOnce } from '../medium/environment.ts';
import { grubChecks } from '../medium/grub.ts';
import { drawMenu, type Menu, menuOf } from '../medium/menu.ts';
import { withMenuStore } from '../medium/menu-store.ts';
import { startedArchitectures } from '../medium/starters.ts';
import type { CommandResult } from '../report/reporter.ts';
import { loadSite } from '../site/site.ts';
import { type Call, choiceOption, optionalArgument, optionValue } from './command.ts';

export async function run(call: Call): Promise<CommandResult> {
  const { context } = call;
  const site = await loadSite(call.siteDirectory);
  const given = optionalArgument(call, 0);
  const place = given === undefined ? site.store : resolve(given);
  // As the GRUB of a medium of this site.
  const asMedium = (await mediumKeys(site)) === undefined ? 'checksum' : 'signature';
  const wanted = optionValue(call, 'check') ?? asMedium;
  const check = grubChecks.find((each) => each === wanted);
  if (check === undefined) {
    throw new ReliveError('usage', `--check takes one of ${grubChecks.join(', ')}, not ${wanted}`);
  }
  const next = optionValue(call, 'next');
  const keyring = check === 'signature' ? await trustedKeys(site) : '';
  const machine = choiceOption(call, 'architecture', startedArchitectures);
  const show = async (store: string): Promise<Menu> =>
    await menuOf(store, { check, keyring, architecture: machine }, context);
  let menu: Menu;
  if (await isStoreDirectory(place, given === undefined)) {
    if (next !== undefined) await chooseOnce(place, (await findImage(place, next)).name);
    menu = await show(place);
  } else {
    if (next !== undefined) {
      throw new ReliveError('usage', '--next writes into a store, and a medium is only read here', {
        hint: 'mount the medium, and name the directory that it is mounted at',
      });
    }
    menu = await withMenuStore(place, context, show);
  }
  const findings = menu.entries.flatMap(({ image, refused, damaged, reason }): Finding[] => {
    const path = refused ?? damaged;
    if (path === undefined || reason === undefined) return [];
    return [{ event: 'finding', kind: 'corrupt', path, detail: `GRUB refuses ${image}: ${reason}` }];
  });
  for (const finding of findings) context.emit(finding);
  const { entries, notes, architecture } = menu;
  return {
    ok: findings.length === 0,
    data: { store: place, check, architecture, entries, notes },
    text: entries.length === 0 ? `${place} holds nothing that a menu could offer` : drawMenu(menu),
  };
}

/** The site's own store is not there before its first build. */
async function isStoreDirectory(place: string, own: boolean): Promise<boolean> {
  try {
    return (await stat(place)).isDirectory();
  } catch (error) {
    if (own && systemCode(error) === 'ENOENT') return true;
    throw error;
  }
}
