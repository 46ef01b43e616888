import { z } from 'zod';
import { profileSchema, siteSchema } from './schema.ts';

function jsonSchema(schema: z.ZodType): string {
  return `${JSON.stringify(z.toJSONSchema(schema, { target: 'draft-7', io: 'input' }), null, 2)}\n`;
}

/** The JSON Schemas for editors by their file names in schemas/; draft 7, which yaml-language-server reads. */
export function jsonSchemas(): Readonly<Record<string, string>> {
  return { 'relive.schema.json': jsonSchema(siteSchema), 'profile.schema.json': jsonSchema(profileSchema) };
}
