const units = ['B', 'kB', 'MB', 'GB', 'TB'] as const;

/** Bytes in decimal units, three digits: `1.20 MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit] ?? ''}`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** A duration: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/**
 * Rows as aligned columns, two spaces apart; the last column is not padded. Text from outside is made safe for a
 * terminal first.
 */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map((cell) => printableLine(cell)));
  const widths: number[] = [];
  for (const row of clean) {
    for (const [column, cell] of row.entries())
      widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell));
  }
  const padded = (cell: string, column: number): string =>
    cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - displayWidth(cell)));
  return clean.map((row) => row.map(padded).join('  ').trimEnd()).join('\n');
}

const escaped = (character: string): string => {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
};

/**
 * Text with its control characters made visible, so that foreign text cannot steer the terminal, nor turn the
 * direction of what is read (bidirectional controls). Line feeds and tabs stay.
 */
export function printable(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are the characters to find
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, escaped);
}

/** The same for text that belongs on one line: a name, a path, a cell. */
export function printableLine(text: string): string {
  return printable(text).replaceAll(/[\t\n]/g, escaped);
}

/** Characters that take no column: marks that combine with the one before, joiners, variation selectors. */
const zeroWidth = /^[\p{Mn}\p{Me}\p{Cf}]$/u;
/** Those that take two: East Asian wide and full width (Unicode, Annex 11), emoji. */
const doubleWidth =
  /^(?:[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6b\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18cff}\u{1aff0}-\u{1b2ff}\u{1f200}-\u{1f2ff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation})$/u;

function characterWidth(character: string): number {
  if (character < '\u0300') return 1;
  if (zeroWidth.test(character)) return 0;
  return doubleWidth.test(character) ? 2 : 1;
}

/** How many columns of a terminal a line of text takes. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const character of text) width += characterWidth(character);
  return width;
}

/** A line of text that takes at most `columns`; what was cut off shows as an ellipsis. */
export function cutToWidth(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text;
  let kept = '';
  let width = 0;
  for (const character of text) {
    width += characterWidth(character);
    if (width > columns - 1) break;
    kept += character;
  }
  return columns < 1 ? '' : `${kept}…`;
}
