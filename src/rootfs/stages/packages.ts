import { chmod, copyFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isReliveError, ReliveError } from '../../core/error.ts';
import type { Context } from '../../core/event.ts';
import { makeDirectories } from '../../host/files.ts';
import { type AptSource, aptSettings, dpkgSettings, sourcesList } from '../apt.ts';
import type { Chroot } from '../chroot.ts';
import type { Stage } from '../layers.ts';
import type { ResolvedPackage } from '../resolve.ts';

export interface PackagesOptions {
  readonly architecture: string;
  readonly packages: readonly ResolvedPackage[];
  /** Makes a repository of exactly these packages, by `file:`; asked for only where the stage is not cached. */
  readonly provide: () => Promise<AptSource>;
  /** The packages asked for by name; the others are marked as automatically installed. */
  readonly wanted: readonly string[];
  readonly recommends: boolean;
  readonly sourceDateEpoch: number;
}

export const packagesName = 'packages';

/** What of resolved packages decides a stage: not where they came from. */
export function packageInputs(packages: readonly ResolvedPackage[]): string[] {
  return packages.map(
    ({ name, version, architecture, sha256 }) => `${name} ${version} ${architecture} ${sha256}`,
  );
}

/** Where the repository and its keyring are seen in the system meanwhile. */
const meanwhile = '/run/relive';
const generator = '/usr/sbin/update-initramfs';

/** Installs exactly the resolved packages, by the system's own apt, out of the mirror. */
export function packagesStage(options: PackagesOptions): Stage {
  return {
    name: packagesName,
    inputs: installInputs(options),
    work: async ({ chroot: enter }, context) => {
      const chroot = await enter();
      await writeFile(join(chroot.root, 'etc/kernel-img.conf'), 'do_symlinks = no\n');
      await install(chroot, options.packages, options, context);
    },
  };
}

/** What decides the system that is there when all packages are installed. */
export function installInputs({ packages, wanted, recommends, sourceDateEpoch }: PackagesOptions) {
  return { packages: packageInputs(packages), wanted, recommends, sourceDateEpoch };
}

/**
 * Installs packages in a system, which then consists of the resolved ones.
 * @param missing those of them that it does not have yet
 */
export async function install(
  chroot: Chroot,
  missing: readonly ResolvedPackage[],
  options: PackagesOptions,
  context: Context,
): Promise<void> {
  const { packages, wanted, sourceDateEpoch } = options;
  const environment = await provideRepository(chroot, await options.provide(), options);
  const apt = async (...args: string[]): Promise<void> => {
    const lines: string[] = [];
    try {
      await chroot.run('apt-get', args, {
        env: { ...environment, SOURCE_DATE_EPOCH: String(sourceDateEpoch) },
        onLine: (message) => {
          lines.push(message);
          context.emit({ event: 'note', source: packagesName, message });
        },
        onStatusLine: progress(context),
      });
    } catch (error) {
      throw withFailedPackages(error, lines);
    }
  };
  await holdInitramfs(chroot, true);
  await apt('update', '--error-on=any');
  await apt(
    'install',
    '--no-remove',
    '--allow-downgrades',
    ...['-o', 'APT::Status-Fd=3'],
    ...missing.map(({ name, version, architecture }) =>
      // apt knows architecture-independent packages by their bare name.
      architecture === 'all' ? `${name}=${version}` : `${name}:${architecture}=${version}`,
    ),
  );
  const automatic = packages.map(({ name }) => name).filter((name) => !wanted.includes(name));
  if (automatic.length > 0) {
    await chroot.run('apt-mark', ['auto', ...automatic], { env: environment, onLine: () => undefined });
  }
  await holdInitramfs(chroot, false);
  await compareInstalled(chroot, packages);
}

