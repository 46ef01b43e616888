/** A library that is part of the package. */
export interface Library {
  readonly name: string;
  readonly version: string;
  /** As in its package.json: MIT, ISC. */
  readonly license: string;
  /** The whole text of its LICENSE file. */
  readonly text: string;
}

/** Lines that say whose it is. */
function holders(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  const found = lines.filter((line) => /^(©|Copyright (?!notice|holders?\b))/.test(line));
  return [...new Set(found)].map((line) => line.replace(/^copyright( \(c\)| ©)?\s*/i, ''));
}

/** A paragraph of many lines as a field has it. */
function folded(text: string): string {
  return text
    .trim()
    .split('\n')
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n');
}

/**
 * The machine-readable copyright file (copyright-format 1.0) of relive and of the libraries in its code, which lies in `place`.
 * @param fontLicense the license of the fonts of GRUB's menu: a paragraph of such a file, and what may stand before it
 */
export function copyrightFile(
  author: string,
  year: number,
  place: string,
  libraries: readonly Library[],
  fontLicense: string,
): string {
  const owners = libraries.flatMap(({ name, text }) => {
    const found = holders(text);
    return found.length > 0 ? found : [`the authors of ${name}`];
  });
  const bundled = [
    `Files: ${place}/*`,
    `Copyright: ${[`${year} ${author}`, ...owners].join('\n           ')}`,
    `License: ${['GPL-3.0+', ...libraries.map(({ name, license }) => `${license}-${name}`)].join(' and ')}`,
    'Comment: relive and, from the npm registry, what it uses of',
    ` ${libraries.map(({ name, version }) => `${name} ${version}`).join(', ')}.`,
  ].join('\n');
  const licenses = libraries.map(({ name, license, text }) => `License: ${license}-${name}\n${folded(text)}`);
  return [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: relive',
    [
      'Files: *',
      `Copyright: ${year} ${author}`,
      'License: GPL-3.0+',
      ' This program is free software: you can redistribute it and/or modify it',
      ' under the terms of the GNU General Public License as published by the Free',
      ' Software Foundation, either version 3 of the License, or (at your option)',
      ' any later version.',
      ' .',
      ' On Debian systems the text of the GNU General Public License, version 3, is',
      ' in /usr/share/common-licenses/GPL-3.',
    ].join('\n'),
    [
      'Files: usr/share/relive/runtime/grub/theme/*.pf2',
      'Copyright: 2003 Bitstream, Inc. (DejaVu changes are in public domain)',
      fontLicense.slice(fontLicense.indexOf('License: ')).trimEnd(),
    ].join('\n'),
    bundled,
    ...licenses,
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}
