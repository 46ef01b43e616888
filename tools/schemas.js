/* oxlint-disable typescript/no-unsafe-call, typescript/no-unsafe-argument -- plain JavaScript over built files */
// Writes the JSON Schemas for editors into schemas/, from those in src/site/ (npm run schemas).
import { mkdirSync, writeFileSync } from 'node:fs';
import { jsonSchemas } from '../build/modules/site/json-schema.js';

const directory = new URL('../schemas/', import.meta.url);
mkdirSync(directory, { recursive: true });
for (const [name, text] of Object.entries(jsonSchemas())) writeFileSync(new URL(name, directory), text);
