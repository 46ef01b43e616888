import { describe, expect, test } from 'vitest';
import { checkNames, grubLayout } from '../../../src/medium/keyboard.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { xkbNames } from '../../fixtures/xkb.ts';
import { temporaryDirectory } from '../../support.ts';

describe('names of XKB', () => {
  test.each([
    [{ layout: 'dee' }, 'menu.keyboard.layout: XKB has no "dee"', 'there are: de, jp, us'],
    [
      { layout: 'de', variant: 'nodeadkey' },
      'menu.keyboard.variant: XKB has no "nodeadkey"; did you mean nodeadkeys?',
      'there are: nodeadkeys, us',
    ],
    [
      { layout: 'jp', variant: 'x' },
      'menu.keyboard.variant: XKB has no "x"',
      'the layout jp has no variants',
    ],
  ])('what is none: %o', async (keyboard, message, hint) => {
    const checked = (async () => checkNames(keyboard, xkbNames))();
    await expect(checked).rejects.toMatchObject({ ...errorLike('configuration', message), hint });
  });
});

/** A layout as GRUB gets it. */
async function layout(name: string, variant?: string): Promise<Uint8Array> {
  return await grubLayout({ layout: name, variant }, temporaryDirectory(), recordingContext());
}

describe('a layout for GRUB', () => {
  /** Where the map without modifiers has a key, by its code (USB HID Usage Tables, 10). */
  const keyY = 12 + 0x1c * 4;

  test('is another one for other names, and the same for the same', async () => {
    const de = Buffer.from(await layout('de'));
    expect(String.fromCodePoint(de.readUInt32LE(keyY))).toBe('z');
    expect(String.fromCodePoint(Buffer.from(await layout('us')).readUInt32LE(keyY))).toBe('y');
    expect(de.equals(await layout('de'))).toBe(true);
    expect(de.equals(await layout('de', 'nodeadkeys'))).toBe(false);
  });

  test('is not made where nobody could type a command by it', async () => {
    await expect(layout('ru')).rejects.toMatchObject(errorLike('configuration', 'has no Latin letters'));
  });
});
