/**
 * The names in a relationship field (Debian policy, chapter 7): for each of its parts the alternatives, without
 * versions, architectures and build profiles.
 */
export function relationNames(field: string): string[][] {
  return field
    .split(',')
    .map((part) =>
      part
        .split('|')
        .map((alternative) => /^[a-z0-9][a-z0-9+.-]*/.exec(alternative.trim())?.[0] ?? '')
        .filter((name) => name !== ''),
    )
    .filter((names) => names.length > 0);
}
