import { bench } from 'vitest';

/**
 * A comparison that times its parts itself and runs once. It is asynchronous in any case: a function that is not
 * would be called twice more, to find that out.
 */
export function comparison(name: string, compare: () => void | Promise<void>): void {
  const options = { iterations: 1, time: 0, warmupIterations: 0, warmupTime: 0, throws: true };
  bench(name, async () => await compare(), options);
}

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
