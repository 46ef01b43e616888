import { readFile } from 'node:fs/promises';
import { ifThere } from '../host/files.ts';
import type { LiveConfiguration } from './configuration-text.ts';

/**
 * Reads the configuration of a live machine; one that is not there says nothing, and needs no parser.
 * @throws ReliveError `configuration`
 */
export async function liveConfiguration(file: string): Promise<LiveConfiguration> {
  const text = await ifThere(readFile(file, 'utf8'));
  if (text === undefined) return {};
  const { parseConfiguration } = await import('./configuration-text.ts');
  return parseConfiguration(text, file);
}
