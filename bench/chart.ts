/** One bar of a chart. */
interface Bar {
  readonly name: string;
  /** Null where there is no figure. */
  readonly value: number | null;
}

const [left, width, height, top] = [300, 720, 26, 40] as const;
const room = width - left - 90;

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** A chart of horizontal bars from zero, as SVG. @param title what the figures are, and their unit */
export function barChart(title: string, bars: readonly Bar[]): string {
  const largest = Math.max(...bars.map(({ value }) => value ?? 0), Number.MIN_VALUE);
  const rows = bars.map(({ name, value }, index) => {
    const y = top + index * height;
    const length = ((value ?? 0) / largest) * room;
    const colour = name.startsWith('relive') ? '#a80030' : '#5b7083';
    const figure = value === null ? '-' : String(Number(value.toPrecision(3)));
    return [
      `  <text x="${left - 10}" y="${y + 17}" text-anchor="end">${escape(name)}</text>`,
      `  <rect x="${left}" y="${y + 4}" width="${length.toFixed(1)}" height="${height - 8}" fill="${colour}"/>`,
      `  <text x="${(left + length + 6).toFixed(1)}" y="${y + 17}">${figure}</text>`,
    ].join('\n');
  });
  const total = top + bars.length * height + 14;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${total}" viewBox="0 0 ${width} ${total}" font-family="sans-serif" font-size="13" role="img" aria-label="${escape(title)}">
  <rect width="${width}" height="${total}" fill="#ffffff"/>
  <text x="14" y="24" font-weight="bold">${escape(title)}</text>
${rows.join('\n')}
</svg>
`;
}
