import { writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ReliveError } from '../core/error.ts';
import { type Context, inStage } from '../core/event.ts';
import { makeDirectories, writeFileAtomic } from '../host/files.ts';
import { dearmour, isArmoured } from '../host/gpgv.ts';
import { run } from '../host/process.ts';
import { type SyncedRepository, type SyncOptions, syncRepository } from './indices.ts';
import { keyringOf } from './keyring.ts';
import {
  type Engine,
  isFlat,
  type Kind,
  type Layout,
  layoutOf,
  lockMirror,
  type Repository,
} from './repository.ts';

/** How an engine lays out its tree, and how it is called. */
interface EngineRun {
  /** The directory with `dists` in it when it has run. */
  readonly tree: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Configuration files, by path. */
  readonly files: Readonly<Record<string, string>>;
}

function refuse(repository: Repository, engine: Engine, what: string, hint: string): ReliveError {
  return new ReliveError(
    'configuration',
    `the engine ${engine} of the repository ${repository.name} ${what}`,
    { hint },
  );
}

/** What the engines cannot do, and the native one can. @throws ReliveError `configuration` */
function checkFit(repository: Repository, engine: Engine, kinds: readonly Kind[]): void {
  if (repository.suites.some(isFlat)) {
    throw refuse(repository, engine, 'cannot mirror flat repositories', 'use "engine: native"');
  }
  if (repository.select !== 'all') {
    throw refuse(
      repository,
      engine,
      'brings whole suites only',
      'use "select: all", or "engine: native" for a selection',
    );
  }
  const can: Readonly<Record<string, readonly Kind[]>> = {
    debmirror: ['packages', 'sources', 'udebs', 'installer', 'translations', 'contents'],
    'apt-mirror': ['packages', 'sources', 'translations', 'dep11', 'cnf'],
  };
  const lacking = kinds.filter((kind) => can[engine]?.includes(kind) === false);
  if (lacking.length > 0) {
    throw refuse(
      repository,
      engine,
      `cannot bring ${lacking.join(', ')}`,
      'leave these kinds out, or use "engine: native"',
    );
  }
}

/** The words of a configuration file's line come from relive.yaml, whose schema lets no blanks and quotes through. */
function debmirrorRun(
  repository: Repository,
  directory: string,
  keyring: string,
  kinds: readonly Kind[],
): EngineRun {
  const url = new URL(repository.url[0] ?? '');
  const method = url.protocol.slice(0, -1);
  if (!['http', 'https', 'rsync'].includes(method)) {
    throw refuse(repository, 'debmirror', `cannot fetch from ${url.href}`, 'it takes http, https and rsync');
  }
  const tree = join(directory, 'tree');
  const architectures = repository.architectures.filter((name) => name !== 'all');
  const sections = repository.components.flatMap((component) =>
    kinds.includes('udebs') ? [component, `${component}/debian-installer`] : [component],
  );
  return {
    tree,
    command: 'debmirror',
    args: [
      ...[
        `--method=${method}`,
        `--host=${url.host}`,
        `--root=${url.pathname.replace(/^\/|\/$/g, '') || '/'}`,
      ],
      ...[`--dist=${repository.suites.join(',')}`, `--section=${sections.join(',')}`],
      ...[`--arch=${architectures.join(',')}`, kinds.includes('sources') ? '--source' : '--nosource'],
      ...(kinds.includes('translations') ? ['--i18n'] : []),
      ...(kinds.includes('contents') ? ['--getcontents'] : []),
      ...(kinds.includes('installer')
        ? [`--di-dist=${repository.suites.join(',')}`, `--di-arch=${architectures.join(',')}`]
        : []),
      ...[
        `--keyring=${keyring}`,
        '--diff=none',
        '--rsync-extra=none',
        '--allow-dist-rename',
        '--postcleanup',
      ],
      ...[`--config-file=${join(directory, 'debmirror.conf')}`, tree],
    ],
    // Without a file of its own it would read that of the host.
    files: { [join(directory, 'debmirror.conf')]: '1;\n' },
  };
}

