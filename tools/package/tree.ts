import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { z } from 'zod';
import { ReliveError } from '../../src/core/error.ts';
import { debianChangelog } from './changelog.ts';
import { bashCompletion } from './completion-bash.ts';
import { fishCompletion } from './completion-fish.ts';
import { zshCompletion } from './completion-zsh.ts';
import type { PackageJson } from './control.ts';
import { copyrightFile, type Library } from './copyright.ts';
import { exampleFiles } from './example.ts';
import { commandPages } from './man-commands.ts';
import { formatPages } from './man-formats.ts';
import { roffPage } from './roff.ts';

/** One file of the package, by its path from the root. */
export interface PackagedFile {
  readonly path: string;
  readonly content: Buffer;
  readonly mode: 0o644 | 0o755;
}

export interface TreeOptions {
  /** The checkout. */
  readonly root: string;
  readonly json: PackageJson;
  /** SOURCE_DATE_EPOCH. */
  readonly epoch: number;
}

/** Where relive is installed; it finds profiles/ and runtime/ beside dist/. */
const home = 'usr/share/relive';
const documents = 'usr/share/doc/relive';
/** Its text goes into the copyright file, and not there a second time. */
const fontLicense = 'runtime/grub/theme/LICENSE';
const units = [
  ...['mirror', 'refresh'].flatMap((name) => [`relive-${name}@.service`, `relive-${name}@.timer`]),
  'relive-serve@.service',
];

function text(path: string, content: string, mode: PackagedFile['mode'] = 0o644): PackagedFile {
  return { path, content: Buffer.from(content), mode };
}

/** As gzip -9n: no name, no time (policy 12.3). */
function compressed(path: string, content: string): PackagedFile {
  return { path: `${path}.gz`, content: gzipSync(content, { level: 9 }), mode: 0o644 };
}

/** Every file below a directory, sorted, at another place; modes are those that git keeps. */
async function copied(from: string, to: string): Promise<PackagedFile[]> {
  const paths = (await readdir(from, { recursive: true })).toSorted();
  const files: PackagedFile[] = [];
  for (const path of paths) {
    const source = join(from, path);
    const status = await lstat(source);
    if (status.isDirectory()) continue;
    if (!status.isFile()) {
      throw new ReliveError('configuration', `${source}: the package holds files and directories only`);
    }
    const mode = (status.mode & 0o100) === 0 ? 0o644 : 0o755;
    files.push({ path: join(to, path), content: await readFile(source), mode });
  }
  return files;
}

const lockedPackages = z.object({
  packages: z.record(z.string(), z.object({ version: z.string(), dev: z.boolean().optional() })),
});
const libraryJson = z.object({ version: z.string(), license: z.string() });

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, 'utf8'));
}

/** The libraries that relive's code has in it, as package-lock.json has them. */
async function libraries(root: string): Promise<readonly Library[]> {
  const { packages } = lockedPackages.parse(await readJson(join(root, 'package-lock.json')));
  const wanted = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  return await Promise.all(
    wanted.map(async ([path, { version }]) => {
      const name = path.replace('node_modules/', '');
      const own = libraryJson.parse(await readJson(join(root, path, 'package.json')));
      if (own.version !== version || path.lastIndexOf('node_modules/') !== 0) {
        throw new ReliveError('configuration', `${path} is not what package-lock.json says`, {
          hint: 'npm ci',
        });
      }
      const license = await readFile(join(root, path, 'LICENSE'), 'utf8');
      return { name, version, license: own.license, text: license };
    }),
  );
}

/** Man pages, completions: what is made of the table of commands and the schemas. */
function generated(version: string, example: Parameters<typeof formatPages>[0]): PackagedFile[] {
  const pages = [...commandPages(), ...formatPages(example)];
  return [
    ...pages.map((page) =>
      compressed(
        `usr/share/man/man${page.section}/${page.name}.${page.section}`,
        roffPage({ ...page, version }),
      ),
    ),
    text('usr/share/bash-completion/completions/relive', bashCompletion()),
    text('usr/share/zsh/vendor-completions/_relive', zshCompletion()),
    text('usr/share/fish/vendor_completions.d/relive.fish', fishCompletion()),
  ];
}

/** A site as `relive init` makes it, of the profile demo. */
async function exampleSite(
  root: string,
  example: Awaited<ReturnType<typeof exampleFiles>>,
): Promise<PackagedFile[]> {
  const site = join(documents, 'examples/site');
  return [
    text(join(site, 'relive.yaml'), example.site),
    text(join(site, 'profiles/demo.yaml'), example.profile),
    ...(await copied(join(root, 'profiles/demo/overlay'), join(site, 'overlays/demo'))),
  ];
}

/** Every file of the package, sorted by its path. */
export async function packageTree({ root, json, epoch }: TreeOptions): Promise<PackagedFile[]> {
  const brought = await libraries(root);
  const read = async (path: string): Promise<string> => await readFile(join(root, path), 'utf8');
  const year = new Date(epoch * 1000).getUTCFullYear();
  const changes = { version: json.version, maintainer: json.author, epoch };
  const { version, description, license } = json;
  const example = await exampleFiles(root);
  const parts: PackagedFile[][] = [
    ...(
      await Promise.all(
        ['dist', 'runtime', 'profiles', 'schemas'].map(
          async (name) => await copied(join(root, name), join(home, name)),
        ),
      )
    ).map((files) => files.filter(({ path }) => path !== join(home, fontLicense))),
    [
      text(
        join(home, 'package.json'),
        `${JSON.stringify({ name: 'relive', version, description, license, type: 'module' }, null, 2)}\n`,
      ),
      text('usr/bin/relive', await read('packaging/relive'), 0o755),
      ...(await Promise.all(
        units.map(async (unit) =>
          text(join('usr/lib/systemd/system', unit), await read(join('packaging', unit))),
        ),
      )),
      text(join(documents, 'README.md'), await read('README.md')),
      text(
        join(documents, 'copyright'),
        copyrightFile(json.author, year, join(home, 'dist'), brought, await read(fontLicense)),
      ),
      compressed(join(documents, 'changelog'), debianChangelog(await read('CHANGELOG.md'), changes)),
      text('usr/share/lintian/overrides/relive', await read('packaging/lintian-overrides')),
    ],
    (await copied(join(root, 'docs'), documents)).filter(({ path }) => path.endsWith('.md')),
    generated(version, example),
    await exampleSite(root, example),
  ];
  const files = parts.flat();
  return files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
