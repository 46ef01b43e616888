import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { home } from '../src/core/home.ts';
import { hostArchive } from '../test/fixtures/host-archive.ts';
import { best, sh, type Took } from './site.ts';

const wanted = 'dbus iproute2 iputils-ping less libpam-systemd login nano procps systemd-resolved udev';

/** What has live-build make a system like that of the profile demo, in an image that it calls ISO hybrid. */
function configure(...more: readonly string[]): string {
  const archive = hostArchive();
  const common = `lb config --mode debian --distribution trixie --architectures amd64 --archive-areas main --mirror-bootstrap ${archive} --mirror-binary ${archive} --linux-flavours cloud-amd64 --apt-recommends false --binary-images iso-hybrid --uefi-secure-boot disable --memtest none --firmware-chroot false --firmware-binary false --security false --chroot-squashfs-compression-type zstd`;
  return [common, ...more].join(' ');
}

/** Whether it can be run here. */
export function isLiveBuildInstalled(): boolean {
  return spawnSync('lb', ['--version']).status === 0;
}

/**
 * Times live-build with the packages of the profile demo: a run which has all packages in its cache. For another package or another
 * version of one it does all of this again.
 * @returns undefined where it is not installed
 */
export function measureLiveBuild(work: string): Took | undefined {
  if (!isLiveBuildInstalled()) return undefined;
  const directory = join(work, 'live-build');
  const config = configure('--bootloaders grub-pc,grub-efi', '--updates false');
  sh(
    `mkdir -p live-build && cd live-build && ${config} && echo ${wanted} > config/package-lists/demo.list.chroot`,
    work,
  );
  sh('lb build', directory);
  return best(
    () => sh(`lb clean --all && rm -rf cache/bootstrap && ${config}`, directory),
    () => sh('lb build', directory),
    1,
  );
}

/** What an image of live-build is to have in common with one of relive. */
export interface Alike {
  /** The names of all packages. */
  readonly packages: readonly string[];
  /** What is copied into the system. */
  readonly overlay: string;
  /** Units that are enabled. */
  readonly units: readonly string[];
  /** The kernel's parameters. */
  readonly parameters: readonly string[];
}

/** An ISO, and the version of each package in it. */
export interface LiveBuildIso {
  readonly iso: string;
  readonly packages: ReadonlyMap<string, string>;
}

/**
 * Makes a hybrid ISO with the boot loaders that live-build chooses itself, whose menu waits for nobody, and relive's report of health in
 * it. It has live-boot, but not live-config, as relive's images.
 */
export function makeLiveBuildIso(
  work: string,
  { packages, overlay, units, parameters }: Alike,
): LiveBuildIso {
  const directory = join(work, 'live-build-iso');
  mkdirSync(directory);
  const append = `--bootappend-live 'boot=live ${parameters.join(' ')}'`;
  const level = '--chroot-squashfs-compression-level 9';
  sh(configure('--updates true', '--debootstrap-options --variant=minbase', level, append), directory);
  const config = (path: string): string => join(directory, 'config', path);
  sh('rm -f config/package-lists/*', directory);
  writeFileSync(config('package-lists/alike.list.chroot'), `${packages.join('\n')}\n`);
  const files = config('includes.chroot');
  cpSync(overlay, files, { recursive: true });
  const health = join(home, 'runtime/health');
  sh(
    `install -D -m 755 '${health}/relive-health' usr/lib/relive/health && install -D -m 644 -t usr/lib/systemd/system '${health}/relive-health.service'`,
    files,
  );
  writeFileSync(
    config('hooks/normal/9900-enable.hook.chroot'),
    `#!/bin/sh\nsystemctl enable relive-health ${units.join(' ')}\n`,
  );
  // Tenths of a second; 0 would be for ever.
  writeFileSync(
    config('hooks/normal/9900-menu.hook.binary'),
    "#!/bin/sh\nsed -i 's/^timeout .*/timeout 1/' isolinux/isolinux.cfg\n",
  );
  sh('lb build', directory);
  const listed = readFileSync(join(directory, 'chroot.packages.live'), 'utf8').trim().split('\n');
  const versions = listed.map((line) => {
    const [name = '', version = ''] = line.split('\t');
    return [name.replace(/:.*/, ''), version] as const;
  });
  return { iso: join(directory, 'live-image-amd64.hybrid.iso'), packages: new Map(versions) };
}