function aptMirrorRun(repository: Repository, directory: string, kinds: readonly Kind[]): EngineRun {
  const base = repository.url[0] ?? '';
  const url = new URL(base);
  if (!['http:', 'https:'].includes(url.protocol)) {
    throw refuse(repository, 'apt-mirror', `cannot fetch from ${url.href}`, 'it takes http and https');
  }
  if (url.port !== '') {
    const hint = 'give the upstream port 80 or 443, or use "engine: native"';
    throw refuse(repository, 'apt-mirror', `knows no ports, and ${url.href} has one`, hint);
  }
  const file = join(directory, 'mirror.list');
  const architectures = repository.architectures.filter((name) => name !== 'all');
  const lines = repository.suites.flatMap((suite) => [
    ...architectures.map(
      (architecture) => `deb [arch=${architecture}] ${base} ${suite} ${repository.components.join(' ')}`,
    ),
    ...(kinds.includes('sources') ? [`deb-src ${base} ${suite} ${repository.components.join(' ')}`] : []),
  ]);
  const settings = {
    base_path: directory,
    mirror_path: join(directory, 'mirror'),
    skel_path: join(directory, 'skel'),
    var_path: join(directory, 'var'),
    defaultarch: architectures[0] ?? 'amd64',
    nthreads: String(repository.transport?.parallel ?? 8),
    _tilde: '0',
    run_postmirror: '0',
  };
  return {
    // wget's directories: the host, then the path.
    tree: join(directory, 'mirror', url.hostname, url.pathname),
    command: 'apt-mirror',
    args: [file],
    files: {
      [file]: [
        ...Object.entries(settings).map(([name, value]) => `set ${name} ${value}`),
        ...lines,
        `clean ${base}`,
        '',
      ].join('\n'),
    },
  };
}

function ftpsyncRun(repository: Repository, directory: string): EngineRun {
  const url = new URL(repository.url[0] ?? '');
  if (url.protocol !== 'rsync:') {
    throw refuse(repository, 'ftpsync', `cannot fetch from ${url.href}`, 'it takes rsync://HOST/MODULE');
  }
  const tree = join(directory, 'tree');
  const architectures = [...repository.architectures.filter((name) => name !== 'all')];
  if (repository.kinds?.includes('sources') === true) architectures.push('source');
  const settings: Record<string, string> = {
    MIRRORNAME: hostname(),
    TO: `${tree}/`,
    RSYNC_HOST: url.hostname,
    RSYNC_PATH: url.pathname.replace(/^\/|\/$/g, ''),
    LOGDIR: join(directory, 'log'),
    MAILTO: '',
    HUB: 'false',
    ARCH_INCLUDE: architectures.join(' '),
    ...(url.port === '' ? {} : { RSYNC_EXTRA: `--port=${url.port}` }),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}='${value}'`);
  return {
    tree,
    command: 'ftpsync',
    args: ['sync:all'],
    // It looks for its configuration in ~/.config/ftpsync first.
    env: { HOME: directory, LOGNAME: 'root', RSYNC_PORT: url.port },
    files: { [join(directory, '.config/ftpsync/ftpsync.conf')]: `${lines.join('\n')}\n` },
  };
}

/** debmirror hands its keyring to gpgv, which reads binary ones only. */
async function binaryKeyring(layout: Layout, repository: Repository, directory: string): Promise<string> {
  const { content, path } = await keyringOf(layout, repository);
  const text = content.toString('latin1');
  if (!isArmoured(text)) return path;
  const binary = join(directory, 'keyring.gpg');
  await writeFileAtomic(binary, dearmour(text, path));
  return binary;
}

/**
 * Synchronises a repository with the program that its configuration names. A foreign program fills a directory of its own;
 * from there everything goes the way of the native engine: signatures, dates and each file are checked, then the suites are
 * published. So nothing that a program brought is used before it is verified, and its tree is a stock for its next run.
 * @throws as `syncRepository`; ReliveError `configuration` for what the program cannot do, `tool-missing`, `tool-failed`
 */
export async function syncWithEngine(
  mirrorDirectory: string,
  repository: Repository,
  options: SyncOptions,
  context: Context,
): Promise<SyncedRepository> {
  const engine = repository.engine ?? 'native';
  if (engine === 'native' || options.offline === true) {
    return await syncRepository(mirrorDirectory, repository, options, context);
  }
  const kinds = repository.kinds ?? ['packages'];
  checkFit(repository, engine, kinds);
  const layout = layoutOf(resolve(mirrorDirectory), repository);
  const directory = join(resolve(mirrorDirectory), '.relive', 'engines', repository.name);
  const lock = await lockMirror(layout, context);
  let plan: EngineRun;
  try {
    await makeDirectories(join(directory, 'log'));
    plan =
      engine === 'debmirror'
        ? debmirrorRun(repository, directory, await binaryKeyring(layout, repository, directory), kinds)
        : engine === 'apt-mirror'
          ? aptMirrorRun(repository, directory, kinds)
          : ftpsyncRun(repository, directory);
    for (const [path, content] of Object.entries(plan.files)) {
      await makeDirectories(join(path, '..'));
      await writeFile(path, content);
    }
    await makeDirectories(plan.tree);
    for (const name of ['skel', 'var', 'mirror']) await makeDirectories(join(directory, name));
    await inStage(context, `${repository.name}: ${plan.command}`, async () => {
      await run(plan.command, plan.args, {
        signal: context.signal,
        cwd: directory,
        env: { ...plan.env },
        onLine: (message) => context.emit({ event: 'note', message, source: plan.command }),
      });
    });
  } finally {
    await lock.release();
  }
  const local = { ...repository, url: [pathToFileURL(plan.tree).href] };
  return await syncRepository(mirrorDirectory, local, { ...options, staging: plan.tree }, context);
}
