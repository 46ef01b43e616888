import { ReliveError } from '../core/error.ts';

const newline = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;
const tab = 0x09;
const colon = 0x3a;
/** A line of an index that is longer than this is no index: memory stays bounded whatever upstream sends. */
const longestLine = 4 * 1024 * 1024;

/** One stanza: values by field name in lower case; lines of a folded value are joined by newlines. */
export type Stanza = ReadonlyMap<string, string>;

/** A field's name as it is compared: ASCII, without regard to case (deb-control(5)). */
interface WantedField {
  readonly bytes: Buffer;
  readonly slot: number;
}

function lower(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}

/**
 * Reads the stanzas of a control file (deb822(5)) piece by piece and hands over the values of the wanted fields.
 * Made for indices of tens of megabytes: it looks at bytes and makes strings only of what was asked for.
 *
 * Lines that are empty or hold only blanks separate stanzas; names are compared without regard to case; values lose
 * the blanks around them; the lines of a folded value lose their first blank and are joined by newlines. A wanted
 * field that stands twice in a stanza is refused, because readers disagree about which one counts.
 */
export class StanzaReader {
  readonly #wanted = new Map<number, WantedField[]>();
  readonly #names: readonly string[];
  readonly #onStanza: (values: readonly (string | undefined)[], line: number) => void;
  readonly #where: string;
  #values: (string | undefined)[];
  /** The slot of the field whose value goes on: -1 before the first field of a stanza, -2 in an unwanted one. */
  #slot = -1;
  #line = 0;
  #stanzaLine = 0;
  #rest: Buffer = Buffer.alloc(0);

  /**
   * @param fields the names of the wanted fields
   * @param onStanza gets the values in the order of `fields` (a new array each time) and the stanza's first line
   * @param where the file's name, for errors
   */
  constructor(
    fields: readonly string[],
    onStanza: (values: readonly (string | undefined)[], line: number) => void,
    where: string,
  ) {
    this.#names = fields;
    this.#onStanza = onStanza;
    this.#where = where;
    this.#values = Array.from({ length: fields.length });
    for (const [slot, field] of fields.entries()) {
      const bytes = Buffer.from(field.toLowerCase(), 'latin1');
      const key = bytes.length * 256 + (bytes[0] ?? 0);
      const same = this.#wanted.get(key) ?? [];
      same.push({ bytes, slot });
      this.#wanted.set(key, same);
    }
  }

  /** Takes the next bytes; they may end anywhere. @throws ReliveError `corrupt` for what is no control file */
  push(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const end = bytes.lastIndexOf(newline) + 1;
    this.#scan(bytes, end);
    if (bytes.length - end > longestLine) throw this.#corrupt('a line is too long');
    this.#rest = Buffer.from(bytes.subarray(end));
  }

  /** The file is complete. @throws ReliveError `corrupt` */
  end(): void {
    if (this.#rest.length > 0) {
      const last = Buffer.concat([this.#rest, Buffer.from('\n')]);
      this.#rest = Buffer.alloc(0);
      this.#scan(last, last.length);
    }
    this.#finishStanza();
  }

  #corrupt(what: string): ReliveError {
    return new ReliveError('corrupt', `${this.#where}:${this.#line}: ${what}`, {
      hint: 'this is no control file as dpkg and apt read them',
    });
  }

  #finishStanza(): void {
    if (this.#slot === -1) return;
    const values = this.#values;
    this.#values = Array.from({ length: this.#names.length });
    this.#slot = -1;
    this.#onStanza(values, this.#stanzaLine);
  }

  #scan(bytes: Buffer, end: number): void {
    for (let at = 0; at < end; ) {
      this.#line += 1;
      const next = bytes.indexOf(newline, at);
      let stop = next;
      while (stop > at) {
        const last = bytes[stop - 1];
        if (last !== space && last !== tab && last !== carriageReturn) break;
        stop -= 1;
      }
      if (stop === at) this.#finishStanza();
      else if (bytes[at] === space || bytes[at] === tab) this.#continue(bytes, at + 1, stop);
      else this.#startField(bytes, at, stop);
      at = next + 1;
    }
  }

  #continue(bytes: Buffer, from: number, stop: number): void {
    if (this.#slot === -1) throw this.#corrupt('a stanza begins with a blank');
    if (this.#slot === -2) return;
    this.#values[this.#slot] = `${this.#values[this.#slot] ?? ''}\n${bytes.toString('utf8', from, stop)}`;
  }

  #startField(bytes: Buffer, at: number, stop: number): void {
    let nameEnd = at;
    while (nameEnd < stop && bytes[nameEnd] !== colon) nameEnd += 1;
    if (nameEnd === stop || nameEnd === at) throw this.#corrupt('this line is not "Field: value"');
    if (this.#slot === -1) this.#stanzaLine = this.#line;
    const slot = this.#slotOf(bytes, at, nameEnd);
    this.#slot = slot;
    if (slot === -2) return;
    if (this.#values[slot] !== undefined) {
      throw this.#corrupt(`the field ${this.#names[slot]} stands twice in one stanza`);
    }
    let from = nameEnd + 1;
    while (from < stop && (bytes[from] === space || bytes[from] === tab)) from += 1;
    this.#values[slot] = bytes.toString('utf8', from, stop);
  }

  #slotOf(bytes: Buffer, at: number, nameEnd: number): number {
    const candidates = this.#wanted.get((nameEnd - at) * 256 + lower(bytes[at] ?? 0));
    for (const { bytes: name, slot } of candidates ?? []) {
      let index = 1;
      while (index < name.length && lower(bytes[at + index] ?? 0) === name[index]) index += 1;
      if (index === name.length) return slot;
    }
    return -2;
  }
}

/**
 * The stanzas of a small control file, with all their fields. The same rules as StanzaReader's.
 * @param where the file's name, for errors
 * @throws ReliveError `corrupt` with the line
 */
export function parseStanzas(content: Buffer | string, where: string): Stanza[] {
  const stanzas: Stanza[] = [];
  let stanza = new Map<string, string>();
  let name: string | undefined;
  const corrupt = (index: number, what: string): ReliveError =>
    new ReliveError('corrupt', `${where}:${index + 1}: ${what}`, {
      hint: 'this is no control file as dpkg and apt read them',
    });
  const text = typeof content === 'string' ? content : content.toString('utf8');
  for (const [index, whole] of text.split('\n').entries()) {
    const line = whole.replace(/[ \t\r]+$/, '');
    if (line === '') {
      if (stanza.size > 0) stanzas.push(stanza);
      stanza = new Map();
      name = undefined;
    } else if (line.startsWith(' ') || line.startsWith('\t')) {
      if (name === undefined) throw corrupt(index, 'a stanza begins with a blank');
      stanza.set(name, `${stanza.get(name) ?? ''}\n${line.slice(1)}`);
    } else {
      const nameEnd = line.indexOf(':');
      if (nameEnd <= 0) throw corrupt(index, 'this line is not "Field: value"');
      const written = line.slice(0, nameEnd);
      name = written.toLowerCase();
      if (stanza.has(name)) throw corrupt(index, `the field ${written} stands twice in one stanza`);
      stanza.set(name, line.slice(nameEnd + 1).replace(/^[ \t]+/, ''));
    }
  }
  if (stanza.size > 0) stanzas.push(stanza);
  return stanzas;
}
