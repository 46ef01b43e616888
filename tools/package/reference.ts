import { type Dependency, dependenciesPage } from './dependencies-page.ts';
import type { Graph } from './house.ts';
import { housePage } from './house-page.ts';
import { commandPages } from './man-commands.ts';
import { formatPages } from './man-formats.ts';
import { markdownPage } from './markdown.ts';

const notice = '<!-- Made by `npm run reference`, out of the code. -->\n\n';

/**
 * The documents of docs/reference/, by file name: what the man pages say, to be read in a browser.
 * @param samples a site and a profile to show
 * @param graph the modules of src/ and what they import
 * @param dependencies the libraries of package-lock.json
 */
export function referenceDocuments(
  samples: Parameters<typeof formatPages>[0],
  graph: Graph,
  dependencies: readonly Dependency[],
): Readonly<Record<string, string>> {
  const documents: Record<string, string> = {};
  const commands = commandPages(false).map((page, index) => markdownPage(page, index === 0 ? 1 : 2));
  documents['commands.md'] = `${notice}${commands.join('\n')}`;
  for (const page of formatPages(samples)) {
    documents[`${page.name.replace('.', '-')}.md`] = `${notice}${markdownPage(page, 1)}`;
  }
  documents['modules.md'] = `${notice}${housePage(graph)}`;
  documents['dependencies.md'] = `${notice}${dependenciesPage(dependencies)}`;
  return documents;
}
