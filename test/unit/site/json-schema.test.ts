import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { jsonSchemas } from '../../../src/site/json-schema.ts';

const directory = join(import.meta.dirname, '../../../schemas');

test('schemas/ is what the schemas make (npm run schemas writes it)', () => {
  const written = readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'utf8')]);
  expect(Object.fromEntries(written)).toEqual(jsonSchemas());
});

test('they refuse unknown keys and require what relive requires', () => {
  const profile = JSON.parse(jsonSchemas()['profile.schema.json'] ?? '') as Record<string, unknown>;
  expect(profile).toMatchObject({ additionalProperties: false, required: ['version'] });
  const site = JSON.parse(jsonSchemas()['relive.schema.json'] ?? '') as Record<string, unknown>;
  expect(site).toMatchObject({ additionalProperties: false, required: ['version', 'repositories'] });
});
