/** A page of the reference: what man pages (roff.ts) and docs/reference/ (markdown.ts) are both made of. */
export interface Page {
  readonly name: string;
  readonly section: 1 | 5;
  readonly summary: string;
  readonly version: string;
  /** What follows the name and the summary. */
  readonly body: readonly Block[];
  /** Other pages, as `relive(1)`. */
  readonly seeAlso: readonly string[];
}

export type Block =
  | { readonly kind: 'heading'; readonly text: string }
  /** `command` as it is typed, then the names of what follows it. */
  | { readonly kind: 'synopsis'; readonly command: string; readonly words: readonly string[] }
  /** Lines in which blanks stand side by side are kept as they are; others are filled. */
  | { readonly kind: 'paragraph'; readonly text: string }
  /** A term with what it means, and what is below it. */
  | {
      readonly kind: 'item';
      readonly term: string;
      readonly meaning: readonly string[];
      readonly below: readonly Block[];
    }
  | { readonly kind: 'example'; readonly command: string; readonly says: string }
  /** A file as it stands. */
  | { readonly kind: 'verbatim'; readonly text: string };

export function heading(text: string): Block {
  return { kind: 'heading', text };
}

export function synopsis(command: string, words: readonly string[]): Block {
  return { kind: 'synopsis', command, words };
}

export function paragraph(text: string): Block {
  return { kind: 'paragraph', text };
}

export function item(term: string, meaning: readonly string[], below: readonly Block[] = []): Block {
  return { kind: 'item', term, meaning, below };
}

export function example(command: string, says: string): Block {
  return { kind: 'example', command, says };
}

export function verbatim(text: string): Block {
  return { kind: 'verbatim', text };
}

/** Whether a paragraph is a table by its blanks, and stays as it is. */
export function isTabular(text: string): boolean {
  return /\S {2,}\S/.test(text);
}
