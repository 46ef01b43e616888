import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { directoryNames, ifThere } from '../host/files.ts';
import { type LivePlaces, livePlaces } from './running.ts';

/** The ways to another image that interrupt all services. */
export const interruptionKinds = ['switch', 'kexec', 'firmware'] as const;
export type InterruptionKind = (typeof interruptionKinds)[number];

/** How long a machine was interrupted: from the command until it reported itself healthy. */
export interface Interruption {
  readonly kind: InterruptionKind;
  readonly milliseconds: number;
}

/** So many of the last ones count. */
const counted = 5;

/** Where what is measured is kept: on the first volume that is there, else in RAM. */
async function stateDirectory({ home }: LivePlaces): Promise<string> {
  for (const name of await directoryNames(join(home, 'volumes'))) {
    const state = await readFile(join(home, 'volumes', name), 'utf8');
    if (state.trim() === 'ok') return join('/volumes', name, 'relive');
  }
  return home;
}

/** Reads what runtime/health has written: a line for each, KIND MILLISECONDS. Other lines are left out. */
export function parseInterruptions(text: string): Interruption[] {
  return text.split('\n').flatMap((line) => {
    const [, kind, milliseconds] = /^(\w+) (\d{1,9})$/.exec(line) ?? [];
    const known = interruptionKinds.find((each) => each === kind);
    return known === undefined ? [] : [{ kind: known, milliseconds: Number(milliseconds) }];
  });
}

/** The last interruptions that were measured on this machine, in whichever way, oldest first. */
export async function interruptions(places: LivePlaces = livePlaces): Promise<readonly Interruption[]> {
  const files = new Set([
    join(await stateDirectory(places), 'interruptions'),
    join(places.home, 'interruptions'),
  ]);
  const all: Interruption[] = [];
  for (const file of files) all.push(...parseInterruptions((await ifThere(readFile(file, 'utf8'))) ?? ''));
  return all;
}

/** The last interruptions of a kind that were measured on this machine, oldest first. */
export async function measured(
  kind: InterruptionKind,
  places: LivePlaces = livePlaces,
): Promise<readonly number[]> {
  return (await interruptions(places))
    .filter((each) => each.kind === kind)
    .slice(-counted)
    .map(({ milliseconds }) => milliseconds);
}

/** What to say of the interruption that is ahead: by measurement on this machine, or that there is none. */
export function expectation(kind: InterruptionKind, before: readonly number[]): string {
  const way = { switch: 'a switch', kexec: 'a restart by kexec', firmware: 'a restart through the firmware' }[
    kind
  ];
  if (before.length === 0) return `how long ${way} interrupts this machine was not yet measured`;
  const seconds = before.map((each) => each / 1000).toSorted((a, b) => a - b);
  const middle = seconds[Math.floor(seconds.length / 2)] ?? 0;
  const [least, most] = [seconds[0] ?? 0, seconds.at(-1) ?? 0];
  const range =
    seconds.length === 1
      ? 'the last one'
      : `the last ${seconds.length}: ${least.toFixed(0)} to ${most.toFixed(0)} s`;
  return `${way} interrupts this machine for about ${middle.toFixed(0)} s (${range})`;
}

/** Leaves the time for the system that comes up, to be read by runtime/health; a switch keeps RAM, firmware needs a volume. */
export async function leaveStart(
  kind: InterruptionKind,
  now: number,
  places: LivePlaces = livePlaces,
): Promise<void> {
  const directory = kind === 'switch' ? places.home : await stateDirectory(places);
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await writeFile(join(directory, 'interrupting'), `${kind} ${now}\n`);
}
