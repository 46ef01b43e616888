/** `npm run reference`: writes docs/reference/. Runs compiled, out of build/package/. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dependenciesOf } from './dependencies-page.ts';
import { exampleFiles } from './example.ts';
import { readGraph } from './house.ts';
import { referenceDocuments } from './reference.ts';

// build/package/tools/package, compiled.
const root = join(import.meta.dirname, '../../../..');
const directory = join(root, 'docs/reference');
await mkdir(directory, { recursive: true });
const documents = referenceDocuments(
  await exampleFiles(root),
  readGraph(join(root, 'src')),
  dependenciesOf(JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8'))),
);
for (const [name, text] of Object.entries(documents)) {
  await writeFile(join(directory, name), text);
}
