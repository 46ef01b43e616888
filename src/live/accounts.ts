/** The files that name users and groups, from the root; each is a list of entries, one a line, by name. */
export const accountFiles = [
  'etc/passwd',
  'etc/group',
  'etc/shadow',
  'etc/gshadow',
  'etc/subuid',
  'etc/subgid',
] as const;

/** In group(5) and gshadow(5) the last field lists members; others may have joined by hand. */
const withMembers: ReadonlySet<string> = new Set(['etc/group', 'etc/gshadow']);

function entriesOf(text: string): Map<string, string> {
  const lines = text.split('\n').filter((line) => line !== '');
  return new Map(lines.map((line) => [line.split(':', 1)[0] ?? '', line]));
}

function membersOf(line: string | undefined): string[] {
  return (line?.split(':').at(-1) ?? '').split(',').filter((name) => name !== '');
}

/** A group whose members were changed on both sides: those of the running system, and what the image added or removed. */
function mergeMembers(base: string | undefined, to: string, live: string): string {
  const before = new Set(membersOf(base));
  const after = new Set(membersOf(to));
  const members = membersOf(live).filter((name) => after.has(name) || !before.has(name));
  for (const name of after) if (!before.has(name) && !members.includes(name)) members.push(name);
  return [...live.split(':').slice(0, -1), members.join(',')].join(':');
}

/**
 * Merges what an image changes in a list of users or groups into that of the running system. What the image adds is
 * added; an entry that it changes or removes is changed or removed where it still is as the image before had it; what
 * was made or changed by hand stays.
 * @param path the file, from the root
 * @param base the file in the image that was applied last
 * @param to the file in the new image
 * @param live the file as it is now
 */
export function mergeAccounts(path: string, base: string, to: string, live: string): string {
  const before = entriesOf(base);
  const after = entriesOf(to);
  const now = entriesOf(live);
  const merged: string[] = [];
  for (const [name, line] of now) {
    const [old, wanted] = [before.get(name), after.get(name)];
    if (wanted === undefined) {
      if (line !== old) merged.push(line);
    } else if (line === old) merged.push(wanted);
    else merged.push(withMembers.has(path) ? mergeMembers(old, wanted, line) : line);
  }
  for (const [name, line] of after) {
    // What was removed by hand stays so.
    if (!now.has(name) && !before.has(name)) merged.push(line);
  }
  return merged.map((line) => `${line}\n`).join('');
}
