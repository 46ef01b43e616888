import { lstat, mkdir, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Document, isSeq, parseDocument } from 'yaml';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { exists, ifThere, writeFileAtomic } from '../host/files.ts';
import { debianKeyring } from '../host/packages.ts';
import { type Archives, hostArchives } from './apt.ts';
import { nearest } from './nearest.ts';
import { shippedDirectory, shippedOverlay, shippedProfile } from './shipped.ts';
import { siteFile } from './site.ts';
import { archiveUrl } from './syntax.ts';

const ignored = ['/store/', '/mirror/', '/.relive/', '/keys/gnupg/'];

export interface InitOptions {
  readonly directory: string;
  /** The shipped profile to begin with. */
  readonly profile: string;
  /** The address of Debian's archive; the host's apt is asked unless given. */
  readonly archive?: string | undefined;
  /** The address of Debian's security archive; the host's apt is asked unless given. */
  readonly securityArchive?: string | undefined;
}

export interface NewSite {
  readonly directory: string;
  readonly profile: string;
  readonly archive: string;
  readonly securityArchive?: string | undefined;
  /** What was written, from the site. */
  readonly files: readonly string[];
}

/** A file that is to be written. */
interface PlannedFile {
  readonly path: string;
  readonly content: Buffer;
  readonly mode: number;
}

function textAt(document: Document, key: string): string {
  const value: unknown = document.get(key);
  return typeof value === 'string' ? value : '';
}

