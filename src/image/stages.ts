import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Context } from '../core/event.ts';
import type { SecretKey } from '../host/gpg.ts';
import { signClear } from '../host/gpg.ts';
import { dearmour } from '../host/gpgv.ts';
import type { OwnPackage } from '../host/own-package.ts';
import type { AptSource } from '../rootfs/apt.ts';
import { wantedPackages } from '../rootfs/base.ts';
import { pendingStages, type Stage, stageKeys } from '../rootfs/layers.ts';
import { makeLocalRepository } from '../rootfs/local-repository.ts';
import type { ResolvedPackage } from '../rootfs/resolve.ts';
import { bootstrapName, bootstrapStage } from '../rootfs/stages/bootstrap.ts';
import { configureStage } from '../rootfs/stages/configure.ts';
import { factoryStage } from '../rootfs/stages/factory.ts';
import { filesStage } from '../rootfs/stages/files.ts';
import { liveName, liveStage } from '../rootfs/stages/live.ts';
import { packagesName, packagesStage } from '../rootfs/stages/packages.ts';
import { persistStage } from '../rootfs/stages/persist.ts';
import { scriptsStage, scriptsStageName } from '../rootfs/stages/scripts.ts';
import { settleStage } from '../rootfs/stages/settle.ts';
import { upgradeName, upgradeStages } from '../rootfs/stages/upgrade.ts';
import type { Profile } from '../site/profile.ts';
import { scriptPoints } from '../site/schema.ts';
import type { Site } from '../site/site.ts';
import { writePublicSite } from './factory.ts';
import type { Ingredients } from './ingredients.ts';
import { publicKeysFile, trustedKeys } from './keys.ts';
import { writeLivePart } from './live-part.ts';
import { packageFile } from './lock.ts';

/** The key that an image is sealed with, and the GnuPG home that it lies in. */
export type BuildKey = SecretKey & { readonly home: string };

/** What the stages of a profile are made of. */
export interface StageOptions {
  readonly site: Site;
  readonly profile: Profile;
  readonly ingredients: Ingredients;
  /** relive as a package, for a system that has it. */
  readonly own: OwnPackage | undefined;
  readonly key: BuildKey;
  /** Where stages have their layers. */
  readonly cache: string;
  /** For the files that they take. */
  readonly scratch: string;
  /** Where packages only have other versions than in a system whose layers are cached, install those upon it. */
  readonly upgrade: boolean;
}

export interface ProfileStages {
  /** Those that are run, in order. */
  readonly stages: readonly Stage[];
  /** Those that make the same system out of nothing, where a stage installs newer packages upon one that is cached. */
  readonly instead: readonly Stage[] | undefined;
  /** The keys of the layers that a build out of nothing has: the same ones for the same system, whatever way leads to it. */
  readonly keys: readonly string[];
}

/** The stages that make the system of a profile, whose packages are in the mirror. */
export async function stagesOf(options: StageOptions, context: Context): Promise<ProfileStages> {
  const scripts = await scriptsOf(options);
  const installing = installStages(options, context);
  const anew = withScripts(installing.anew, scripts);
  const above = withScripts(await systemStages(options, context), scripts);
  if (options.profile.host === 'container') {
    // Without a live stage its point is still the last one.
    above.push(...scriptsBehind(liveName, scripts));
  } else {
    // Behind the scripts: whatever changes the system comes before.
    above.push(settleStage(options.ingredients.sourceDateEpoch));
  }
  const whole = [...anew, ...above];
  const keys = stageKeys(whole);
  // Scripts may do anything, also to what packages find.
  const untouched = anew.length === installing.anew.length;
  const pending = options.upgrade && untouched ? await pendingStages(options.cache, anew) : [];
  const upgraded = pending.length === 0 ? undefined : await installing.upgrade();
  if (upgraded === undefined) return { stages: whole, instead: undefined, keys };
  return { stages: [...upgraded, ...above], instead: whole, keys };
}

