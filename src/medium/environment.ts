import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import { exists, ifThere, writeFileAtomic } from '../host/files.ts';

/** The size of a block, to which GRUB insists. */
const blockBytes = 1024;
const firstLine = '# GRUB Environment Block\n';

/** What GRUB's menu remembers from one start to the next (docs/booting.md); whoever can write the medium can write it. */
export interface Environment {
  /** The image that came up last, by its own report. */
  readonly relive_good?: string;
  /** The image on trial, and how often it was started: 1 to 3. */
  readonly relive_trial?: string;
  readonly relive_tries?: string;
  /** The image that is started once. */
  readonly relive_next?: string;
}

const names = ['relive_good', 'relive_trial', 'relive_tries', 'relive_next'] as const;

/** The environment block of a store. */
export function environmentFile(store: string): string {
  return join(store, 'grubenv');
}

/**
 * The text of an environment block (GRUB manual, "The GRUB environment block"): 1024 bytes.
 * @param values without line breaks and backslashes
 */
export function formatEnvironment(values: Environment): string {
  const lines = names.flatMap((name) => {
    const value = values[name];
    return value === undefined ? [] : [`${name}=${value}\n`];
  });
  const text = `${firstLine}${lines.join('')}`;
  if (text.length > blockBytes) throw new TypeError('the values do not fit into an environment block');
  return text.padEnd(blockBytes, '#');
}

/** What a block says, of the names that the menu reads; undefined for what GRUB calls invalid. */
export function parseEnvironment(text: string): Environment | undefined {
  if (text.length !== blockBytes || !text.startsWith(firstLine)) return undefined;
  const values: Partial<Record<(typeof names)[number], string>> = {};
  for (const line of text.split('\n')) {
    const name = names.find((each) => line.startsWith(`${each}=`));
    if (name !== undefined) values[name] = line.slice(name.length + 1);
  }
  return values;
}

/** The environment of a store: undefined where it has no block (nothing is remembered then), `damaged` for an invalid one. */
export async function readEnvironment(store: string): Promise<Environment | 'damaged' | undefined> {
  const text = await ifThere(readFile(environmentFile(store), 'latin1'));
  return text === undefined ? undefined : (parseEnvironment(text) ?? 'damaged');
}

/** Gives a store its block, where it has none: GRUB writes into the file, but cannot make it. */
export async function makeEnvironment(store: string): Promise<void> {
  const file = environmentFile(store);
  if (!(await exists(file))) await writeFileAtomic(file, formatEnvironment({}));
}

function without(environment: Environment, ...gone: readonly (keyof Environment)[]): Environment {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => !gone.some((each) => each === name)),
  );
}

/** Changes a block in place, in one write: the file is there before and after. @throws ReliveError `not-found`, `corrupt` */
async function change(store: string, how: (environment: Environment) => Environment): Promise<void> {
  const file = environmentFile(store);
  const environment = await readEnvironment(store);
  if (environment === undefined) {
    throw new ReliveError('not-found', `${file} is not there, so that the menu remembers nothing`, {
      hint: `make it: grub-editenv ${file} create`,
    });
  }
  if (environment === 'damaged') {
    throw new ReliveError('corrupt', `${file} is not a block that GRUB reads`, {
      hint: `make it anew: grub-editenv ${file} create; which image came up last is learnt again`,
    });
  }
  const handle = await open(file, 'r+');
  try {
    await handle.write(formatEnvironment(how(environment)), 0, 'latin1');
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes GRUB start an image once, whichever it would start by itself.
 * @throws ReliveError `not-found` where the store has no block, `corrupt` for a damaged one
 */
export async function chooseOnce(store: string, image: string): Promise<void> {
  await change(store, (environment) => ({ ...environment, relive_next: image }));
}

/**
 * Remembers a start of an image by who is not GRUB, as GRUB does before it starts one: what was to be started once is not any
 * more, and one that has not come up yet is counted (relive_count of runtime/grub/functions.cfg).
 * @throws as `chooseOnce`
 */
export async function countStart(store: string, image: string, trial: boolean): Promise<void> {
  await change(store, (environment) => {
    const others = without(environment, 'relive_next');
    if (!trial) return others;
    const tries = environment.relive_trial === image ? Number(environment.relive_tries) || 0 : 0;
    return { ...others, relive_trial: image, relive_tries: String(Math.min(tries + 1, 3)) };
  });
}

/**
 * Leaves it to GRUB which image it starts, the newest one, and gives that its three trials again where they were spent.
 * @throws as `chooseOnce`
 */
export async function chooseNewest(store: string, newest: string): Promise<void> {
  await change(store, (environment) =>
    environment.relive_trial === newest
      ? without(environment, 'relive_next', 'relive_trial', 'relive_tries')
      : without(environment, 'relive_next'),
  );
}
