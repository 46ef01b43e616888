import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { ifThere } from '../host/files.ts';
import { run } from '../host/process.ts';
import { parseXkbNames, xkbNamesFile } from '../host/xkb.ts';
import { nearest } from '../site/nearest.ts';
import type { Site } from '../site/site.ts';

/** A keyboard for GRUB's menu, in the names of XKB. */
export type MenuKeyboard = NonNullable<Site['menu']['keyboard']>;

/** GRUB, include/grub/keyboard_layouts.h: a mark, a version, and four maps of 160 keys, 32 bits each. */
const mark = 'GRUBLAYO';
const mapsAt = 12;
const keysOfMap = 160;
const layoutBytes = mapsAt + 4 * keysOfMap * 4;

/** @throws ReliveError `configuration` for a name that XKB does not know, with those that it knows */
export function checkNames({ layout, variant }: MenuKeyboard, text: string): void {
  const names = parseXkbNames(text);
  const refuse = (key: string, found: string, known: readonly string[]): ReliveError => {
    // All layouts have names of two or three letters: they are near to each other.
    const near = key === 'variant' ? nearest(found, known) : undefined;
    return new ReliveError(
      'configuration',
      `relive.yaml: menu.keyboard.${key}: XKB has no "${found}"${near === undefined ? '' : `; did you mean ${near}?`}`,
      {
        hint:
          known.length === 0
            ? `the layout ${layout} has no variants`
            : `there are: ${known.toSorted().join(', ')}`,
      },
    );
  };
  const variants = names.get(layout);
  if (variants === undefined) throw refuse('layout', layout, [...names.keys()]);
  if (variant !== undefined && !variants.includes(variant)) throw refuse('variant', variant, variants);
}

/** Whether a layout in GRUB's form has all small Latin letters, of which GRUB's commands and keys are. */
function writesLatin(content: Buffer): boolean {
  const keys = new Set(
    Array.from({ length: keysOfMap }, (_, index) => content.readUInt32LE(mapsAt + index * 4)),
  );
  const [a = 0, z = 0] = Buffer.from('az');
  return Array.from({ length: z - a + 1 }, (_, index) => a + index).every((letter) => keys.has(letter));
}

/**
 * A keyboard layout in the form that GRUB's command `keymap` reads. Equal names and versions of xkb-data give equal bytes.
 * @param scratch a directory for the file
 * @throws ReliveError `configuration` for names that XKB does not know and for a layout without Latin letters, `tool-missing`,
 *   `tool-failed`
 */
export async function grubLayout(
  keyboard: MenuKeyboard,
  scratch: string,
  context: Context,
): Promise<Uint8Array> {
  const { layout, variant } = keyboard;
  const { signal } = context;
  const namesFile = join('/', xkbNamesFile);
  const text = await ifThere(readFile(namesFile, 'utf8'));
  if (text === undefined) {
    throw new ReliveError('tool-missing', `the names of keyboard layouts are not there: ${namesFile}`, {
      hint: 'apt-get install console-setup xkb-data (relive doctor lists all that is missing)',
    });
  }
  checkNames(keyboard, text);
  const words = ['-layout', layout, ...(variant === undefined ? [] : ['-variant', variant])];
  const { stdout, stderr } = await run('ckbcomp', words, { signal });
  // It says so and goes on with the layout alone.
  const [fault] = /^.*\bcan not find\b.*$/im.exec(stderr) ?? [];
  if (fault !== undefined) throw new ReliveError('tool-failed', `ckbcomp: ${fault}`);
  const file = join(scratch, 'layout.gkb');
  const input = join(scratch, 'layout.txt');
  await writeFile(input, stdout);
  await run('grub-mklayout', ['--input', input, '--output', file], { signal });
  const content = await readFile(file);
  if (content.length !== layoutBytes || content.toString('latin1', 0, mark.length) !== mark)
    throw new ReliveError('tool-failed', `grub-mklayout made no layout of ${layout}`);
  if (writesLatin(content)) return content;
  throw new ReliveError(
    'configuration',
    `relive.yaml: menu.keyboard.layout: ${layout} has no Latin letters, and GRUB's commands have no others`,
    { hint: 'layout: us, or another one with Latin letters' },
  );
}
