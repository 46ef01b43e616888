/** The size of a terminal on a serial line, where nobody can ask it. */
const columns = 80;
const rows = 25;

/** The longest escape sequence that is waited for; a longer one is dropped. */
const longestSequence = 64;

/** `value` as a valid index of something of `size` cells. */
function within(value: number, size: number): number {
  return Math.min(size - 1, Math.max(0, value));
}

/**
 * The screen of a plain terminal (ECMA-48), as far as boot loaders, kernels and shells use one: text, line ends,
 * backspace, tabulator, moving the cursor, clearing. Colours and the rest are read over.
 */
export class Screen {
  #cells: string[][] = Array.from({ length: rows }, () => []);
  #row = 0;
  #column = 0;
  #sequence: string | undefined;

  write(text: string): void {
    for (const character of text) {
      if (this.#sequence !== undefined) this.#continueSequence(character);
      else this.#put(character);
    }
  }

  /** The rows as text, without blanks at their ends and without the empty rows at the end. */
  lines(): readonly string[] {
    const lines = this.#cells.map((row) =>
      Array.from(row, (cell) => cell ?? ' ')
        .join('')
        .trimEnd(),
    );
    while (lines.at(-1) === '') lines.pop();
    return lines;
  }

  #put(character: string): void {
    switch (character) {
      case '\u001b':
        this.#sequence = '';
        return;
      case '\n':
        this.#lineFeed();
        return;
      case '\r':
        this.#column = 0;
        return;
      case '\b':
        this.#column = Math.max(0, this.#column - 1);
        return;
      case '\t':
        this.#column = Math.min(columns - 1, (Math.floor(this.#column / 8) + 1) * 8);
        return;
      default:
        if (character < ' ' || (character >= '\u007f' && character <= '\u009f')) return;
        if (this.#column >= columns) {
          this.#column = 0;
          this.#lineFeed();
        }
        (this.#cells[this.#row] ??= [])[this.#column] = character;
        this.#column += 1;
    }
  }

  #lineFeed(): void {
    if (this.#row < rows - 1) {
      this.#row += 1;
      return;
    }
    this.#cells.shift();
    this.#cells.push([]);
  }

  #continueSequence(character: string): void {
    const sequence = `${this.#sequence ?? ''}${character}`;
    this.#sequence = sequence;
    const controls = sequence.startsWith('[');
    const strings = sequence.startsWith(']');
    const ended = controls
      ? sequence.length > 1 && character >= '@' && character <= '~'
      : strings
        ? character === '\u0007' || sequence.endsWith('\u001b\\')
        : !/[ -/]/.test(character);
    if (ended || sequence.length > longestSequence) this.#sequence = undefined;
    if (!ended) return;
    if (controls) this.#control(character, sequence.slice(1, -1));
    // RIS: reset to the initial state.
    if (sequence === 'c') this.#clear();
  }

  #clear(): void {
    this.#cells = Array.from({ length: rows }, () => []);
    this.#row = 0;
    this.#column = 0;
  }

  #control(final: string, parameters: string): void {
    const numbers = parameters.split(';').map((text) => Number.parseInt(text, 10));
    const first = Number.isNaN(numbers[0]) ? undefined : numbers[0];
    const step = Math.max(1, first ?? 1);
    const second = Number.isNaN(numbers[1]) ? undefined : numbers[1];
    switch (final) {
      case 'H':
      case 'f':
        this.#row = within((first ?? 1) - 1, rows);
        this.#column = within((second ?? 1) - 1, columns);
        return;
      case 'A':
        this.#row = within(this.#row - step, rows);
        return;
      case 'B':
        this.#row = within(this.#row + step, rows);
        return;
      case 'C':
        this.#column = within(this.#column + step, columns);
        return;
      case 'D':
        this.#column = within(this.#column - step, columns);
        return;
      case 'G':
        this.#column = within(step - 1, columns);
        return;
      case 'J':
        this.#eraseScreen(first ?? 0);
        return;
      case 'K':
        this.#eraseLine(first ?? 0);
        return;
      default:
    }
  }

  #eraseScreen(what: number): void {
    if (what === 0) this.#eraseLine(0);
    for (const row of this.#cells.keys()) {
      if (what >= 2 || (what === 0 && row > this.#row) || (what === 1 && row < this.#row)) {
        this.#cells[row] = [];
      }
    }
  }

  #eraseLine(what: number): void {
    const row = this.#cells[this.#row] ?? [];
    if (what === 0) row.splice(this.#column);
    else if (what === 1) row.fill(' ', 0, this.#column + 1);
    else row.splice(0);
  }
}