/** The profiles that ship with relive and what they are, by name. */
export async function shippedProfiles(): Promise<{ readonly name: string; readonly description: string }[]> {
  const entries = await readdir(shippedDirectory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  return await Promise.all(
    names.toSorted().map(async (name) => {
      const text = await readFile(join(shippedDirectory, name, 'profile.yaml'), 'utf8');
      return { name, description: textAt(parseDocument(text), 'description') };
    }),
  );
}

/** Every regular file below a directory, by its path from there; symbolic links and directories are not followed or listed. */
async function filesBelow(directory: string, below = ''): Promise<string[]> {
  const entries = await readdir(join(directory, below), { withFileTypes: true });
  const lists = await Promise.all(
    entries.map(async (entry) => {
      const path = join(below, entry.name);
      return entry.isDirectory() ? await filesBelow(directory, path) : [path];
    }),
  );
  return lists.flat().toSorted();
}

function checkedUrl(option: string, value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const checked = archiveUrl.safeParse(value);
  if (checked.success) return checked.data.replace(/\/+$/, '');
  const allowed = checked.error.issues[0]?.message ?? 'an address';
  throw new ReliveError('usage', `${option} ${JSON.stringify(value)}: allowed is ${allowed}`, {
    hint: `${option} http://ftp.debian.org/debian`,
  });
}

async function findArchives(options: InitOptions, context: Context): Promise<Archives & { debian: string }> {
  const given: Archives = {
    debian: checkedUrl('--archive', options.archive),
    security: checkedUrl('--security-archive', options.securityArchive),
  };
  const host: Archives =
    given.debian === undefined || given.security === undefined ? await hostArchives(context) : {};
  const debian = given.debian ?? host.debian;
  if (debian === undefined) {
    throw new ReliveError(
      'configuration',
      "the address of Debian's archive is not known: the host's apt has none that relive can use (http or https)",
      { hint: 'name the mirror nearest to you: relive init --archive http://ftp.debian.org/debian' },
    );
  }
  return { debian, security: given.security ?? host.security };
}

/** relive.yaml of a new site. */
export function siteYaml(
  suite: string,
  architecture: string,
  archives: Archives & { debian: string },
): string {
  const repository = (name: string, url: string, suites: readonly string[]): string => `  ${name}:
    url: [${JSON.stringify(url)}]
    suites: [${suites.join(', ')}]
    components: [main, non-free-firmware]
    architectures: [${architecture}]
    signedBy: ${debianKeyring}
`;
  const security =
    archives.security === undefined
      ? ''
      : repository('debian-security', archives.security, [`${suite}-security`]);
  return `# A site of relive: which repositories packages come from and where things are kept.
version: 1

# Paths from this directory, or absolute ones.
store: store        # images and their layers
mirror: mirror      # copies of repositories
keys: keys          # the keys that images are signed with

# Each address is the root of an archive; the first that answers serves.
repositories:
${repository('debian', archives.debian, [suite, `${suite}-updates`])}${security}`;
}

function textFile(path: string, content: string): PlannedFile {
  return { path, content: Buffer.from(content), mode: 0o644 };
}

/** A shipped profile and those that it extends, each once. */
async function shippedChain(name: string): Promise<{ readonly name: string; readonly document: Document }[]> {
  const document = parseDocument(await readFile(shippedProfile(name), 'utf8'));
  const parents = document.get('extends');
  const above = await Promise.all(
    (isSeq(parents) ? parents.items : []).map(async (parent) => await shippedChain(String(parent))),
  );
  const chain = [...above.flat(), { name, document }];
  return [...new Map(chain.map((each) => [each.name, each])).values()];
}

/** The files of an overlay that ships with relive, for a site. */
async function overlayFiles(name: string): Promise<PlannedFile[]> {
  const overlay = shippedOverlay(name);
  const files: PlannedFile[] = [];
  for (const path of (await exists(overlay)) ? await filesBelow(overlay) : []) {
    const from = join(overlay, path);
    // What others may do with a file is part of the system; how relive was unpacked is not.
    const mode = ((await stat(from)).mode & 0o111) === 0 ? 0o644 : 0o755;
    files.push({ path: join('overlays', name, path), content: await readFile(from), mode });
  }
  return files;
}

/** The files of a new site, relive.yaml last: it makes the directory a site. */
async function planFiles(
  profile: string,
  archives: Archives & { debian: string },
  oldIgnore: string | undefined,
): Promise<PlannedFile[]> {
  const chain = await shippedChain(profile);
  const own: PlannedFile[] = [];
  for (const { name, document } of chain) {
    const repositories = document.get('repositories');
    if (archives.security === undefined && isSeq(repositories)) {
      repositories.items = repositories.items.filter((item) => String(item) !== 'debian-security');
    }
    own.push(
      ...(await overlayFiles(name)),
      textFile(
        join('profiles', `${name}.yaml`),
        document.toString({ lineWidth: 0, flowCollectionPadding: false }),
      ),
    );
  }
  const oldLines = oldIgnore === undefined ? [] : oldIgnore.split('\n');
  const newLines = ignored.filter((line) => !oldLines.includes(line));
  const start =
    oldIgnore === undefined || oldIgnore === '' || oldIgnore.endsWith('\n') ? oldIgnore : `${oldIgnore}\n`;
  const text = (key: string): string =>
    chain.map(({ document }) => textAt(document, key)).findLast(Boolean) ?? '';
  return [
    ...own,
    textFile('.gitignore', `${start ?? ''}${newLines.map((line) => `${line}\n`).join('')}`),
    textFile(siteFile, siteYaml(text('suite'), text('architecture'), archives)),
  ];
}

/** The content of a regular file; undefined where nothing is there, null where something else is (a symbolic link, say). */
async function readRegular(path: string): Promise<Buffer | null | undefined> {
  const status = await ifThere(lstat(path));
  if (status === undefined) return undefined;
  return status.isFile() ? await ifThere(readFile(path)) : null;
}

/**
 * Refuses a directory that is a site or none.
 * @returns the .gitignore of a git repository, where it has one
 */
async function checkDirectory(directory: string): Promise<string | undefined> {
  if (!(await exists(directory))) return undefined;
  if (!(await stat(directory)).isDirectory()) {
    throw new ReliveError('exists', `${directory} is a file`, { hint: 'name a directory: relive init DIR' });
  }
  if (await exists(join(directory, siteFile))) {
    throw new ReliveError('exists', `${directory} is a site already`, {
      hint: 'relive profile list shows its profiles',
    });
  }
  if (!(await exists(join(directory, '.git')))) return undefined;
  return (await readRegular(join(directory, '.gitignore')))?.toString('utf8');
}

/**
 * Refuses a directory with files of somebody else: in a git repository those that are in our way, else any. What a
 * cut-off run left is no hindrance: files with the content that we are about to write, and temporary ones.
 * @returns the temporary ones
 */
async function refuseForeign(directory: string, planned: readonly PlannedFile[]): Promise<string[]> {
  if (!(await exists(directory))) return [];
  const git = await exists(join(directory, '.git'));
  const byPath = new Map(planned.map((file) => [file.path, file]));
  const leftovers: string[] = [];
  for (const path of git ? byPath.keys() : await filesBelow(directory)) {
    const planHere = byPath.get(path);
    const present = planHere === undefined ? null : await readRegular(join(directory, path));
    if (/(^|\/)\.tmp-[^/]+-[0-9a-f]{8}$/.test(path)) leftovers.push(path);
    else if (present !== undefined && (present === null || planHere?.content.equals(present) === false)) {
      if (git && path === '.gitignore' && present !== null) continue;
      throw new ReliveError('exists', `${directory} is not empty: it has ${path}`, {
        hint: git
          ? 'move that file away, or name another directory: relive init DIR'
          : 'name a new directory, an empty one or a git repository: relive init DIR',
      });
    }
  }
  return leftovers;
}

/** Removes what a failed run has made, in the reverse order; directories only where nothing else is in them. */
async function undo(
  made: readonly { readonly path: string; readonly kind: 'file' | 'directory' }[],
): Promise<void> {
  for (const { path, kind } of made.toReversed()) {
    if (kind === 'file') await rm(path, { force: true });
    else {
      try {
        await rmdir(path);
      } catch (error) {
        if (systemCode(error) !== 'ENOTEMPTY' && systemCode(error) !== 'ENOENT') throw error;
      }
    }
  }
}

/** The directories that are missing for `path` to be one, the highest first. */
async function missingDirectories(path: string): Promise<string[]> {
  const missing: string[] = [];
  for (let at = path; !(await exists(at)); at = dirname(at)) missing.unshift(at);
  return missing;
}

/** Writes the files in order; one that fails takes with it what was written before. */
async function writeAll(
  directory: string,
  planned: readonly PlannedFile[],
  signal: AbortSignal,
): Promise<void> {
  const made: { path: string; kind: 'file' | 'directory' }[] = [];
  try {
    for (const { path, content, mode } of planned) {
      signal.throwIfAborted();
      const target = join(directory, path);
      for (const missing of await missingDirectories(dirname(target))) {
        await mkdir(missing);
        made.push({ path: missing, kind: 'directory' });
      }
      // What was there before (the .gitignore of a repository) is not ours to remove.
      if (!(await exists(target))) made.push({ path: target, kind: 'file' });
      await writeFileAtomic(target, content, { mode });
    }
  } catch (error) {
    await undo(made);
    throw error;
  }
}

/**
 * Makes a new site with one of the shipped profiles: relive.yaml with the addresses that the host's apt uses, the profile, its
 * overlay, .gitignore. relive.yaml is written last, so that a run which is cut off leaves no site and can be
 * repeated; one that fails removes what it wrote.
 * @throws ReliveError `exists`, `not-found` (profile), `usage` (an address), `configuration` (no archive or no keyring), `disk-full`
 */
export async function initSite(options: InitOptions, context: Context): Promise<NewSite> {
  try {
    return await makeSite(options, context);
  } catch (error) {
    throw explainUnwritable(error, options.directory);
  }
}

async function makeSite(options: InitOptions, context: Context): Promise<NewSite> {
  const { directory, profile } = options;
  const shipped = (await shippedProfiles()).map(({ name }) => name);
  if (!shipped.includes(profile)) {
    const near = nearest(profile, shipped);
    throw new ReliveError(
      'not-found',
      `no profile ${JSON.stringify(profile)} ships with relive${near === undefined ? '' : `; did you mean ${near}?`}`,
      { hint: `there is ${shipped.join(', ')}; relive init --list says what each is` },
    );
  }
  const oldIgnore = await checkDirectory(directory);
  const archives = await findArchives(options, context);
  if (!(await exists(debianKeyring))) {
    throw new ReliveError('configuration', `Debian's keys are missing: there is no ${debianKeyring}`, {
      hint: 'apt-get install debian-archive-keyring',
    });
  }
  const planned = await planFiles(profile, archives, oldIgnore);
  const leftovers = await refuseForeign(directory, planned);
  if (archives.security === undefined) {
    context.emit({
      event: 'warning',
      message: "the address of Debian's security archive is not known; the site is made without it",
      hint: 'relive init --security-archive URL, or add it to relive.yaml as a repository',
    });
  }
  await writeAll(directory, planned, context.signal);
  for (const path of leftovers) await rm(join(directory, path), { force: true });
  return {
    directory,
    profile,
    archive: archives.debian,
    securityArchive: archives.security,
    files: planned.map(({ path }) => path),
  };
}

/** The error for the user where a directory may not be written. */
function explainUnwritable(error: unknown, directory: string): unknown {
  const code = systemCode(error);
  if (error instanceof ReliveError || code === undefined) return error;
  if (!['EACCES', 'EEXIST', 'ELOOP', 'ENAMETOOLONG', 'ENOTDIR', 'EPERM', 'EROFS'].includes(code))
    return error;
  return new ReliveError('usage', `${directory} cannot be written (${code})`, {
    hint: 'name a directory which you may write: relive init DIR',
    cause: error,
  });
}
