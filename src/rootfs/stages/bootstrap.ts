import { lutimes, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../../core/event.ts';
import { run } from '../../host/process.ts';
import { type AptSource, aptSettings } from '../apt.ts';
import type { Stage } from '../layers.ts';
import type { ResolvedPackage } from '../resolve.ts';
import { packageInputs } from './packages.ts';

export interface BootstrapOptions {
  readonly tool: 'mmdebstrap' | 'debootstrap';
  readonly suite: string;
  readonly architecture: string;
  readonly packages: readonly ResolvedPackage[];
  /** Makes a repository of exactly these packages, by `file:`; asked for only where the stage is not cached. */
  readonly provide: () => Promise<AptSource>;
  readonly sourceDateEpoch: number;
  /** A directory for files that are needed only meanwhile. */
  readonly scratch: string;
}

export const bootstrapName = 'bootstrap';

/** The essential packages and apt, by mmdebstrap or debootstrap, from signed repositories only. */
export function bootstrapStage(options: BootstrapOptions): Stage {
  const { tool, suite, architecture, packages, sourceDateEpoch } = options;
  return {
    name: bootstrapName,
    inputs: { tool, suite, architecture, packages: packageInputs(packages), sourceDateEpoch },
    work: async ({ root }, context) => {
      const source = await options.provide();
      if (tool === 'mmdebstrap') await mmdebstrap(options, source, root, context);
      else await debootstrap(options, source, root, context);
      await removeHostTraces(root);
      await setDirectoryTimes(root, sourceDateEpoch);
    },
  };
}

async function mmdebstrap(
  options: BootstrapOptions,
  { uri, suite, components, keyring }: AptSource,
  root: string,
  context: Context,
): Promise<void> {
  const config = join(options.scratch, 'mmdebstrap.conf');
  await writeFile(config, `${aptSettings(options.architecture, false).join('\n')}\n`);
  await run(
    'mmdebstrap',
    [
      ...[
        '--mode=root',
        '--variant=apt',
        '--format=directory',
        '--verbose',
        `--architectures=${options.architecture}`,
      ],
      `--aptopt=${config}`,
      '--dpkgopt=force-unsafe-io',
      // That programs of the architecture run was tried before; its own check wants one more package.
      ...['--skip=cleanup/reproducible', '--skip=check/qemu'],
      options.suite,
      root,
      // copy: instead of file: has apt check and copy the packages, which the inner dpkg could not see otherwise.
      `deb [signed-by=${keyring}] ${uri.replace(/^file:/, 'copy:').replaceAll(' ', '%20')} ${suite} ${components.join(' ')}`,
    ],
    { ...context, ...toolEnvironment(options), onLine: notes(context) },
  );
}

async function debootstrap(
  options: BootstrapOptions,
  { uri, components, keyring }: AptSource,
  root: string,
  context: Context,
): Promise<void> {
  await run(
    'debootstrap',
    [
      ...['--variant=minbase', `--arch=${options.architecture}`, `--keyring=${keyring}`, '--force-check-gpg'],
      ...['--merged-usr', `--components=${components.join(',')}`, options.suite, root, uri],
    ],
    { ...context, ...toolEnvironment(options), onLine: notes(context) },
  );
}

function toolEnvironment({ sourceDateEpoch, scratch }: BootstrapOptions) {
  return { env: { SOURCE_DATE_EPOCH: String(sourceDateEpoch), TMPDIR: scratch } };
}

function notes({ emit }: Context) {
  return (line: string): void => emit({ event: 'note', source: bootstrapName, message: line });
}

/** Files which the tools copy from the build host, and those with the settings that were theirs for the work. */
const hostTraces = [
  'etc/apt/apt.conf.d/99mmdebstrap',
  'etc/apt/sources.list',
  'etc/dpkg/dpkg.cfg.d/99mmdebstrap',
  'etc/fstab',
  'etc/hostname',
  'etc/resolv.conf',
];

/** Both tools leave their settings, device nodes and sources besides. */
async function removeHostTraces(root: string): Promise<void> {
  for (const path of hostTraces) await rm(join(root, path), { force: true });
  for (const directory of ['dev', 'run', 'tmp', 'etc/apt/sources.list.d', 'debootstrap']) {
    for (const name of await readdir(join(root, directory)).catch(() => [])) {
      await rm(join(root, directory, name), { recursive: true, force: true });
    }
  }
  await rm(join(root, 'debootstrap'), { recursive: true, force: true });
}

/**
 * A directory bears the time of the package that was unpacked last into it, and in which order that is done changes with
 * the host's apt: without this another release of Debian would make other layers.
 */
async function setDirectoryTimes(root: string, time: number): Promise<void> {
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) await lutimes(join(entry.parentPath, entry.name), time, time);
  }
  await lutimes(root, time, time);
}
