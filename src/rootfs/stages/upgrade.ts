import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Context } from '../../core/event.ts';
import { exists, regularText } from '../../host/files.ts';
import { run } from '../../host/process.ts';
import { type CachedLayer, cachedLayers, type Stage } from '../layers.ts';
import type { ResolvedPackage } from '../resolve.ts';
import { bootstrapName } from './bootstrap.ts';
import {
  install,
  installInputs,
  type PackagesOptions,
  packageInputs,
  packagesName,
  packagesStage,
} from './packages.ts';

/*
 * Where packages only have other versions than in a system whose layers are cached, they are installed upon these layers, and not
 * everything anew. What comes of it is what a system built anew would be, as far as scripts of packages do the same then: so it
 * is done only where the scripts, triggers and configuration files of each package are those that it had before.
 */

export const upgradeName = 'upgrade';

/** What of a package decides what its installation does besides unpacking files (deb-src-files(5), deb-postinst(5)). */
const decisive = ['preinst', 'postinst', 'prerm', 'postrm', 'config', 'templates', 'triggers', 'conffiles'];

/** Its script copies what the package brings to where it may be changed (/etc/profile, /root), and never again. */
const copying: ReadonlySet<string> = new Set(['base-files']);

export interface UpgradeOptions extends Omit<PackagesOptions, 'provide'> {
  readonly suite: string;
  readonly tool: string;
  /** Those of the packages that the bootstrap installs. */
  readonly bootstrap: readonly ResolvedPackage[];
  /** Where layers are. The caller has a share of it. */
  readonly cache: string;
  /** Makes a repository of these packages, by `file:`. */
  readonly provide: (packages: readonly ResolvedPackage[]) => PackagesOptions['provide'];
  /** Where a package's file is. */
  readonly fileOf: (each: ResolvedPackage) => string;
  /** A directory for what is needed meanwhile. */
  readonly scratch: string;
}

/** A system in the cache, bottom first, and the packages that have another version there. */
interface Base {
  readonly layers: readonly CachedLayer[];
  readonly changed: readonly ResolvedPackage[];
}

/**
 * Finds the system in the cache which the fewest packages must be installed upon: one with packages of the same names, or else a
 * bootstrap with packages of the same names, upon which all others are installed.
 * @returns stages whose layers are in the cache, and one that installs packages; undefined where there is no such system
 */
export async function upgradeStages(
  options: UpgradeOptions,
  context: Context,
): Promise<readonly Stage[] | undefined> {
  const bootstraps = await bootstrapsFor(options);
  const whole = await chosen(await systemsFor(bootstraps, options), options, context);
  const [bottom, top] = whole?.layers ?? [];
  if (whole !== undefined && bottom !== undefined && top !== undefined) {
    return [
      cachedStage(bootstrapName, bottom),
      cachedStage(packagesName, top),
      upgradeStage(whole.changed, { ...options, provide: options.provide(whole.changed) }),
    ];
  }
  const bases = bootstraps.flatMap((layer) => basesOf([layer], layer, options.bootstrap));
  const [bootstrap] = (await chosen(bases, options, context))?.layers ?? [];
  if (bootstrap === undefined) return undefined;
  const { packages } = options;
  return [
    cachedStage(bootstrapName, bootstrap),
    packagesStage({ ...options, provide: options.provide(packages) }),
  ];
}

/** That base, of those whose packages install alike, which lacks the fewest; none where one lacks nothing: it differs in its time. */
async function chosen(
  bases: readonly Base[],
  options: UpgradeOptions,
  context: Context,
): Promise<Base | undefined> {
  if (bases.some(({ changed }) => changed.length === 0)) return undefined;
  for (const base of bases.toSorted((a, b) => a.changed.length - b.changed.length)) {
    const alike = await Promise.all(
      base.changed.map(async (each) => await installsAlike(base.layers, each, options, context)),
    );
    if (!alike.includes(false)) return base;
  }
  return undefined;
}

async function bootstrapsFor({ cache, tool, suite, architecture }: UpgradeOptions): Promise<CachedLayer[]> {
  const kind = z.object({
    tool: z.literal(tool),
    suite: z.literal(suite),
    architecture: z.literal(architecture),
  });
  const all = await cachedLayers(cache, bootstrapName, '');
  return all.filter(({ inputs }) => kind.safeParse(inputs).success);
}

/** The cached systems on these bootstraps that consist of packages of the same names. */
async function systemsFor(bootstraps: readonly CachedLayer[], options: UpgradeOptions): Promise<Base[]> {
  const installed = z.object({ wanted: z.array(z.string()), recommends: z.literal(options.recommends) });
  const bases: Base[] = [];
  for (const bootstrap of bootstraps) {
    for (const layer of await cachedLayers(options.cache, packagesName, bootstrap.key)) {
      const inputs = installed.safeParse(layer.inputs);
      if (!inputs.success || !same(inputs.data.wanted, options.wanted)) continue;
      bases.push(...basesOf([bootstrap, layer], layer, options.packages));
    }
  }
  return bases;
}

