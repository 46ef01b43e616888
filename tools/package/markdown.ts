import { type Block, isTabular, type Page } from './page.ts';

/** Text in which nothing is markup (CommonMark, 2.4). */
function escaped(text: string): string {
  return text.replaceAll(/[\\`*_<>[\]|]/g, '\\$&');
}

/** A code span, whatever backticks are in it (CommonMark, 6.1). */
function code(text: string): string {
  const longest = Math.max(0, ...(text.match(/`+/g) ?? []).map(({ length }) => length));
  const fence = '`'.repeat(longest + 1);
  return longest === 0 ? `${fence}${text}${fence}` : `${fence} ${text} ${fence}`;
}

function indented(text: string, blanks: number): string {
  return text.replaceAll(/^(?=.)/gm, ' '.repeat(blanks));
}

function blockText(block: Block, level: number, depth: number): string {
  switch (block.kind) {
    case 'heading':
      return `${'#'.repeat(level)} ${block.text}\n`;
    case 'synopsis':
      return `${indented([block.command, ...block.words].join(' '), 4)}\n`;
    case 'paragraph':
      return `${isTabular(block.text) ? indented(block.text, 4) : escaped(block.text)}\n`;
    case 'item': {
      const line = `- ${code(block.term)}: ${block.meaning.map(escaped).join(' ')}`.trimEnd();
      const below = block.below.map((each) => blockText(each, level, depth + 1)).join('');
      return `${indented(line, depth * 2)}\n${below}`;
    }
    case 'example':
      return `${escaped(block.says.replace(/\.$/, ':'))}\n\n${indented(block.command, 4)}\n`;
    case 'verbatim':
    default:
      return `${indented(block.text.trimEnd(), 4)}\n`;
  }
}

/** Blocks one below the other, with an empty line between all but items. */
function blocksText(blocks: readonly Block[], level: number): string {
  let text = '';
  let before: Block['kind'] | undefined;
  for (const block of blocks) {
    if (before !== undefined && !(before === 'item' && block.kind === 'item')) text += '\n';
    text += blockText(block, level, 0);
    before = block.kind;
  }
  return text;
}

/**
 * A page as a chapter of a Markdown document (CommonMark).
 * @param level of its title: 1 for a document of its own
 */
export function markdownPage({ name, section, summary, body }: Page, level: number): string {
  const title = section === 1 ? name.replace('-', ' ').replaceAll('-', ' ') : name;
  return `${'#'.repeat(level)} ${title}: ${summary}\n\n${blocksText(body, level + 1)}`;
}