async function provideRepository(
  chroot: Chroot,
  source: AptSource,
  { architecture, recommends }: PackagesOptions,
): Promise<{ APT_CONFIG: string }> {
  const inside = join(chroot.root, meanwhile);
  await makeDirectories(join(inside, 'lists/partial'));
  await makeDirectories(join(inside, 'cache/archives/partial'));
  const keyring = `${meanwhile}/keyring.gpg`;
  await chroot.bind(decodeURIComponent(new URL(source.uri).pathname), `${meanwhile}/repository`);
  await copyFile(source.keyring, join(chroot.root, keyring));
  await writeFile(
    join(inside, 'sources.list'),
    sourcesList([{ ...source, uri: `file:${meanwhile}/repository`, keyring }]),
  );
  const places = [
    `Dir::Etc::sourcelist "${meanwhile}/sources.list";`,
    'Dir::Etc::sourceparts "/dev/null";',
    `Dir::State::lists "${meanwhile}/lists";`,
    `Dir::Cache "${meanwhile}/cache";`,
  ];
  const settings = [...aptSettings(architecture, recommends), dpkgSettings];
  await writeFile(join(inside, 'apt.conf'), `${[...places, ...settings].join('\n')}\n`);
  return { APT_CONFIG: `${meanwhile}/apt.conf` };
}

/**
 * Kernel and triggers would generate the initramfs twice or more; it is made once, in the last stage. A diversion
 * (dpkg-divert(1)) holds before the package is there, and leaves no trace when it is taken back.
 */
async function holdInitramfs(chroot: Chroot, hold: boolean): Promise<void> {
  const path = join(chroot.root, generator);
  const divert = ['--local', '--rename', '--divert', `${generator}.held`];
  if (!hold) await rm(path);
  await chroot.run('dpkg-divert', [...divert, hold ? '--add' : '--remove', generator], {
    onLine: () => undefined,
  });
  if (hold) {
    await writeFile(path, '#!/bin/sh\nexit 0\n');
    await chmod(path, 0o755);
  }
}

/** So many lines before dpkg's error may be what a maintainer script said: where that begins nobody knows, since stdout comes by another pipe. */
const saidBefore = 10;

/**
 * Puts what dpkg says of a package that failed before the end of the output: dpkg goes on with the other packages after it, for
 * hundreds of lines.
 * @param lines the output of apt-get
 */
export function withFailedPackages(error: unknown, lines: readonly string[]): unknown {
  if (!isReliveError(error, 'tool-failed')) return error;
  const told = lines.flatMap((line, index) => {
    if (!/^dpkg: error processing (?:package|archive) /.test(line)) return [];
    const before = lines.slice(Math.max(0, index - saidBefore), index);
    // dpkg's reason is indented by one space.
    const behind = lines.slice(index + 1);
    const end = behind.findIndex((each) => !each.startsWith(' '));
    return [...before, line, ...behind.slice(0, end === -1 ? undefined : end)];
  });
  if (told.length === 0) return error;
  const [first = '', ...rest] = error.message.split('\n');
  const message = [first, ...told.map((line) => `    ${line}`), '    ...', ...rest].join('\n');
  return new ReliveError(error.code, message, { hint: error.hint, cause: error });
}

/** Turns a line of apt's status (README.progress-reporting in apt-doc) into progress. */
function progress({ emit }: Context) {
  return (line: string): void => {
    const [, percent, item] = /^pmstatus:[^:]*:([\d.]+):(.*)$/.exec(line) ?? [];
    if (percent === undefined) return;
    emit({
      event: 'progress',
      stage: packagesName,
      done: Number(percent),
      total: 100,
      unit: 'percent',
      item: item ?? '',
    });
  };
}

/** The system must consist of what was resolved, neither more nor less. */
async function compareInstalled(chroot: Chroot, packages: readonly ResolvedPackage[]): Promise<void> {
  const { stdout } = await chroot.run('dpkg-query', [
    '--show',
    '--showformat',
    '${binary:Package} ${Version}\n',
  ]);
  const installed = new Map(
    stdout.split('\n').map((line) => [line.split(/[: ]/)[0] ?? '', line.split(' ')[1] ?? ''] as const),
  );
  const wrong = packages
    .filter(({ name, version }) => installed.get(name) !== version)
    .map(({ name }) => name);
  const resolved = new Set(packages.map(({ name }) => name));
  const extra = [...installed.keys()].filter((name) => name !== '' && !resolved.has(name));
  if (wrong.length + extra.length === 0) return;
  throw new ReliveError(
    'tool-failed',
    `the installed packages are not those resolved; other or missing: ${wrong.join(' ')}; not resolved: ${extra.join(' ')}`,
    { hint: 'this is a fault of the repositories or of relive; please report it with the output of --json' },
  );
}