async function scriptsOf({ site, profile, ingredients }: StageOptions): Promise<Stage[]> {
  const { sourceDateEpoch } = ingredients;
  const all = await Promise.all(
    scriptPoints.map(
      async (after) => await scriptsStage({ profile, after, directory: site.directory, sourceDateEpoch }),
    ),
  );
  return all.filter((stage) => stage !== undefined);
}

function scriptsBehind(name: string, scripts: readonly Stage[]): Stage[] {
  return scripts.filter((stage) => stage.name === scriptsStageName(name));
}

function withScripts(stages: readonly Stage[], scripts: readonly Stage[]): Stage[] {
  return stages.flatMap((stage) => [stage, ...scriptsBehind(stage.name, scripts)]);
}

/** Stages that install the packages: out of nothing, and, where there is one, upon a system that is cached. */
function installStages(
  { site, profile, ingredients, key, cache, scratch }: StageOptions,
  context: Context,
): { readonly anew: readonly Stage[]; readonly upgrade: () => Promise<readonly Stage[] | undefined> } {
  const { suite, architecture, bootstrap: tool, recommends } = profile;
  const { lock, sourceDateEpoch, bootstrapEpoch } = ingredients;
  const keyring = join(scratch, 'site.gpg');
  const fileOf = (each: ResolvedPackage): string => packageFile(site, each);
  const provide = (name: string, packages: readonly ResolvedPackage[]) => async (): Promise<AptSource> => {
    await writeFile(keyring, dearmour(await trustedKeys(site), publicKeysFile(site)));
    const sign = async (file: string, output: string): Promise<void> =>
      await signClear(key.home, key.fingerprint, file, output, context);
    const directory = join(scratch, `repository-${name}`);
    const options = { directory, suite, architecture, packages, fileOf, sign, keyring, sourceDateEpoch };
    return await makeLocalRepository(options, context);
  };
  const { packages } = lock;
  const first = packages.filter(({ name }) => lock.bootstrap.includes(name));
  const wanted = wantedPackages(profile).map(({ name }) => name);
  const installing = { architecture, packages, wanted, recommends, sourceDateEpoch };
  return {
    anew: [
      bootstrapStage({
        ...{ tool, suite, architecture, packages: first, scratch },
        sourceDateEpoch: bootstrapEpoch,
        provide: provide(bootstrapName, first),
      }),
      packagesStage({ ...installing, provide: provide(packagesName, packages) }),
    ],
    upgrade: async () =>
      await upgradeStages(
        {
          ...{ ...installing, bootstrap: first, suite, tool, cache, fileOf, scratch },
          provide: (changed) => provide(upgradeName, changed),
        },
        context,
      ),
  };
}

/** Stages for all that is not a package. */
async function systemStages(
  { site, profile, ingredients, own, scratch }: StageOptions,
  context: Context,
): Promise<Stage[]> {
  const { sourceDateEpoch, upstream } = ingredients;
  const factoryFiles = join(scratch, 'factory');
  if (own !== undefined) await writePublicSite(site, factoryFiles, context);
  const liveFiles = join(scratch, 'live-part');
  if (profile.live) await writeLivePart(site, profile, liveFiles);
  return [
    ...(own === undefined ? [] : [await factoryStage({ own, files: factoryFiles, sourceDateEpoch })]),
    ...(profile.live ? [await filesStage({ name: 'relive', overlays: [liveFiles], sourceDateEpoch })] : []),
    await filesStage({ overlays: profile.overlays, sourceDateEpoch }),
    await configureStage({ profile, sources: upstream, sourceDateEpoch }),
    ...(profile.persist.length === 0 && profile.identity === undefined ? [] : [await persistStage(profile)]),
    ...(profile.host === 'container'
      ? []
      : [
          await liveStage({
            ...{ architecture: profile.architecture, sourceDateEpoch },
            ...{ initrd: profile.image.initrd, health: profile.boot.health },
            pullDaily: profile.pull !== undefined && profile.pull.daily !== false,
          }),
        ]),
  ];
}
