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

/** The machine-readable copyright file (copyright-format 1.0) of relive and the libraries that it brings. */
export function copyrightFile(
  author: string,
  year: number,
  place: string,
  libraries: readonly Library[],
): string {
  const brought = libraries.map(({ name, version, license, text }) => {
    return [
      `Files: ${place}/${name}/*`,
      `Copyright: ${holders(text).join('\n           ') || `the authors of ${name}`}`,
      `License: ${license}-${name}`,
      folded(text),
      `Comment: ${name} ${version}, from the npm registry, without what Node.js does not load.`,
    ].join('\n');
  });
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
    ...brought,
    '',
  ]
    .join('\n\n')
    .trimEnd()
    .concat('\n');
}
