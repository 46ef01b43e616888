import { ReliveError } from '../../src/core/error.ts';

const width = 76;

/** What CHANGELOG.md says of a version, an entry a bullet; of the next one where it does not name it yet. */
function entriesOf(markdown: string, version: string): string[] {
  const sections = markdown.split(/^## /m).slice(1);
  const named = (name: string): string | undefined => sections.find((text) => text.startsWith(`[${name}]`));
  const section = named(version) ?? named('Unreleased');
  const bullets = (section ?? '').split(/^- /m).slice(1);
  return bullets.map(
    (text) =>
      text
        .split(/\n(?=#|\n)/)[0]
        ?.replaceAll('`', '')
        .replaceAll(/\s+/g, ' ')
        .trim() ?? '',
  );
}

function wrapped(text: string): string {
  const lines: string[] = [];
  let line = '  *';
  for (const word of text.split(' ')) {
    if (line.length + 1 + word.length > width) {
      lines.push(line);
      line = '   ';
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

/** RFC 5322, in UTC, as deb-changelog(5) wants it. */
function dateOf(epoch: number): string {
  return new Date(epoch * 1000).toUTCString().replace('GMT', '+0000');
}

/**
 * Debian's changelog (deb-changelog(5)) of one version, out of CHANGELOG.md.
 * @throws ReliveError `configuration` where CHANGELOG.md says nothing
 */
export function debianChangelog(
  markdown: string,
  {
    version,
    maintainer,
    epoch,
  }: { readonly version: string; readonly maintainer: string; readonly epoch: number },
): string {
  const entries = entriesOf(markdown, version);
  if (entries.length === 0) {
    throw new ReliveError('configuration', `CHANGELOG.md has no entry for ${version}`);
  }
  return `relive (${version}) unstable; urgency=medium\n\n${entries.map(wrapped).join('\n')}\n\n -- ${maintainer}  ${dateOf(epoch)}\n`;
}
