/** Pages in roff's man macros (groff_man(7)), with nothing in their text that roff would take for a request. */
import { type Block, isTabular, type Page } from './page.ts';

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

function bold(text: string): string {
  return `\\fB${roffText(text)}\\fR`;
}

/** One argument of a macro. */
function quoted(text: string): string {
  return `"${roffText(text).replaceAll('"', '\\(dq')}"`;
}

/** The lines of one block. */
function blockLines(block: Block): string[] {
  switch (block.kind) {
    case 'heading':
      return [`.SH ${quoted(block.text)}`];
    case 'synopsis':
      return [bold(block.command), ...block.words.map((word) => italicWords(word))];
    case 'paragraph': {
      const lines = block.text.split('\n').map(roffText);
      return isTabular(block.text) ? ['.PP', '.nf', ...lines, '.fi'] : ['.PP', ...lines];
    }
    case 'item': {
      const below = block.below.flatMap(blockLines);
      return [
        '.TP',
        bold(block.term),
        ...block.meaning.map(roffText),
        ...(below.length === 0 ? [] : ['.RS 4', ...below, '.RE']),
      ];
    }
    case 'example': {
      const says = roffText(block.says.replace(/\.$/, ':'));
      return ['.PP', says, '.PP', '.RS 4', '.nf', bold(block.command), '.fi', '.RE'];
    }
    case 'verbatim':
    default:
      return ['.PP', '.RS 4', '.nf', ...block.text.trimEnd().split('\n').map(roffText), '.fi', '.RE'];
  }
}

/** A word of a synopsis; the one in it that stands for others is in italics. */
function italicWords(word: string): string {
  return roffText(word).replace(/^(\[?)(\w+)( \.\.\.\])$/, '$1\\fI$2\\fR$3');
}

/** The whole page. */
export function roffPage({ name, section, summary, version, body, seeAlso }: Page): string {
  // Without a date: the version says it, and the same source gives the same page.
  return [
    `.TH ${quoted(name.toUpperCase())} ${section} "" ${quoted(`relive ${version}`)} ${quoted(
      section === 1 ? 'relive commands' : 'relive file formats',
    )}`,
    '.nh',
    '.SH "Name"',
    `${roffText(name)} \\- ${roffText(summary)}`,
    ...body.flatMap(blockLines),
    '.SH "See also"',
    seeAlso
      .map((other) => {
        const [page = '', number = ''] = other.split(/[()]/);
        return `${bold(page)}(${number})`;
      })
      .join(',\n'),
    '',
  ].join('\n');
}
