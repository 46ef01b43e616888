import { chmod, copyFile, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { isReliveError, ReliveError } from '../../core/error.ts';
import type { Context } from '../../core/event.ts';
import { withScratchDirectory } from '../../host/anonymous.ts';
import { makeDirectories, sha256 } from '../../host/files.ts';
import { noProxies, run } from '../../host/process.ts';
import { formatPosition } from '../../site/position.ts';
import type { Profile, Script } from '../../site/profile.ts';
import { isolated } from '../chroot.ts';
import type { Stage, StagePlace } from '../layers.ts';

/** Where a script lies in the system while it runs: in memory, so that no layer has it. */
const meanwhile = 'run/relive/scripts';

export interface ScriptsOptions {
  readonly profile: Profile;
  /** The point whose scripts these are. */
  readonly after: Script['after'];
  /** The site's directory: the current one of scripts on the host. */
  readonly directory: string;
  readonly sourceDateEpoch: number;
}

/** The name of the stage with the scripts after another one. */
export function scriptsStageName(after: string): string {
  return `${after}-scripts`;
}

/**
 * The scripts of a profile that run after one stage, in order, as a stage of their own; undefined where there are none.
 * A script has no network, and whatever it leaves running or mounted ends with it.
 */
export async function scriptsStage(options: ScriptsOptions): Promise<Stage | undefined> {
  const { profile, after, sourceDateEpoch } = options;
  const scripts = profile.scripts.filter((script) => script.after === after);
  if (scripts.length === 0) return undefined;
  const digests = await Promise.all(scripts.map(async ({ file }) => sha256(await readFile(file))));
  const environment = {
    RELIVE_PROFILE: profile.name,
    RELIVE_SUITE: profile.suite,
    RELIVE_ARCHITECTURE: profile.architecture,
    RELIVE_HOST: profile.host,
    RELIVE_AFTER: after,
    SOURCE_DATE_EPOCH: String(sourceDateEpoch),
  };
  return {
    name: scriptsStageName(after),
    inputs: { scripts: scripts.map(({ name, where }, index) => [name, where, digests[index]]), environment },
    work: async (place, context) => {
      for (const script of scripts) {
        context.emit({ event: 'note', source: 'scripts', message: described(script) });
        try {
          if (script.where === 'system') await runInside(script, environment, place, context);
          else await runOutside(script, environment, { ...options, root: place.root }, context);
        } catch (error) {
          throw explained(error, script);
        }
      }
    },
  };
}

function described({ name, after, where }: Script): string {
  return `scripts/${name} (after ${after}, ${where === 'system' ? 'in the system' : 'on the host'})`;
}

function outputOf(script: Script, { emit }: Context) {
  return {
    as: described(script),
    timeoutSeconds: script.timeoutSeconds,
    onLine: (message: string) => emit({ event: 'note', source: script.name, message }),
  };
}

async function runInside(
  script: Script,
  environment: Readonly<Record<string, string>>,
  { root, chroot: enter }: StagePlace,
  context: Context,
): Promise<void> {
  const chroot = await enter();
  const path = join(meanwhile, basename(script.name));
  await makeDirectories(join(root, meanwhile));
  await copyFile(script.file, join(root, path));
  await chmod(join(root, path), 0o755);
  await chroot.run(`/${path}`, [], {
    ...outputOf(script, context),
    env: { ...environment, RELIVE_ROOT: '/' },
  });
  await rm(join(root, path));
}

async function runOutside(
  script: Script,
  environment: Readonly<Record<string, string>>,
  { root, directory }: Pick<ScriptsOptions, 'directory'> & { readonly root: string },
  context: Context,
): Promise<void> {
  await withScratchDirectory(tmpdir(), async (temporary) => {
    await run('bash', isolated('/proc', [script.file]), {
      ...context,
      ...outputOf(script, context),
      cwd: directory,
      env: { ...environment, RELIVE_ROOT: root, TMPDIR: temporary, ...noProxies },
    });
  });
}

/** The failure of a script, with the line of the profile that asks for it. */
function explained(error: unknown, script: Script): unknown {
  if (!isReliveError(error, 'tool-failed', 'timed-out')) return error;
  const unable = /ended with status 12[67]$/m.test(error.message);
  const hint =
    error.code === 'timed-out'
      ? 'give it more time with "timeout" (seconds), if it does not wait for something'
      : unable
        ? `its first line must name an interpreter that is there${script.where === 'system' ? ', in the system' : ''}`
        : 'it runs without a network; docs/profiles.md lists its environment';
  return new ReliveError(error.code, `${formatPosition(script.at)}: ${error.message}`, {
    hint,
    cause: error,
  });
}
