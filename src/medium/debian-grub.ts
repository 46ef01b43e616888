import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { home } from '../core/home.ts';
import { type GrubOptions, grubSettings } from './grub.ts';
import type { EfiFile, Shim } from './shim.ts';

/** The directory in the EFI system partition which Debian's signed GRUB has its menu in, and knows no other. */
export const debianDirectory = 'EFI/DEBIAN';

/** What Debian signs, by its path, and what starts it. */
export interface DebianChain {
  readonly grub: string;
  readonly shim: Shim;
}

async function script(file: string): Promise<string> {
  return await readFile(join(home, 'runtime/grub', file), 'utf8');
}

/**
 * The files by which firmware that knows Microsoft's keys comes to Debian's own GRUB, and the menu of ours, which it reads from
 * the EFI system partition, unchecked: nothing that is not in the image of a signed program can be believed there.
 * @param boot the name of what firmware starts, BOOTX64.EFI
 * @param name how shim calls the processor, x64
 * @returns what firmware starts comes last
 */
export async function debianFiles(
  { grub, shim }: DebianChain,
  boot: string,
  name: string,
  timeoutSeconds: number,
): Promise<readonly EfiFile[]> {
  const options: GrubOptions = { check: 'none', publicKey: undefined, timeoutSeconds };
  // In one file: the name of functions.cfg has more than eight characters.
  const functions = await script('functions.cfg');
  const first = (await script('grub.cfg'))
    .replace('source $prefix/settings.cfg\n', () => grubSettings(options))
    .replace('source $prefix/functions.cfg\n', () => functions);
  return [
    { path: `EFI/BOOT/MM${name.toUpperCase()}.EFI`, content: await readFile(shim.manager) },
    { path: `EFI/BOOT/GRUB${name.toUpperCase()}.EFI`, content: await readFile(grub) },
    { path: `${debianDirectory}/MENU.CFG`, content: Buffer.from(await script('menu.cfg')) },
    { path: `${debianDirectory}/GRUB.CFG`, content: Buffer.from(first) },
    { path: `EFI/BOOT/${boot}`, content: await readFile(shim.shim) },
  ];
}
