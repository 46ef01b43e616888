import { join } from 'node:path';
import { z } from 'zod';

/** Where results are kept; committed. */
export const resultsDirectory = join(import.meta.dirname, 'results');

const tableSchema = z.strictObject({
  title: z.string(),
  columns: z.array(z.strictObject({ name: z.string(), unit: z.string() })),
  /** A figure for each column; null where there is none. */
  rows: z.array(z.strictObject({ name: z.string(), values: z.array(z.number().nullable()) })),
  /** The column that is drawn; none unless given. */
  plot: z.string().optional(),
});

const goalSchema = z.strictObject({
  what: z.string(),
  measured: z.number(),
  order: z.enum(['at least', 'at most']),
  wanted: z.number(),
  unit: z.string(),
  met: z.boolean(),
});

/** What a part of a comparison found. */
export const resultSchema = z.strictObject({
  schema: z.literal(1),
  bench: z.string(),
  part: z.string(),
  date: z.iso.date(),
  /** The version of relive. */
  relive: z.string(),
  machine: z.strictObject({
    cores: z.int(),
    processor: z.string(),
    /** In bytes. */
    memory: z.int(),
    kernel: z.string(),
    virtualMachine: z.boolean(),
    debian: z.string(),
  }),
  /** How many processes wanted a core, over a minute, before and at the end: what else the machine did. */
  load: z.strictObject({ before: z.number(), after: z.number() }),
  /** The versions of the programs. */
  tools: z.record(z.string(), z.string()),
  tables: z.array(tableSchema),
  goals: z.array(goalSchema),
  notes: z.array(z.string()),
});

export type Result = z.infer<typeof resultSchema>;
export type Table = z.infer<typeof tableSchema>;
export type Goal = z.infer<typeof goalSchema>;

/** The name of the file of a part. */
export function resultFile({ bench, part }: { readonly bench: string; readonly part: string }): string {
  return `${bench}.${part}.json`;
}
