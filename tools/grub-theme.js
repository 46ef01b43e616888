// Makes the fonts and pictures of GRUB's graphic menu (runtime/grub/theme/): npm run theme. They are kept in the repository, so
// that a core image does not depend on the fonts of the host that makes it. Wanted: grub-common, fonts-dejavu-core.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';

const theme = join(import.meta.dirname, '../runtime/grub/theme');

/** Name, file, size, characters: of the large one no more than its word has. */
const fonts = [
  ['sans', 'DejaVuSans.ttf', 18, '0x20-0x7e'],
  ['mono', 'DejaVuSansMono.ttf', 16, '0x20-0x7e'],
  ['bold', 'DejaVuSans-Bold.ttf', 34, '0x65-0x76'],
];
for (const [name, file, size, range] of fonts) {
  execFileSync('grub-mkfont', [
    ...[`--range=${range}`, `--size=${size}`, `--output=${join(theme, `${name}.pf2`)}`],
    join('/usr/share/fonts/truetype/dejavu', file),
  ]);
}

/** @param {string} type @param {Buffer} data */
function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/**
 * Writes a picture (PNG, W3C) of one row, which GRUB stretches.
 * @param {string} name
 * @param {...[number, number[]]} runs how many pixels of which colour
 */
function row(name, ...runs) {
  const pixels = runs.flatMap(([count, colour]) => Array.from({ length: count }, () => colour));
  const header = Buffer.alloc(13);
  header.writeUInt32BE(pixels.length, 0);
  header.writeUInt32BE(1, 4);
  // 8 bits, red, green and blue.
  header.set([8, 2], 8);
  const data = deflateSync(Buffer.from([0, ...pixels.flat()]));
  const parts = [chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))];
  writeFileSync(join(theme, name), Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), ...parts]));
}

const [plain, accent] = [
  [0x24, 0x3b, 0x4f],
  [0x3f, 0xb8, 0xa5],
];
row('desktop.png', [1, [0x16, 0x20, 0x2b]]);
// The marked line: its left end, its middle, its right end.
row('select_w.png', [5, accent], [11, plain]);
row('select_c.png', [1, plain]);
row('select_e.png', [4, plain]);
