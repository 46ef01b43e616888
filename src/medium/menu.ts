import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { listImages, type StoredImage, storePaths } from '../image/store.ts';
import { type Environment, readEnvironment } from './environment.ts';
import type { GrubCheck } from './grub.ts';

/** A line of the menu. */
export interface MenuEntry {
  readonly title: string;
  /** The image that it starts, or that it says something of. */
  readonly image?: string;
  /** The file that GRUB does not accept, as a path in the store. */
  readonly refused?: string;
  /** Whether it is started by itself. */
  readonly default: boolean;
}

/** The menu that GRUB makes of a store. */
export interface Menu {
  readonly entries: readonly MenuEntry[];
  /** What GRUB says before it, if anything. */
  readonly notes: readonly string[];
}

/** An image whose boot.cfg GRUB accepts, and what that says of it. */
interface Intact extends StoredImage {
  readonly description: string;
}

const isoPattern = /^[A-Za-z0-9][A-Za-z0-9._+~-]*\.iso$/;

/** What boot.cfg says of the image, where it is accepted: its signature is right, and it calls itself by its own name. */
async function readImage(
  image: StoredImage,
  options: MenuOptions,
  context: Context,
): Promise<Intact | undefined> {
  const file = join(image.directory, 'boot.cfg');
  try {
    const text = await readFile(file, 'utf8');
    if (options.check === 'signature') await verifyDetached(file, `${file}.sig`, options.keyring, context);
    const [, name, description] = /^relive_image '([^'\n]*)' '([^'\n]*)' /.exec(text) ?? [];
    return name === image.name && description !== undefined ? { ...image, description } : undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || isReliveError(error, 'not-authentic')) return undefined;
    throw error;
  }
}

async function isoFiles(store: string): Promise<readonly string[]> {
  try {
    return (await readdir(storePaths.isos(store))).filter((name) => isoPattern.test(name)).toSorted();
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Whether GRUB takes the store for one. */
async function isStore(store: string): Promise<boolean> {
  try {
    const there = await Promise.all(
      [storePaths.images(store), storePaths.layers(store)].map(async (path) =>
        (await stat(path)).isDirectory(),
      ),
    );
    return !there.includes(false);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

export interface MenuOptions {
  readonly check: GrubCheck;
  /** The public keys that GRUB has: armoured text or the path of a keyring. Read for `signature` only. */
  readonly keyring: string;
}

/** What is started by itself, what it goes back to, and what is remembered of them; as runtime/grub/menu.cfg decides it. */
interface Choice {
  readonly default: string | undefined;
  readonly candidate: string | undefined;
  readonly failed: string | undefined;
  readonly good: Intact | undefined;
  readonly previous: Intact | undefined;
  readonly once: string | undefined;
  readonly notes: readonly string[];
}

/** @param intact the newest first */
function choose(intact: readonly Intact[], read: Environment | 'damaged' | undefined): Choice {
  const environment: Environment = read === 'damaged' || read === undefined ? {} : read;
  const named = (name: string | undefined): Intact | undefined => intact.find((image) => image.name === name);
  const good = named(environment.relive_good);
  const main = (good ?? named(environment.relive_trial) ?? intact[0])?.profile;
  const [newest, before] = intact.filter(({ profile }) => profile === main);
  const previous = good ?? before;
  const once = named(environment.relive_next)?.name;
  const settled = { good, previous, once, candidate: undefined, failed: undefined, notes: [] };
  if (read === undefined || newest === undefined || newest.name === environment.relive_good) {
    return { ...settled, default: once ?? newest?.name };
  }
  if (read === 'damaged') {
    const notes = ['grubenv is damaged: the image before the newest is started'];
    return { ...settled, default: (previous ?? newest).name, notes };
  }
  if (environment.relive_trial === newest.name && environment.relive_tries === '3') {
    const notes =
      previous === undefined ? [] : [`${newest.name} did not come up in 3 trials: back to ${previous.name}`];
    return { ...settled, default: once ?? (previous ?? newest).name, failed: newest.name, notes };
  }
  return { ...settled, default: once ?? newest.name, candidate: newest.name };
}

/** The lines of the images of one profile at the top of the menu, newest first. */
function profileEntries(images: readonly Intact[], choice: Choice): MenuEntry[] {
  return images.flatMap((image, index) => {
    const { name, description } = image;
    const prefix =
      index === 0
        ? ''
        : image === choice.good
          ? '  last good one: '
          : image === choice.previous
            ? '  the one before: '
            : name === choice.once
              ? '  this time: '
              : undefined;
    if (prefix === undefined) return [];
    const note =
      index > 0
        ? ''
        : name === choice.failed
          ? ', failed in 3 trials'
          : name === choice.candidate
            ? ', on trial'
            : '';
    return [
      { title: `${prefix}${name}${note}: ${description}`, image: name, default: name === choice.default },
    ];
  });
}

/**
 * The menu that GRUB makes of a store on a medium, by the same rules: images by version, newest first, of each profile
 * the newest and what it goes back to; what GRUB would refuse, and ISO files. The lines for switching off are left out.
 * @param store a store, in a site or on a mounted medium
 */
export async function menuOf(store: string, options: MenuOptions, context: Context): Promise<Menu> {
  const images = (await isStore(store)) ? await listImages(store) : [];
  const intact: Intact[] = [];
  const refused: StoredImage[] = [];
  for (const image of images.toSorted(
    (a, b) => -compare(a.version, b.version) || compare(a.profile, b.profile),
  )) {
    const read = await readImage(image, options, context);
    if (read === undefined) refused.push(image);
    else intact.push(read);
  }
  const choice = choose(intact, await readEnvironment(store));
  const isos = await isoFiles(store);
  return {
    notes: choice.notes,
    entries: [
      ...[...new Set(intact.map(({ profile }) => profile))].flatMap((profile) => [
        ...profileEntries(
          intact.filter((image) => image.profile === profile),
          choice,
        ),
        { title: `  ${profile}: all images, other ways to start`, default: false },
      ]),
      ...refused.map(({ name, profile, version }) => {
        const file = `/images/${profile}/${version}/boot.cfg`;
        return { title: `${name}: refused: ${file}`, image: name, refused: file, default: false };
      }),
      ...(isos.length === 0 ? [] : [{ title: 'ISO files', default: false }]),
    ],
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
