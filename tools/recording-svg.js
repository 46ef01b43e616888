/** A recording of a terminal as an SVG that moves: as much of a terminal as relive makes use of. */

const [letterWidth, lineHeight, margin] = [8.4, 18, 12];
/** How long the last screen stays. */
const pause = 6;
const colours = { 31: '#ff7b72', 32: '#7ee787', 33: '#e3b341', 36: '#79c0ff' };

/** Control sequences (ECMA-48, 5.4), and letters. */
const sequences = new RegExp(`${String.fromCodePoint(27)}\\[([0-9;]*)([A-Za-z])|([^])`, 'gu');

/** As SVG has it; blanks of it are one, unless they are such as do not break. */
const escaped = (text) =>
  text.replaceAll(' ', '\u00a0').replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** A page without end: rows of cells, each a letter and its style. */
class Page {
  constructor(width) {
    this.width = width;
    this.rows = [[]];
    this.row = 0;
    this.column = 0;
    this.style = {};
  }

  put(letter) {
    if (this.column >= this.width) this.feed(0);
    const row = this.rows[this.row];
    while (row.length < this.column) row.push({ letter: ' ', style: {} });
    row[this.column] = { letter, style: this.style };
    this.column += 1;
  }

  feed(column) {
    this.row += 1;
    if (this.rows.length === this.row) this.rows.push([]);
    this.column = column;
  }

  control(parameters, command) {
    const count = Number(parameters === '' ? 1 : parameters.split(';')[0]);
    if (command === 'A') this.row = Math.max(0, this.row - count);
    else if (command === 'J' && parameters === '') {
      this.rows[this.row].length = Math.min(this.rows[this.row].length, this.column);
      this.rows.length = this.row + 1;
    } else if (command === 'K' && parameters === '')
      this.rows[this.row].length = Math.min(this.rows[this.row].length, this.column);
    else if (command === 'm') for (const code of parameters.split(';')) this.paint(Number(code));
    else throw new Error(`nobody knows how to draw ESC [ ${parameters} ${command}`);
  }

  paint(code) {
    if (code === 0) this.style = {};
    else if (code === 1) this.style = { ...this.style, bold: true };
    else if (code === 2) this.style = { ...this.style, dim: true };
    else if (code === 22) this.style = { ...this.style, bold: false, dim: false };
    else if (code === 39) this.style = { ...this.style, colour: undefined };
    else if (colours[code] !== undefined) this.style = { ...this.style, colour: colours[code] };
    else throw new Error(`nobody knows how to draw ESC [ ${code} m`);
  }

  write(text) {
    for (const [, parameters, command, letter] of text.matchAll(sequences)) {
      if (command !== undefined) this.control(parameters, command);
      else if (letter === '\r') this.column = 0;
      else if (letter === '\n') this.feed(this.column);
      else this.put(letter);
    }
  }

  /** A row as text of SVG; empty for one without letters. */
  drawn(index) {
    const row = this.rows[index] ?? [];
    let text = '';
    for (let at = 0; at < row.length; ) {
      const { style } = row[at];
      let end = at;
      while (end < row.length && JSON.stringify(row[end].style) === JSON.stringify(style)) end += 1;
      const letters = escaped(
        row
          .slice(at, end)
          .map(({ letter }) => letter)
          .join(''),
      );
      const attributes = [
        ...(style.colour === undefined ? [] : [`fill="${style.colour}"`]),
        ...(style.bold === true ? ['font-weight="bold"'] : []),
        ...(style.dim === true ? ['opacity="0.6"'] : []),
      ];
      text += attributes.length === 0 ? letters : `<tspan ${attributes.join(' ')}>${letters}</tspan>`;
      at = end;
    }
    return text.trim() === '' ? '' : { text, length: row.length };
  }
}

const set = (to, from, length) =>
  `<set attributeName="visibility" to="${to}" begin="c.begin+${from}s" dur="${length.toFixed(2)}s"/>`;

/**
 * @param events pairs of seconds and text, in order
 * @returns an SVG that begins anew at its end; what shows no movement shows the last screen
 */
export function drawing(events, { width, height, title }) {
  const page = new Page(width);
  const end = Number(((events.at(-1)?.[0] ?? 0) + pause).toFixed(2));
  const shown = new Map();
  const finished = [];
  const views = [[0, 0]];
  const close = (row, at) => {
    const open = shown.get(row);
    if (open !== undefined && open.at < at) finished.push({ ...open, row, until: at });
    shown.delete(row);
  };
  for (const [time, text] of events) {
    const at = Number(time.toFixed(2));
    page.write(text);
    for (let row = 0; row < Math.max(page.rows.length, ...shown.keys()) + 1; row += 1) {
      const now = page.drawn(row);
      if (JSON.stringify(shown.get(row)?.now ?? '') === JSON.stringify(now)) continue;
      close(row, at);
      if (now !== '') shown.set(row, { at, now });
    }
    const top = Math.max(views.at(-1)[1], page.row + 1 - height);
    if (top !== views.at(-1)[1]) views.push([at, top]);
  }
  for (const row of shown.keys()) close(row, end);

  const lines = finished.map(({ row, at, until, now }) => {
    const place = `x="${margin}" y="${margin + (row + 0.75) * lineHeight}" textLength="${(now.length * letterWidth).toFixed(1)}"`;
    const last = until === end;
    const moves = last ? set('hidden', 0, at) : set('visible', at, until - at);
    return `<text ${place}${last ? '' : ' visibility="hidden"'}>${now.text}${moves}</text>`;
  });
  const [w, h] = [width * letterWidth + 2 * margin, height * lineHeight + 2 * margin].map(Math.ceil);
  const moved = (rows) => `0 ${-rows * lineHeight}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" role="img">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" rx="6" fill="#0d1117"><animate id="c" attributeName="x" values="0;0" dur="${end}s" begin="0s;c.end"/></rect>
<svg y="${margin}" height="${height * lineHeight}" viewBox="0 ${margin} ${w} ${height * lineHeight}">
<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3" transform="translate(${moved(views.at(-1)[1])})">
<animateTransform attributeName="transform" type="translate" calcMode="discrete" begin="c.begin" dur="${end}s" values="${views.map(([, top]) => moved(top)).join(';')}" keyTimes="${views.map(([at]) => (at / end).toFixed(5)).join(';')}"/>
${lines.join('\n')}
</g>
</svg>
</svg>
`;
}
