import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { hostArchive } from '../test/fixtures/host-archive.ts';
import { best, sh, type Took } from './site.ts';

const wanted = 'dbus iproute2 iputils-ping less libpam-systemd login nano procps systemd-resolved udev';

/**
 * Times live-build with the packages of the profile demo, in an image that it calls ISO hybrid: a run which has all packages in its
 * cache. For another package or another version of one it does all of this again.
 * @returns undefined where it is not installed
 */
export function measureLiveBuild(work: string): Took | undefined {
  if (spawnSync('lb', ['--version']).status !== 0) return undefined;
  const directory = join(work, 'live-build');
  const archive = hostArchive();
  const config = `lb config --mode debian --distribution trixie --architectures amd64 --archive-areas main --mirror-bootstrap ${archive} --mirror-binary ${archive} --linux-flavours cloud-amd64 --apt-recommends false --binary-images iso-hybrid --bootloaders grub-pc,grub-efi --uefi-secure-boot disable --memtest none --firmware-chroot false --firmware-binary false --security false --updates false --chroot-squashfs-compression-type zstd`;
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
