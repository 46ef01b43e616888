import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, messageOf } from '../core/error.ts';
import { makeDirectories } from './files.ts';
import { run } from './process.ts';
import { SourceFailure } from './source-failure.ts';

/** rsync(1), EXIT VALUES: what asking again will not mend, and what only says that some files are not there. */
const final = new Set([1, 2, 4, 5, 6]);
const partial = new Set([0, 23, 24]);

/** The module and the path in it: `rsync://HOST/MODULE/PATH`. */
function split(url: string): { readonly base: string; readonly path: string } {
  const { pathname } = new URL(url);
  const [, module = '', ...path] = pathname.split('/');
  return {
    base: url.slice(0, url.length - pathname.length) + `/${module}/`,
    path: decodeURIComponent(path.join('/')),
  };
}

/**
 * Brings files from one rsync server into a directory, in one run: those that the server has are there afterwards, by
 * their path in the module. Nothing is checked here.
 * @param urls addresses `rsync://HOST/MODULE/PATH` of one module
 * @returns where the file of each address is, whether it came or not
 * @throws SourceFailure; ReliveError `tool-missing`, or what the signal was aborted with
 */
export async function rsyncFiles(
  urls: readonly string[],
  directory: string,
  options: {
    readonly signal: AbortSignal;
    readonly bandwidth: number | undefined;
    readonly timeoutSeconds: number;
  },
): Promise<Map<string, string>> {
  const [first = ''] = urls;
  const { base } = split(first);
  const paths = new Map(urls.map((url) => [url, split(url).path]));
  await makeDirectories(directory);
  const limit =
    options.bandwidth === undefined ? [] : [`--bwlimit=${Math.max(1, Math.floor(options.bandwidth / 1024))}`];
  let status: number;
  try {
    ({ status } = await run(
      'rsync',
      [
        ...['--copy-links', '--times', '--partial', '--files-from=-', '--from0', '--no-motd'],
        // What the server sends is a tree of files and no more: no devices, no owners, no way out of the directory.
        ...['--no-devices', '--no-specials', '--no-owner', '--no-group', '--chmod=F644,D755'],
        ...[`--timeout=${options.timeoutSeconds}`, ...limit, '--', base, `${directory}/`],
      ],
      {
        signal: options.signal,
        input: [...paths.values()].map((path) => `${path}\0`).join(''),
        accept: Array.from({ length: 100 }, (_, index) => index),
      },
    ));
  } catch (error) {
    if (isReliveError(error, 'tool-missing')) throw error;
    options.signal.throwIfAborted();
    throw new SourceFailure('broken', first, messageOf(error), { cause: error });
  }
  if (!partial.has(status)) {
    const kind = final.has(status) ? 'refused' : status === 10 ? 'unreachable' : 'broken';
    throw new SourceFailure(kind, first, `rsync ended with status ${status}`);
  }
  return new Map([...paths].map(([url, path]) => [url, join(directory, path)]));
}

/** Brings one file into `directory`; undefined where the server does not have it. */
export async function rsyncFile(
  url: string,
  directory: string,
  options: Parameters<typeof rsyncFiles>[2],
): Promise<string | undefined> {
  await rm(directory, { recursive: true, force: true });
  return (await rsyncFiles([url], directory, options)).get(url);
}
