/** Text for roff's man macros (groff_man(7)), with nothing in it that roff would take for a request. */

/** Escapes what roff would interpret; a hyphen stays the character that people type. */
export function roffText(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll(/^\./gm, '\\&.');
}

export function bold(text: string): string {
  return `\\fB${roffText(text)}\\fR`;
}

/** One argument of a macro. */
function quoted(text: string): string {
  return `"${roffText(text).replaceAll('"', '\\(dq')}"`;
}

export interface Page {
  readonly name: string;
  readonly section: 1 | 5;
  readonly summary: string;
  readonly version: string;
  /** What follows NAME: blocks made by the functions here. */
  readonly body: readonly string[];
  /** Other pages, as `relive(1)`. */
  readonly seeAlso: readonly string[];
}

export function heading(title: string): string {
  return `.SH ${quoted(title)}`;
}

/** Lines in which blanks stand side by side are kept as they are; others are filled. */
export function paragraph(text: string): string {
  const lines = text.split('\n').map(roffText);
  return /\S {2,}\S/.test(text) ? ['.PP', '.nf', ...lines, '.fi'].join('\n') : ['.PP', ...lines].join('\n');
}

/** A term in bold with what it means. */
export function item(term: string, ...meaning: readonly string[]): string {
  return ['.TP', bold(term), ...meaning.map(roffText)].join('\n');
}

export function example(command: string, says: string): string {
  return ['.PP', roffText(says.replace(/\.$/, ':')), '.PP', '.RS 4', '.nf', bold(command), '.fi', '.RE'].join(
    '\n',
  );
}

/** A file as it stands. */
export function verbatim(text: string): string {
  return ['.PP', '.RS 4', '.nf', ...text.trimEnd().split('\n').map(roffText), '.fi', '.RE'].join('\n');
}

export function indented(blocks: readonly string[]): string {
  return ['.RS 4', ...blocks, '.RE'].join('\n');
}

/** The whole page. */
export function roffPage({ name, section, summary, version, body, seeAlso }: Page): string {
  // Without a date: the version says it, and the same source gives the same page.
  return [
    `.TH ${quoted(name.toUpperCase())} ${section} "" ${quoted(`relive ${version}`)} ${quoted(
      section === 1 ? 'relive commands' : 'relive file formats',
    )}`,
    '.nh',
    heading('Name'),
    `${roffText(name)} \\- ${roffText(summary)}`,
    ...body,
    heading('See also'),
    seeAlso
      .map((other) => {
        const [page = '', number = ''] = other.split(/[()]/);
        return `${bold(page)}(${number})`;
      })
      .join(',\n'),
    '',
  ].join('\n');
}
