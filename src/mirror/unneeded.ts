import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { systemCode } from '../core/error.ts';
import { writeFileAtomic } from '../host/files.ts';
import type { Layout } from './repository.ts';

const schema = z.record(z.string(), z.iso.datetime());

/** Since when pool files are not needed any more, ISO 8601 by path. */
export type Unneeded = z.infer<typeof schema>;

function unneededPath(layout: Layout): string {
  return join(layout.state, 'unneeded.json');
}

/** What is remembered of files that nothing needs; nothing where that cannot be read: their grace period begins anew. */
export function readUnneeded(layout: Layout): Unneeded {
  try {
    return schema.safeParse(JSON.parse(readFileSync(unneededPath(layout), 'utf8'))).data ?? {};
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || error instanceof SyntaxError) return {};
    throw error;
  }
}

export async function writeUnneeded(layout: Layout, unneeded: Unneeded): Promise<void> {
  await writeFileAtomic(unneededPath(layout), JSON.stringify(unneeded));
}
