import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, messageOf } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { digestFile, directoryNames, exists, ifThere } from '../host/files.ts';
import { verifyDetached } from '../host/gpgv.ts';
import { bootFiles, parseSums } from '../image/seal.ts';
import { listImages, type StoredImage, storePaths } from '../image/store.ts';
import { type Environment, readEnvironment } from './environment.ts';
import type { GrubCheck } from './grub.ts';
import { startTogether } from './starters.ts';

/** A line of the menu. */
export interface MenuEntry {
  readonly title: string;
  /** The image that it starts, or that it says something of. */
  readonly image?: string;
  /** The file that GRUB does not accept, as a path in the store: there is no more than a line that says so. */
  readonly refused?: string;
  /** A file that GRUB will not accept when the image is chosen: it looks at it only then. */
  readonly damaged?: string;
  /** What is wrong with that file. */
  readonly reason?: string;
  /** Whether it is started by itself. */
  readonly default: boolean;
}

/**
 * A menu as GRUB draws it in text: 80 columns, the chosen line marked; with the lines for switching off.
 */
export function drawMenu({ entries, notes }: Menu): string {
  const inner = 76;
  const lines = [
    ...entries.map(({ title, default: chosen }) => `${chosen ? '*' : ' '}${title}`),
    ' Restart',
    ' Power off',
  ].map((line) => (line.length > inner ? `${line.slice(0, inner - 1)}>` : line.padEnd(inner)));
  const edge = `+${'-'.repeat(inner)}+`;
  return [...notes.map((note) => `relive: ${note}`), edge, ...lines.map((line) => `|${line}|`), edge].join(
    '\n',
  );
}

/** The menu that GRUB makes of a store. */
export interface Menu {
  readonly entries: readonly MenuEntry[];
  /** What GRUB says before it, if anything. */
  readonly notes: readonly string[];
  /** The processor of the machine that shows it. */
  readonly architecture: string;
}

/** An image whose boot.cfg GRUB accepts, and what that says of it. */
interface Intact extends StoredImage {
  readonly description: string;
  readonly fault: Fault | undefined;
}

/** A file that GRUB does not accept. */
interface Fault {
  /** As a path in the store. */
  readonly path: string;
  readonly reason: string;
}

const isoPattern = /^[A-Za-z0-9][A-Za-z0-9._+~-]*\.iso$/;

/** What GRUB finds wrong with one file of an image, or undefined. */
async function faultOf(
  { directory, profile, version }: StoredImage,
  name: string,
  { check, keyring }: MenuOptions,
  context: Context,
): Promise<Fault | undefined> {
  const file = join(directory, name);
  const fault = (reason: string): Fault => ({ path: `/images/${profile}/${version}/${name}`, reason });
  if (!(await exists(file))) return fault('it is not there');
  if (check !== 'signature') return undefined;
  if (!(await exists(`${file}.sig`))) return fault('it has no signature');
  try {
    await verifyDetached(file, `${file}.sig`, keyring, context, { as: 'it' });
    return undefined;
  } catch (error) {
    if (!isReliveError(error, 'not-authentic')) throw error;
    return fault(messageOf(error).replaceAll(/\s*\n\s*/g, '; '));
  }
}

/** What GRUB finds wrong when the image is chosen: with its list of checksums, its kernel, its initrd. */
async function faultWhenChosen(
  image: StoredImage,
  options: MenuOptions,
  context: Context,
): Promise<Fault | undefined> {
  for (const name of bootFiles) {
    const fault = await faultOf(image, name, options, context);
    if (fault !== undefined) return fault;
  }
  if (options.check !== 'checksum') return undefined;
  const algorithm = (await exists(join(image.directory, 'boot.sha512'))) ? 'sha512' : 'sha256';
  const list = `boot.${algorithm}`;
  const path = `/images/${image.profile}/${image.version}/${list}`;
  if (!(await exists(join(image.directory, list)))) return { path, reason: 'it is not there' };
  for (const [name, digest] of parseSums(await readFile(join(image.directory, list), 'utf8'))) {
    const file = join(image.directory, name);
    const there = !name.includes('/') && (await exists(file));
    if (!there) return { path, reason: `it names ${name}, which is not there` };
    if ((await digestFile(file, algorithm, context.signal)).digest !== digest)
      return { path, reason: `${name} has another checksum` };
  }
  return undefined;
}

