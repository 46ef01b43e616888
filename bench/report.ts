/** Prints a line of the report; vitest shows standard output as it is. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Says whether a figure is what it should be. */
export function goal(
  what: string,
  measured: number,
  order: 'at least' | 'at most',
  wanted: number,
  unit = '',
): void {
  const met = order === 'at least' ? measured >= wanted : measured <= wanted;
  say(
    `  ${met ? 'met   ' : 'MISSED'}  ${what}: ${measured.toFixed(2)}${unit}, ${order} ${wanted}${unit} is wanted`,
  );
}