/** Layers as a base, where the packages that their top was made of differ from others in nothing but versions. */
function basesOf(
  layers: readonly CachedLayer[],
  top: CachedLayer,
  packages: readonly ResolvedPackage[],
): Base[] {
  const inputs = z.object({ packages: z.array(z.string()) }).safeParse(top.inputs);
  if (!inputs.success) return [];
  const lines = packageInputs(packages);
  if (!same(inputs.data.packages.map(withoutVersion), lines.map(withoutVersion))) return [];
  const changed = packages.filter((_, index) => inputs.data.packages[index] !== lines[index]);
  return changed.some(({ name }) => copying.has(name)) ? [] : [{ layers, changed }];
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Name and architecture of a package in a stage's inputs. */
function withoutVersion(line: string): string {
  const [name = '', , architecture = ''] = line.split(' ');
  return `${name} ${architecture}`;
}

/** Whether a package does what it did when it was installed in a system, and finds its configuration as it left it. */
async function installsAlike(
  layers: readonly CachedLayer[],
  each: ResolvedPackage,
  { fileOf, scratch }: UpgradeOptions,
  context: Context,
): Promise<boolean> {
  if (!(await exists(fileOf(each)))) return false;
  const control = await mkdtemp(join(scratch, 'control-'));
  try {
    await run('dpkg-deb', ['--control', fileOf(each), join(control, 'DEBIAN')], context);
    for (const name of decisive) {
      const now = await textOf(join(control, 'DEBIAN', name));
      if (now !== (await installedText(layers, each, name))) return false;
    }
  } finally {
    await rm(control, { recursive: true, force: true });
  }
  return await conffilesUntouched(layers, each);
}

/** What dpkg keeps of a package: the name bears the architecture where several may be installed together. */
async function installedText(
  layers: readonly CachedLayer[],
  { name, architecture }: ResolvedPackage,
  file: string,
): Promise<string | undefined> {
  for (const owner of [name, `${name}:${architecture}`]) {
    const text = await shownText(layers, `var/lib/dpkg/info/${owner}.${file}`);
    if (text !== undefined) return text;
  }
  return undefined;
}

/** The text of a file in the system that the layers show. */
async function shownText(layers: readonly CachedLayer[], path: string): Promise<string | undefined> {
  for (const { directory } of layers.toReversed()) {
    const text = await textOf(join(directory, path));
    if (text !== undefined) return text;
  }
  return undefined;
}

/** Bytes as characters; undefined for anything but a regular file: in a layer what is gone may be a device. */
async function textOf(path: string): Promise<string | undefined> {
  return await regularText(path, 'latin1');
}

/** Whether the configuration files of a package are those it brought (deb-conffiles(5)): dpkg would put new ones beside others. */
async function conffilesUntouched(
  layers: readonly CachedLayer[],
  { name }: ResolvedPackage,
): Promise<boolean> {
  const status = (await shownText(layers, 'var/lib/dpkg/status')) ?? '';
  const stanza = status.split('\n\n').find((each) => each.split('\n').includes(`Package: ${name}`)) ?? '';
  const listed = /^Conffiles:\n((?: .*\n?)*)/m.exec(stanza)?.[1] ?? '';
  for (const line of listed.split('\n').filter((each) => each !== '')) {
    const [, path, digest] = /^ \/(.*) ([0-9a-f]{32})$/.exec(line) ?? [];
    // With a remark behind, or in a form of its own.
    if (path === undefined) return false;
    const text = await shownText(layers, path);
    if (text === undefined || md5(text) !== digest) return false;
  }
  return true;
}

/** dpkg's own digest of configuration files; it protects nothing here. @param text bytes, each a character */
function md5(text: string): string {
  return createHash('md5').update(text, 'latin1').digest('hex');
}

/** A stage whose layer is there: it keeps its key, and is never run. */
function cachedStage(name: string, { inputs }: CachedLayer): Stage {
  return {
    name,
    inputs,
    work: async () =>
      await Promise.reject(new Error(`the layer of ${name} went away while the cache was shared`)),
  };
}

/** Installs packages upon a system that has other versions of them. */
function upgradeStage(changed: readonly ResolvedPackage[], options: PackagesOptions): Stage {
  return {
    name: upgradeName,
    inputs: installInputs(options),
    work: async ({ chroot: enter }, context) => await install(await enter(), changed, options, context),
  };
}
