import { randomInt } from 'node:crypto';
import { WordTable } from './word-table.ts';

/**
 * Which paths an archive lists, and with what content: 16 bytes a path (32 with the free places), so that a million files take
 * some tens of megabytes. Paths and contents are known by 64 bits of a hash whose seed is new in each process, so that
 * nobody can prepare two that look the same.
 */
export class PathTable {
  readonly #seed = [randomInt(2 ** 32 - 1), randomInt(2 ** 32 - 1)] as const;
  readonly #table = new WordTable(4, 4096);

  get count(): number {
    return this.#table.count;
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

  /** Adds a path with what its content is said to be. @returns whether it is new, known so, or known with another content */
  add(path: string, content: string): 'new' | 'same' | 'different' {
    const key = this.#hash(path);
    const [third, fourth] = this.#hash(content);
    const known = this.#table.get(...key);
    if (known !== undefined) return known[2] === third && known[3] === fourth ? 'same' : 'different';
    this.#table.set([...key, third, fourth]);
    return 'new';
  }

  has(path: string): boolean {
    return this.#table.get(...this.#hash(path)) !== undefined;
  }
}
