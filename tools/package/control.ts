import { z } from 'zod';
import { hostPackages, type Need } from '../../src/host/packages.ts';

/** What the package takes over from package.json. */
export const packageJson = z.object({
  version: z.string(),
  author: z.string(),
  description: z.string(),
  license: z.string(),
  engines: z.object({ node: z.string() }),
});
export type PackageJson = z.output<typeof packageJson>;

/** Packages that relive uses, as others depend on them: those that are on every system are left out (policy 3.5). */
function relations(need: Need): string[] {
  return hostPackages()
    .filter((each) => each.need === need && !each.essential)
    .map(({ name }) => name);
}

/** `nodejs (>= 20.19)` out of `>=20.19`. */
function nodeRelation(engines: string): string {
  const oldest = /^>=([\d.]+)$/.exec(engines)?.[1];
  if (oldest === undefined) throw new TypeError(`engines.node of package.json: ${engines}`);
  return `nodejs (>= ${oldest})`;
}

/** The control file of the package (deb-control(5)). */
export function controlFile(json: PackageJson, installedKib: number): string {
  const depends = [nodeRelation(json.engines.node), ...relations('needed')];
  return [
    'Package: relive',
    `Version: ${json.version}`,
    'Architecture: all',
    `Maintainer: ${json.author}`,
    `Installed-Size: ${installedKib}`,
    `Depends: ${depends.join(', ')}`,
    `Recommends: ${relations('recommended').join(', ')}`,
    `Suggests: ${relations('suggested').join(', ')}`,
    'Section: admin',
    'Priority: optional',
    'Multi-Arch: foreign',
    'Description: incremental live operating systems out of Debian',
    ' relive turns a Debian machine into an incremental live operating system: the',
    ' system is a signed, read-only image that boots; what it must remember lives',
    ' apart from it. Restoring a backup is a reboot, making one is an update.',
    ' .',
    ' A profile, one YAML file in git, says what a system is. relive mirrors the',
    ' repositories and proves them intact, builds the system in cached stages,',
    ' packs it as SquashFS and hybrid ISO, seals it with checksums and signatures,',
    ' and boots it in a virtual machine before anybody else does.',
    '',
  ].join('\n');
}