/**
 * What boot.cfg says of the image, where GRUB accepts it: its signature is right, and it calls itself by its own name; else what
 * is wrong with it.
 */
async function readImage(
  image: StoredImage,
  options: MenuOptions,
  context: Context,
): Promise<Intact | Fault> {
  const fault = await faultOf(image, 'boot.cfg', options, context);
  if (fault !== undefined) return fault;
  const text = await readFile(join(image.directory, 'boot.cfg'), 'utf8');
  const [, name, description] = /^relive_image '([^'\n]*)' '([^'\n]*)' /.exec(text) ?? [];
  if (name === image.name && description !== undefined)
    return { ...image, description, fault: await faultWhenChosen(image, options, context) };
  const reason = name === undefined ? 'it is none of relive' : `it is that of ${name}`;
  return { path: `/images/${image.profile}/${image.version}/boot.cfg`, reason };
}

async function isoFiles(store: string): Promise<readonly string[]> {
  return (await directoryNames(storePaths.isos(store))).filter((name) => isoPattern.test(name));
}

/** Whether GRUB takes the store for one. */
async function isStore(store: string): Promise<boolean> {
  const parts = [storePaths.images(store), storePaths.layers(store)];
  const there = await Promise.all(parts.map(async (path) => await ifThere(stat(path))));
  return there.every((status) => status?.isDirectory());
}

export interface MenuOptions {
  readonly check: GrubCheck;
  /** The public keys that GRUB has: armoured text or the path of a keyring. Read for `signature` only. */
  readonly keyring: string;
  /** The processor of the machine that shows it; undefined: a PC, unless all images are for other machines. */
  readonly architecture?: string | undefined;
}

/** The processor that an image is for: the last word of its description, as GRUB takes it. */
function processorOf({ description }: Intact): string {
  return / ([a-z0-9]+)$/.exec(description)?.[1] ?? '';
}

/** The processor of the machine that a menu is for. */
function machineOf(intact: readonly Intact[], { architecture }: MenuOptions): string {
  const processors = intact.map(processorOf);
  const pc = 'amd64';
  if (architecture !== undefined || processors.some((each) => startTogether(each, pc)))
    return architecture ?? pc;
  return processors[0] ?? pc;
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
    const { name, description, fault } = image;
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
      {
        title: `${prefix}${name}${note}: ${description}`,
        image: name,
        default: name === choice.default,
        ...(fault === undefined ? {} : { damaged: fault.path, reason: fault.reason }),
      },
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
  const read: Intact[] = [];
  const refused: (Fault & { readonly name: string })[] = [];
  for (const image of images.toSorted(
    (a, b) => -compare(a.version, b.version) || compare(a.profile, b.profile),
  )) {
    const one = await readImage(image, options, context);
    if ('reason' in one) refused.push({ ...one, name: image.name });
    else read.push(one);
  }
  const architecture = machineOf(read, options);
  const intact = read.filter((image) => startTogether(processorOf(image), architecture));
  const choice = choose(intact, await readEnvironment(store));
  const isos = await isoFiles(store);
  return {
    notes: choice.notes,
    architecture,
    entries: [
      ...[...new Set(intact.map(({ profile }) => profile))].flatMap((profile) => [
        ...profileEntries(
          intact.filter((image) => image.profile === profile),
          choice,
        ),
        { title: `  ${profile}: all images, other ways to start`, default: false },
      ]),
      ...refused.map(({ name, path, reason }) => ({
        title: `${name}: refused: ${path}`,
        image: name,
        refused: path,
        reason,
        default: false,
      })),
      ...(intact.length === read.length ? [] : [{ title: 'Images for other machines', default: false }]),
      ...(isos.length === 0 ? [] : [{ title: 'ISO files', default: false }]),
    ],
  };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
