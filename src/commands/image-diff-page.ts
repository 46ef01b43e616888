import type { ImageDifference } from '../image/diff.ts';
import { formatBytes, printableLine } from '../report/format.ts';
import type { TreeDifference } from '../rootfs/compare.ts';

const style = `
  :root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
  body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
  th, td { border-bottom: 1px solid #8884; padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
  td.number { text-align: right; white-space: nowrap; }
  .added, .upgraded { color: #1a7f37; } .removed, .downgraded { color: #c1121f; } .changed, .replaced { color: #9a6700; }
  nav a { margin-right: 1rem; }
`;

function escape(text: string): string {
  return printableLine(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

interface Section {
  readonly id: string;
  readonly title: string;
  readonly head: readonly string[];
  /** A cell that begins with a kind of difference gets its colour. */
  readonly rows: readonly (readonly string[])[];
}

function table({ id, title, head, rows }: Section): string {
  if (rows.length === 0) return '';
  const cells = (row: readonly string[]): string =>
    row
      .map((cell, index) => (index === 0 ? `<td class="${escape(cell)}">` : '<td>') + `${escape(cell)}</td>`)
      .join('');
  return [
    `<h2 id="${id}">${escape(title)} (${rows.length})</h2>`,
    `<table><thead><tr>${head.map((each) => `<th>${escape(each)}</th>`).join('')}</tr></thead><tbody>`,
    ...rows.map((row) => `<tr>${cells(row)}</tr>`),
    '</tbody></table>',
  ].join('\n');
}

function entryRow({ path, kind, aspects, from, to }: TreeDifference): string[] {
  const both = (pick: (facts: NonNullable<typeof from>) => string): string => {
    const [a, b] = [from, to].map((facts) => (facts === undefined ? '' : pick(facts)));
    return a === b || b === '' ? (a ?? '') : a === '' ? (b ?? '') : `${a} → ${b}`;
  };
  return [
    kind,
    `/${path}`,
    aspects.join(', '),
    both(({ type }) => type),
    both(({ mode }) => mode),
    both(({ owner }) => owner),
    both(({ type, size }) => (type === 'file' ? formatBytes(size) : '')),
    both(({ time }) => time.replace('.000Z', 'Z')),
  ];
}

/** A page of HTML, complete in itself, that shows how two images differ. */
export function diffPage(difference: ImageDifference): string {
  const { from, to, facts, packages, units, files, initrd } = difference;
  const entries = ['', 'path', 'what', 'type', 'mode', 'owner', 'size', 'time'];
  const sections: Section[] = [
    {
      id: 'facts',
      title: 'What the manifests say',
      head: ['', from, to],
      rows: facts.map((fact) => [fact.name, fact.from, fact.to]),
    },
    {
      id: 'packages',
      title: 'Packages',
      head: ['', 'package', from, to],
      rows: packages.map(({ kind, name, architecture, ...versions }) => [
        kind,
        `${name}:${architecture}`,
        versions.from ?? '',
        versions.to ?? '',
      ]),
    },
    {
      id: 'units',
      title: 'Units',
      head: ['', 'path'],
      rows: units.map(({ kind, path }) => [kind, `/${path}`]),
    },
    { id: 'files', title: 'Files', head: entries, rows: files.map(entryRow) },
    { id: 'initrd', title: 'Files in the initrd', head: entries, rows: (initrd ?? []).map(entryRow) },
  ];
  const used = sections.filter(({ rows }) => rows.length > 0);
  const title = `${escape(from)} → ${escape(to)}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<h1>${title}</h1>
<nav>${used.map(({ id, title: name }) => `<a href="#${id}">${escape(name)}</a>`).join('')}</nav>
${used.map(table).join('\n') || '<p>The same system.</p>'}
</body>
</html>
`;
}
