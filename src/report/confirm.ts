import { createInterface } from 'node:readline/promises';
import { printable } from './format.ts';

/**
 * Asks something that cannot be undone, on the terminal.
 * @returns whether the answer was yes; no where nobody can be asked
 * @throws what the signal was aborted with
 */
export async function confirm(question: string, signal: AbortSignal): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const closed = new Promise<string>((resolve) => {
      terminal.once('close', () => resolve(''));
    });
    const answer = terminal.question(`${printable(question)} [y/N] `, { signal });
    return /^y(es)?$/i.test((await Promise.race([answer, closed])).trim());
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    terminal.close();
  }
}
