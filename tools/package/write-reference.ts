/** `npm run reference`: writes docs/reference/. Runs compiled, out of build/package/. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exampleFiles } from './example.ts';
import { readGraph } from './house.ts';
import { referenceDocuments } from './reference.ts';

// build/package/tools/package, compiled.
const root = join(import.meta.dirname, '../../../..');
const directory = join(root, 'docs/reference');
await mkdir(directory, { recursive: true });
const documents = referenceDocuments(await exampleFiles(root), readGraph(join(root, 'src')));
for (const [name, text] of Object.entries(documents)) {
  await writeFile(join(directory, name), text);
}
