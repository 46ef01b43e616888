/**
 * Records of a few 32-bit words in one typed array, so that a million of them take some tens of megabytes. The first two
 * words of a record are its key, and the first one is never zero, which marks a free place.
 */
export class WordTable {
  readonly #words: number;
  #table: Uint32Array;
  #count = 0;

  /** @param words a record has; @param places to begin with, a power of two: twice as many as records, or it grows */
  constructor(words: number, places: number) {
    this.#words = words;
    this.#table = new Uint32Array(words * places);
  }

  get count(): number {
    return this.#count;
  }

  /** Where the record with a key is, or the free place that it would get. */
  #slot(first: number, second: number): number {
    const places = this.#table.length / this.#words;
    for (let place = (first ^ Math.imul(second, 0x9e3779b1)) >>> 0; ; place += 1) {
      place %= places;
      const at = place * this.#words;
      const found = this.#table[at];
      if (found === 0 || (found === first && this.#table[at + 1] === second)) return at;
    }
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += this.#words) {
      if (old[at] === 0) continue;
      this.#table.set(old.subarray(at, at + this.#words), this.#slot(old[at] ?? 1, old[at + 1] ?? 0));
    }
  }

  /** The record with a key, or undefined. Valid until the next `set`. */
  get(first: number, second: number): Uint32Array | undefined {
    const at = this.#slot(first, second);
    return this.#table[at] === 0 ? undefined : this.#table.subarray(at, at + this.#words);
  }

  /** Adds a record, or takes the place of the one with its key. */
  set(record: readonly number[]): void {
    if ((this.#count + 1) * 2 * this.#words > this.#table.length) this.#grow();
    const at = this.#slot(record[0] ?? 1, record[1] ?? 0);
    if (this.#table[at] === 0) this.#count += 1;
    this.#table.set(record, at);
  }

  /** All records, in no order. */
  *records(): Generator<Uint32Array> {
    for (let at = 0; at < this.#table.length; at += this.#words) {
      if (this.#table[at] !== 0) yield this.#table.subarray(at, at + this.#words);
    }
  }
}
