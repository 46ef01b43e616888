/** Where xkb-data lists layouts and variants for people (xkeyboard-config(7)), below the root of a system. */
export const xkbNamesFile = 'usr/share/X11/xkb/rules/base.lst';

/** The layouts of that list, and the variants of each. */
export function parseXkbNames(text: string): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>();
  let section = '';
  for (const line of text.split('\n')) {
    const [, title] = /^! (\S+)/.exec(line) ?? [];
    if (title !== undefined) {
      section = title;
      continue;
    }
    const [, name, of] = /^ {2}(\S+)\s+(?:([A-Za-z0-9_-]+):)?/.exec(line) ?? [];
    if (name === undefined) continue;
    if (section === 'layout') names.set(name, []);
    else if (section === 'variant' && of !== undefined) names.get(of)?.push(name);
  }
  return names;
}
