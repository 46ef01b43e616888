import { compareVersions, isVersion } from './version.ts';

/** One entry of a changelog. */
export interface ChangelogEntry {
  readonly version: string;
  readonly text: string;
}

/** The first line of an entry (deb-changelog(5)): source, version, distributions, keys. */
const heading = /^[A-Za-z0-9][A-Za-z0-9+.-]* \(([^()\s]+)\)(?: [A-Za-z0-9.+-]+)+;/;

/** The entries of a changelog (deb-changelog(5)), in its order; what stands before the first is none. */
export function changelogEntries(text: string): ChangelogEntry[] {
  const entries: { version: string; lines: string[] }[] = [];
  for (const line of text.split('\n')) {
    const version = heading.exec(line)?.[1];
    if (version === undefined) entries.at(-1)?.lines.push(line);
    else entries.push({ version, lines: [] });
  }
  return entries.map(({ version, lines }) => ({ version, text: lines.join('\n') }));
}

/** The year, then the number, of a CVE identifier. */
function order(name: string): number {
  const [, year, number] = name.split('-');
  return Number(year) * 1e9 + Number(number);
}

/**
 * The CVE identifiers that the entries name which came after one version, up to and with another one, sorted by year and number.
 * Entries of what is no version, which old changelogs have, count for none.
 */
export function fixedBetween(entries: readonly ChangelogEntry[], from: string, to: string): string[] {
  const found = new Set<string>();
  for (const { version, text } of entries) {
    if (!isVersion(version)) continue;
    if (compareVersions(version, from) <= 0 || compareVersions(version, to) > 0) continue;
    for (const [name] of text.matchAll(/\bCVE-\d{4}-\d{4,}\b/g)) found.add(name);
  }
  return [...found].toSorted((a, b) => order(a) - order(b));
}
