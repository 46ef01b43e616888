import { lstatSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { asError, isReliveError } from '../core/error.ts';
import type { Context, FindingKind } from '../core/event.ts';
import { StanzaReader } from '../debian/control.ts';
import { parsePdiffIndex, parseSha256Sums } from '../debian/listing.ts';
import { safePath } from '../debian/path.ts';
import { parseRelease, type Release, type ReleaseFile, strongestDigest } from '../debian/release.ts';
import { isAbsent } from '../host/files.ts';
import { verifyClearsigned, verifyDetached } from '../host/gpgv.ts';
import { Inspector } from './inspect.ts';
import { PathTable } from './path-table.ts';
import { readIndexFile } from './read-index.ts';
import { byHashPaths, groupIndices, kindOf, splitCompression } from './select.ts';
import type { ArchiveTree, SuiteTree } from './tree.ts';
import type { VerifiedRecord } from './verified.ts';
import type { Answer } from './verify-worker.ts';
import { entriesOf, walk } from './walk.ts';

/** How far ahead of us upstream's clock may be, as apt's Acquire::Max-FutureTime. */
const futureMilliseconds = 10_000;
/** The control data that --deep compares: what an archive does not override (Section, Priority) or shorten (Description). */
const deepFields = [
  ...['Package', 'Version', 'Architecture', 'Pre-Depends', 'Depends', 'Recommends', 'Suggests', 'Enhances'],
  ...['Conflicts', 'Breaks', 'Replaces', 'Provides', 'Essential', 'Multi-Arch'],
] as const;
const packageFields = ['Package', 'Filename', 'Size', 'SHA256', 'SHA512', ...deepFields.slice(1)];
const sourceFields = ['Package', 'Directory', 'Checksums-Sha256', 'Checksums-Sha512'];

export interface VerifyOptions {
  /** Opens binary packages and compares their control data with the index. */
  readonly deep: boolean;
  /** Files that look as they did when they were verified are not read again. */
  readonly changed: boolean;
  /** The share of the pool to read, above 0 and up to 1: that which was not read for longest. */
  readonly sample: number | undefined;
  /** The path of a keyring, or armoured keys. */
  readonly keyring: string;
  readonly fingerprints: readonly string[] | undefined;
  readonly now: Date;
}

/** One thing that is wrong, and the file that it is about. */
export interface VerifyFinding {
  readonly kind: FindingKind;
  /** Relative to the tree's root. */
  readonly path: string;
  readonly detail: string;
  /** Set for a file of the pool: what it should be. */
  readonly expected?: {
    readonly size: number;
    readonly algorithm: 'sha256' | 'sha512';
    readonly digest: string;
  };
}

export interface VerifySummary {
  readonly suites: number;
  /** Files that were read and found right. */
  readonly ok: number;
  /** Bytes that were read. */
  readonly bytes: number;
  /** Files that were trusted or left for another sample. */
  readonly skipped: number;
  readonly findings: Readonly<Partial<Record<FindingKind, number>>>;
  /** Findings altogether. */
  readonly wrong: number;
}

/** A file that something lists. */
interface Listed {
  readonly path: string;
  readonly size: number;
  readonly algorithm: 'sha256' | 'sha512';
  readonly digest: string;
  readonly expected: boolean;
  readonly control?: Readonly<Record<string, string>> | undefined;
}

/** A suite whose signed Release was read. */
interface OpenSuite {
  readonly tree: SuiteTree;
  readonly release: Release;
}

/** Verifies one tree, offline: from the signatures over its Releases to each file of its pool. */
class Verification {
  readonly #tree: ArchiveTree;
  readonly #options: VerifyOptions;
  readonly #record: VerifiedRecord;
  readonly #context: Context;
  readonly #found: (finding: VerifyFinding) => void;
  readonly #inspector: Inspector;
  readonly #root: string;
  readonly #counts = { suites: 0, ok: 0, bytes: 0, skipped: 0, wrong: 0 };
  readonly #kinds: Partial<Record<FindingKind, number>> = {};
  readonly #tops = new Set<string>();
  #reported = 0;

  constructor(
    tree: ArchiveTree,
    options: VerifyOptions,
    record: VerifiedRecord,
    inspector: Inspector,
    found: (finding: VerifyFinding) => void,
    context: Context,
  ) {
    this.#tree = tree;
    this.#options = options;
    this.#record = record;
    this.#inspector = inspector;
    this.#found = found;
    this.#context = context;
    this.#root = realpathSync(tree.root);
  }

  #find(kind: FindingKind, path: string, detail: string, expected?: VerifyFinding['expected']): void {
    this.#kinds[kind] = (this.#kinds[kind] ?? 0) + 1;
    this.#counts.wrong += 1;
    this.#found({ kind, path, detail, ...(expected === undefined ? {} : { expected }) });
    this.#context.emit({ event: 'finding', kind, path: join(this.#tree.name, path), detail });
  }

  #progress(item: string): void {
    const now = performance.now();
    if (now - this.#reported < 100) return;
    this.#reported = now;
    this.#context.emit({
      event: 'progress',
      stage: `verify ${this.#tree.name}`,
      done: this.#counts.bytes,
      unit: 'bytes',
      item,
    });
  }

  async run(): Promise<VerifySummary> {
    const open: { readonly suite: OpenSuite; readonly good: ReadonlySet<string> }[] = [];
    for (const tree of this.#tree.suites) {
      const suite = await this.#openSuite(tree);
      if (suite === undefined) continue;
      this.#counts.suites += 1;
      open.push({ suite, good: await this.#checkIndices(suite) });
    }
    const threshold = this.#options.sample === undefined ? undefined : await this.#sampleThreshold(open);
    const table = new PathTable();
    for (const { suite, good } of open) {
      await this.#eachListed(suite, good, true, async (listed) => {
        const known = table.add(listed.path, `${listed.size} ${listed.digest}`);
        if (known === 'different') {
          this.#find(
            'inconsistent',
            listed.path,
            `${suite.tree.name} lists it with another content than was listed before`,
          );
        }
        if (known === 'new') this.#checkPoolFile(suite.tree, listed, threshold);
      });
    }
    const [base] = this.#tree.suites;
    for (const { path, size, sha256 = '' } of this.#tree.locked) {
      if (base === undefined || table.add(path, `${size} ${sha256}`) !== 'new') continue;
      this.#checkPoolFile(
        base,
        { path, size, algorithm: 'sha256', digest: sha256, expected: true },
        threshold,
      );
    }
    await this.#inspector.idle(this.#context);
    this.#findUnreferenced(table);
    this.#record.save();
    return { ...this.#counts, findings: this.#kinds };
  }

  /** Hands one file of the pool over to be read, unless it may be trusted. */
  #checkPoolFile(suite: SuiteTree, listed: Listed, threshold: SampleThreshold | undefined): void {
    const { path, size, algorithm, digest } = listed;
    const slash = path.indexOf('/');
    this.#tops.add(slash === -1 ? path : path.slice(0, slash));
    const place = join(suite.base, path);
    const expected = { size, algorithm, digest };
    if (threshold !== undefined && !threshold.takes(this.#record.when(path, digest))) {
      this.#counts.skipped += 1;
      return;
    }
    if (this.#options.changed) {
      const info = statOf(place);
      const appearance = info && {
        size: info.size,
        inode: info.ino,
        modified: info.mtimeNs,
        changed: info.ctimeNs,
      };
      if (appearance !== undefined && this.#record.isStill(path, digest, appearance)) {
        this.#counts.skipped += 1;
        return;
      }
    }
    const { control } = listed;
    this.#inspector.add({ path: place, root: this.#root, ...expected, control }, (answer) => {
      this.#settle(answer, path, () => {
        if (answer.kind === 'missing' && !listed.expected) return;
        this.#find(kindFor(answer), path, answer.detail, size < 0 ? undefined : expected);
      });
      if (answer.appearance !== undefined) {
        const [fileSize, inode, modified, changed] = answer.appearance;
        this.#record.add(path, digest, { size: fileSize, inode, modified, changed });
      }
    });
  }

  #settle(answer: Answer, path: string, wrong: () => void): void {
    this.#counts.bytes += answer.bytes;
    if (answer.kind === 'ok') this.#counts.ok += 1;
    else wrong();
    this.#progress(basename(path));
  }

  /** Reads the signed files of a suite and judges them. @returns undefined where there is no Release that can be read */
  async #openSuite(tree: SuiteTree): Promise<OpenSuite | undefined> {
    const { prefix } = tree;
    const files = new Map<string, Buffer>();
    for (const name of ['InRelease', 'Release', 'Release.gpg']) {
      const content = await this.#readSafely(join(tree.directory, name), `${prefix}${name}`);
      if (content !== undefined) files.set(name, content);
    }
    const inRelease = files.get('InRelease');
    const detached = files.get('Release');
    const bodies: Buffer[] = [];
    const options = { as: `${prefix}Release`, ...this.#fingerprints };
    const judge = async (name: string, check: () => Promise<unknown>): Promise<void> => {
      try {
        await check();
      } catch (error) {
        if (!isReliveError(error, 'not-authentic')) throw error;
        this.#find('unsigned', `${prefix}${name}`, error.message);
      }
    };
    if (inRelease !== undefined) {
      await judge('InRelease', async () => {
        const path = join(tree.directory, 'InRelease');
        const { body } = await verifyClearsigned(path, this.#options.keyring, this.#context, options);
        bodies.push(body);
      });
      // What was signed wrongly is looked into all the same: it tells what is wrong with the rest.
      if (bodies.length === 0) bodies.push(textOf(inRelease));
    }
    if (detached !== undefined) {
      if (files.has('Release.gpg')) {
        await judge('Release', async () => {
          const path = join(tree.directory, 'Release');
          await verifyDetached(path, `${path}.gpg`, this.#options.keyring, this.#context, options);
        });
      } else if (inRelease === undefined) {
        this.#find('unsigned', `${prefix}Release`, 'there is neither an InRelease nor a Release.gpg');
      }
      const [body] = bodies;
      if (body === undefined) bodies.push(detached);
      else if (body.toString('utf8').trimEnd() !== detached.toString('utf8').trimEnd()) {
        this.#find('inconsistent', `${prefix}Release`, 'it says something else than the InRelease beside it');
      }
    }
    const [body] = bodies;
    if (body === undefined) {
      this.#find('missing', `${prefix}InRelease`, 'there is neither an InRelease nor a Release');
      return undefined;
    }
    try {
      const release = parseRelease(body, `${prefix}Release`);
      this.#checkTimes(release, `${prefix}${inRelease === undefined ? 'Release' : 'InRelease'}`);
      return { tree, release };
    } catch (error) {
      if (!isReliveError(error, 'corrupt', 'unsafe-path')) throw error;
      this.#find(error.code === 'corrupt' ? 'corrupt' : 'unsafe-path', `${prefix}Release`, error.message);
      return undefined;
    }
  }

  get #fingerprints(): { readonly fingerprints: readonly string[] } | undefined {
    const { fingerprints } = this.#options;
    return fingerprints === undefined ? undefined : { fingerprints };
  }

  #checkTimes({ date, validUntil }: Release, path: string): void {
    const { now } = this.#options;
    if (validUntil !== undefined && validUntil.getTime() < now.getTime()) {
      this.#find('expired', path, `it was valid until ${validUntil.toISOString()}`);
    }
    if (date.getTime() > now.getTime() + futureMilliseconds) {
      this.#find('expired', path, `its Date is in the future: ${date.toISOString()}`);
    }
  }

  /** A small file, unless it leads out of the tree. */
  async #readSafely(path: string, shown: string): Promise<Buffer | undefined> {
    try {
      const real = realpathSync(path);
      if (!real.startsWith(`${this.#root}/`)) {
        this.#find('unsafe-path', shown, `a symbolic link that leads out of the tree, to ${real}`);
        return undefined;
      }
      return await Promise.resolve(readFileSync(real));
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  /**
   * Checks all indices of a suite that are there, by name and by hash, and what may not stand in its directory.
   * @returns the paths (relative to the suite) of those that are right
   */
  async #checkIndices({ tree, release }: OpenSuite): Promise<Set<string>> {
    const good = new Set<string>();
    const present = new Set<string>();
    const inodes = new Map<string, string>();
    for (const file of release.files.values()) {
      const place = join(tree.directory, file.path);
      const info = statOf(place);
      if (info === undefined || info.isDirectory()) continue;
      present.add(file.path);
      const { algorithm, value } = strongestDigest(file);
      const job = { path: place, root: this.#root, size: file.size, algorithm, digest: value };
      this.#inspector.add(job, (answer) => {
        this.#settle(answer, file.path, () =>
          this.#find(kindFor(answer), `${tree.prefix}${file.path}`, answer.detail),
        );
        if (answer.kind !== 'ok') return;
        good.add(file.path);
        for (const path of byHashPaths(file)) inodes.set(path, `${info.dev} ${info.ino}`);
      });
      await this.#inspector.room(this.#context);
    }
    await this.#inspector.idle(this.#context);
    this.#checkByHash(tree, inodes);
    this.#checkPresence(tree, release, present);
    await this.#inspector.idle(this.#context);
    return good;
  }

  /** What is named by its hash must have it, whichever generation it is of. */
  #checkByHash(tree: SuiteTree, inodes: ReadonlyMap<string, string>): void {
    for (const { path, entry } of walk(
      tree.directory,
      '',
      (name) => !tree.flat || name.startsWith('by-hash'),
    )) {
      const match = /(?:^|\/)by-hash\/(SHA256|SHA512)\/([0-9a-f]+)$/.exec(path);
      if (match === null || entry.name.startsWith('.')) continue;
      const place = join(tree.directory, path);
      const info = statOf(place);
      // One more name for a file that was read just now.
      if (info !== undefined && inodes.get(path) === `${info.dev} ${info.ino}`) continue;
      const algorithm = match[1] === 'SHA256' ? 'sha256' : 'sha512';
      const job = { path: place, root: this.#root, size: -1, algorithm, digest: match[2] ?? '' } as const;
      this.#inspector.add(job, (answer) =>
        this.#settle(answer, path, () => this.#find(kindFor(answer), `${tree.prefix}${path}`, answer.detail)),
      );
    }
  }

  /** Finds indices that should be there and are not, and files that nothing lists. */
  #checkPresence(tree: SuiteTree, release: Release, present: ReadonlySet<string>): void {
    const groups = [...groupIndices(release).values()];
    const required = this.#requiredOf(tree, release);
    const isPresent = ({ forms }: { readonly forms: readonly ReleaseFile[] }): boolean =>
      forms.some(({ path }) => present.has(path));
    for (const index of required ?? groups) {
      if (isPresent(index)) continue;
      // Of a tree that another tool made nobody knows what was selected; an index whose directory is there was.
      const told = required === undefined && !this.#looksSelected(tree, index);
      const kind = kindOf(index.plain)?.kind ?? '';
      if (
        told ||
        !['packages', 'udebs', 'sources', ...(required === undefined ? [] : ['installer'])].includes(kind)
      )
        continue;
      this.#find('missing', `${tree.prefix}${index.plain}`, 'the index is there in no form');
    }
    const lists = groups.some(
      (index) => isPresent(index) && ['packages', 'sources', 'udebs'].includes(index.kind),
    );
    if (!lists)
      this.#find('missing', `${tree.prefix}Packages`, 'the suite has no index of packages or sources');
    if (tree.flat) return;
    const listed = this.#filesOf(tree);
    for (const { path, entry } of walk(tree.directory)) {
      const isOwn = ['InRelease', 'Release', 'Release.gpg'].includes(path) || /(?:^|\/)by-hash\//.test(path);
      const isImage = /(?:^|\/)installer-[^/]+\//.test(path) || /\.diff\//.test(path);
      if (release.files.has(path) || isOwn || isImage || listed(path)) continue;
      if (entry.isSymbolicLink() && !this.#staysInside(join(tree.directory, path))) {
        this.#find('unsafe-path', `${tree.prefix}${path}`, 'a symbolic link that leads out of the tree');
      } else if (!/\.(?:u?deb|dsc|tar\.\w+|diff\.gz)$/.test(path)) {
        this.#find('unreferenced', `${tree.prefix}${path}`, 'the Release does not list it');
      }
    }
  }

  #staysInside(path: string): boolean {
    try {
      return realpathSync(path).startsWith(`${this.#root}/`);
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
  }

  #requiredOf(tree: SuiteTree, release: Release): ReturnType<NonNullable<SuiteTree['required']>> | undefined {
    try {
      return tree.required?.(release).filter(({ required }) => required);
    } catch (error) {
      if (!isReliveError(error, 'configuration')) throw error;
      this.#find('missing', tree.prefix, error.message);
      return undefined;
    }
  }

  #looksSelected(
    tree: SuiteTree,
    { plain, forms }: { readonly plain: string; readonly forms: readonly ReleaseFile[] },
  ): boolean {
    if (tree.flat) return basename(plain) === 'Packages';
    const directory = entriesOf(join(tree.directory, dirname(plain)));
    // An empty index is often left out.
    return (
      directory.some(({ name }) => name !== 'Release' && name !== 'by-hash') &&
      forms.some(({ size }) => size > 64)
    );
  }

  /** Names that are neither listed nor wrong: what some tools and archives put beside the indices. */
  #filesOf(_tree: SuiteTree): (path: string) => boolean {
    return (path) => /(?:^|\/)(?:ChangeLog|README|index\.html|Release|\.[^/]*)$/.test(path);
  }

  /** Hands over each file that the good indices of a suite list. */
  async #eachListed(
    { tree, release }: OpenSuite,
    good: ReadonlySet<string>,
    tell: boolean,
    use: (listed: Listed) => Promise<void>,
  ): Promise<void> {
    const refuse = (path: string, error: unknown): void => {
      if (!isReliveError(error, 'unsafe-path', 'corrupt')) throw error;
      if (tell)
        this.#find(
          error.code === 'unsafe-path' ? 'unsafe-path' : 'corrupt',
          `${tree.prefix}${path}`,
          error.message,
        );
    };
    for (const index of groupIndices(release).values()) {
      const form = index.forms.find(({ path }) => good.has(path));
      if (form === undefined) continue;
      const place = join(tree.directory, form.path);
      const pending: Listed[] = [];
      const drain = async (): Promise<void> => {
        for (const listed of pending) await use(listed);
        pending.length = 0;
        await this.#inspector.room(this.#context);
      };
      try {
        if (index.kind === 'packages' || index.kind === 'udebs' || index.kind === 'sources') {
          const { ending } = splitCompression(form.path);
          const reader = this.#listReader(tree, index.kind, form.path, pending, refuse);
          const expected = ending === '' ? undefined : index.uncompressed;
          await readIndexFile({ path: place, ending, expected }, reader, this.#context, drain);
        } else if (index.kind === 'installer') {
          for (const [path, digest] of parseSha256Sums(readFileSync(place), form.path)) {
            const directory = `${tree.prefix}${dirname(form.path)}`;
            pending.push(besides(tree, `${directory}/${path}`, -1, digest, true));
          }
        } else if (index.kind === 'pdiff' && form.path === index.plain) {
          for (const { path, size, sha256 } of parsePdiffIndex(readFileSync(place), form.path)) {
            const directory = `${tree.prefix}${dirname(form.path)}`;
            if (sha256 !== undefined)
              pending.push(besides(tree, `${directory}/${path}`, size, sha256, false));
          }
        }
      } catch (error) {
        refuse(form.path, error);
      }
      await drain();
    }
  }

  /** A reader of an index that goes on after an entry which is wrong. */
  #listReader(
    tree: SuiteTree,
    kind: 'packages' | 'udebs' | 'sources',
    name: string,
    pending: Listed[],
    refuse: (path: string, error: unknown) => void,
  ): StanzaReader {
    if (kind === 'sources') {
      return new StanzaReader(
        sourceFields,
        ([, directory = '', sha256, sha512]) => {
          const plain = directory.replace(/^(?:\.\/)+|\/+$/g, '');
          const base = plain === '' || plain === '.' ? '' : `${plain}/`;
          const list = sha256 ?? sha512 ?? '';
          for (const line of list.split('\n')) {
            const [digest = '', size = '', file = ''] = line.trim().split(/\s+/);
            if (digest === '') continue;
            try {
              pending.push(this.#entry(tree, `${base}${file}`, size, digest, name));
            } catch (error) {
              refuse(name, error);
            }
          }
        },
        name,
      );
    }
    const fields = this.#options.deep && kind === 'packages' ? packageFields : packageFields.slice(0, 5);
    return new StanzaReader(
      fields,
      ([packageName = '', filename = '', size = '', sha256, sha512, ...more]) => {
        try {
          const entry = this.#entry(tree, filename, size, sha256 ?? sha512 ?? '', name);
          if (fields.length === 5) pending.push(entry);
          else {
            const control: Record<string, string> = { Package: packageName };
            for (const [at, field] of deepFields.slice(1).entries()) control[field] = more[at] ?? '';
            pending.push({ ...entry, control });
          }
        } catch (error) {
          refuse(name, error);
        }
      },
      name,
    );
  }

  #entry(tree: SuiteTree, path: string, size: string, digest: string, where: string): Listed {
    const plain = safePath(path, where);
    return {
      path: plain,
      size: Number(size),
      algorithm: digest.length === 128 ? 'sha512' : 'sha256',
      digest: digest.toLowerCase(),
      expected: tree.expects(plain),
    };
  }

  /** Which files a sample takes: those that were not read for longest, until the share is reached. */
  async #sampleThreshold(
    open: readonly { readonly suite: OpenSuite; readonly good: ReadonlySet<string> }[],
  ): Promise<SampleThreshold> {
    const times: number[] = [];
    const table = new PathTable();
    for (const { suite, good } of open) {
      await this.#eachListed(suite, good, false, async ({ path, digest }) => {
        if (table.add(path, digest) === 'new') times.push(this.#record.when(path, digest));
        await Promise.resolve();
      });
    }
    times.sort((a, b) => a - b);
    const wanted = Math.ceil(times.length * (this.#options.sample ?? 1));
    const last = times[wanted - 1] ?? 0;
    let ties = wanted - times.findIndex((time) => time === last);
    return {
      takes: (when) => {
        if (when !== last) return when < last;
        ties -= 1;
        return ties >= 0;
      },
    };
  }

  /** Finds files in the directories of the pool that no index lists. */
  #findUnreferenced(table: PathTable): void {
    const { suites, root, pools } = this.#tree;
    const bases = new Set(suites.map(({ base }) => base));
    for (const { flat, directory, prefix } of pools === undefined ? suites : []) {
      if (!flat) continue;
      for (const entry of entriesOf(directory)) {
        const path = `${prefix}${entry.name}`;
        if (entry.isFile() && /\.u?deb$/.test(entry.name) && !table.has(path)) {
          this.#find('unreferenced', path, 'no index lists it');
        }
      }
    }
    for (const base of bases) {
      const names = pools ?? [...new Set([...this.#tops, 'pool'])];
      const prefix = base === root ? '' : `${base.slice(root.length + 1)}/`;
      for (const name of names) {
        // Pool files below dists are looked for with the suites.
        if (name === 'dists') continue;
        const info = statOf(join(base, name));
        if (info?.isDirectory() !== true) {
          if (pools !== undefined && info?.isFile() === true && !table.has(name) && !this.#tree.waits(name)) {
            this.#find('unreferenced', name, 'no index lists it');
          }
          continue;
        }
        for (const { path, entry } of walk(join(base, name), `${name}/`)) {
          this.#context.signal.throwIfAborted();
          if (table.has(path) || this.#tree.waits(path)) continue;
          if (entry.isSymbolicLink() && !this.#staysInside(join(base, path))) {
            this.#find('unsafe-path', `${prefix}${path}`, 'a symbolic link that leads out of the tree');
          } else if (!entry.isSymbolicLink() && !/^\.(?:part|tmp)-/.test(entry.name)) {
            this.#find('unreferenced', `${prefix}${path}`, 'no index lists it');
          }
        }
      }
    }
  }
}

interface SampleThreshold {
  readonly takes: (when: number) => boolean;
}

/** A file that a signed list in a suite's directory leads to; `path` is relative to the tree's root. */
function besides(tree: SuiteTree, path: string, size: number, digest: string, expected: boolean): Listed {
  // Snapshots and suites of nested trees have their directory elsewhere than below the base of the pool.
  return { path, size, algorithm: 'sha256', digest, expected: expected && !tree.flat };
}

function kindFor({ kind }: Answer): FindingKind {
  return kind === 'ok' ? 'corrupt' : kind;
}

function statOf(path: string): ReturnType<typeof lstatBig> {
  try {
    return lstatBig(path);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function lstatBig(path: string) {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

/** The text of a clear-signed message, for looking into one whose signature does not count. */
function textOf(message: Buffer): Buffer {
  const text = message.toString('utf8').replaceAll('\r\n', '\n');
  const start = text.indexOf('\n\n');
  const end = text.indexOf('\n-----BEGIN PGP SIGNATURE-----');
  if (!text.startsWith('-----BEGIN PGP SIGNED MESSAGE-----') || start === -1 || end === -1) return message;
  return Buffer.from(text.slice(start + 2, end + 1).replaceAll(/^- /gm, ''));
}

/**
 * Verifies one tree, offline: signatures, dates, each index by name and by hash, each file that they list, and what lies there
 * without being listed. Each thing that is wrong is reported as a finding. Memory grows by some 50 bytes a file.
 * @param record what was verified before; gets what is found right now
 * @param found called with each finding
 * @throws ReliveError `tool-missing`, `not-found` (keyring), or the abort reason of the context
 */
export async function verifyTree(
  tree: ArchiveTree,
  options: VerifyOptions,
  record: VerifiedRecord,
  found: (finding: VerifyFinding) => void,
  context: Context,
): Promise<VerifySummary> {
  const inspector = new Inspector();
  try {
    return await new Verification(tree, options, record, inspector, found, context).run();
  } catch (error) {
    throw asError(error);
  } finally {
    await inspector.close();
  }
}
