import { randomInt } from 'node:crypto';

const words = 4;

/**
 * Which paths an archive lists, and with what content: 16 bytes a path (32 with the free places), so that a million files take
 * some tens of megabytes. Paths and contents are known by 64 bits of a hash whose seed is new in each process, so that
 * nobody can prepare two that look the same.
 */
export class PathTable {
  readonly #seed = [randomInt(2 ** 32 - 1), randomInt(2 ** 32 - 1)] as const;
  #table = new Uint32Array(words * 4096);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Two words of a hash over the characters of a text (the mixing steps are those of MurmurHash3). */
  #hash(text: string): readonly [number, number] {
    let [a, b] = [this.#seed[0] ^ text.length, this.#seed[1]];
    for (let index = 0; index < text.length; index += 1) {
      const code = text.charCodeAt(index);
      a = Math.imul(a ^ code, 0xcc9e2d51);
      a = (a << 15) | (a >>> 17);
      b = Math.imul(b ^ code, 0x1b873593);
      b = ((b << 13) | (b >>> 19)) + a;
    }
    a = Math.imul(a ^ (b >>> 16), 0x85ebca6b);
    b = Math.imul(b ^ (a >>> 13), 0xc2b2ae35);
    // Zero marks a free place.
    return [(a ^ (b >>> 16)) >>> 0 || 1, (b ^ (a >>> 15)) >>> 0];
  }

  #slot(first: number, second: number): number {
    const places = this.#table.length / words;
    for (let place = (first ^ Math.imul(second, 0x9e3779b1)) >>> 0; ; place += 1) {
      place %= places;
      const at = place * words;
      const found = this.#table[at];
      if (found === 0 || (found === first && this.#table[at + 1] === second)) return at;
    }
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += words) {
      if (old[at] === 0) continue;
      this.#table.set(old.subarray(at, at + words), this.#slot(old[at] ?? 1, old[at + 1] ?? 0));
    }
  }

  /** Adds a path with what its content is said to be. @returns whether it is new, known so, or known with another content */
  add(path: string, content: string): 'new' | 'same' | 'different' {
    if ((this.#count + 1) * 2 * words > this.#table.length) this.#grow();
    const [first, second] = this.#hash(path);
    const [third, fourth] = this.#hash(content);
    const at = this.#slot(first, second);
    if (this.#table[at] !== 0) {
      return this.#table[at + 2] === third && this.#table[at + 3] === fourth ? 'same' : 'different';
    }
    this.#table.set([first, second, third, fourth], at);
    this.#count += 1;
    return 'new';
  }

  has(path: string): boolean {
    return this.#table[this.#slot(...this.#hash(path))] !== 0;
  }
}
