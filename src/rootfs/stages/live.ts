import { chmod, copyFile, lutimes, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ReliveError } from '../../core/error.ts';
import { home } from '../../core/home.ts';
import { exists, makeDirectories, sha256 } from '../../host/files.ts';
import type { Profile } from '../../site/profile.ts';
import { finishInitrd, type InitrdCompression, initrdSettings } from '../initrd.ts';
import type { Stage } from '../layers.ts';
import { writeInside } from '../links.ts';
import { useSmallOffsets } from '../small-offsets.ts';

/** The files which go into every image as they are. */
const runtime = join(home, 'runtime');

/** Source below runtime/, place in the system, mode. */
const files = [
  ['initramfs/hook', 'usr/share/initramfs-tools/hooks/relive', 0o755],
  // live-boot sources the files there in the order of their names: its own begin with a number, this comes last.
  ['initramfs/relive', 'usr/lib/live/boot/9999-relive', 0o644],
  ['health/relive-health', 'usr/lib/relive/health', 0o755],
  ['health/relive-health-checks', 'usr/lib/relive/health-checks', 0o755],
  ['health/relive-health-good', 'usr/lib/relive/health-good', 0o755],
  ['health/relive-health.service', 'usr/lib/systemd/system/relive-health.service', 0o644],
  ['ssh/relive-ssh-host-keys.service', 'usr/lib/systemd/system/relive-ssh-host-keys.service', 0o644],
] as const;

/** What runtime/health reads where the profile lists anything: a line for each, a word and its value. */
const healthList = 'usr/lib/relive/health.conf';

/** Those of a system that has relive itself; what fetches images is enabled where the profile says so (pull). */
const filesBesideRelive = [
  ['live/relive-pull.service', 'usr/lib/systemd/system/relive-pull.service', 0o644],
  ['live/relive-pull.timer', 'usr/lib/systemd/system/relive-pull.timer', 0o644],
  ['live/relive-switched', 'usr/lib/relive/switched', 0o755],
  ['live/relive-switched.service', 'usr/lib/systemd/system/relive-switched.service', 0o644],
] as const;
/** Of these, the one that is enabled: it has nothing to do but after relive live switch. */
const switched = 'relive-switched.service';

/** The paths of relive's own files in a system. */
export const liveFiles: readonly string[] = files.map(([, target]) => target);

export const liveName = 'live';
/** The names of the files that the live stage leaves beside the tree. */
export const kernelName = 'vmlinuz';
export const initrdName = 'initrd.img';

export interface LiveOptions {
  readonly architecture: string;
  readonly initrd: InitrdCompression;
  readonly health: Profile['boot']['health'];
  /** Whether images are fetched by a timer. */
  readonly pullDaily: boolean;
  readonly sourceDateEpoch: number;
}

function healthLines(health: NonNullable<LiveOptions['health']>): string {
  const lines = [
    `timeout ${health.timeout}`,
    `restart ${health.restart ? 'yes' : 'no'}`,
    ...health.units.map((unit) => `unit ${unit}`),
    ...(health.script === undefined ? [] : [`script ${health.script}`]),
    ...(health.url === undefined ? [] : [`url ${health.url}`]),
  ];
  return `${lines.join('\n')}\n`;
}

/** relive's own units, and the initramfs, made once. Leaves kernel and initrd beside the tree. */
export async function liveStage({
  architecture,
  initrd,
  health,
  pullDaily,
  sourceDateEpoch,
}: LiveOptions): Promise<Stage> {
  // Of 32 bits, and not run by the kernel as i386 is.
  const smallOffsets = architecture === 'armhf';
  const digests = await Promise.all(
    [...files, ...filesBesideRelive].map(async ([source]) => sha256(await readFile(join(runtime, source)))),
  );
  return {
    name: liveName,
    inputs: {
      files: [...files, ...filesBesideRelive].map(([, target, mode], index) => [
        target,
        mode,
        digests[index],
      ]),
      initrd,
      ...(health === undefined ? {} : { health }),
      ...(pullDaily ? { pullDaily } : {}),
      ...(smallOffsets ? { smallOffsets } : {}),
      sourceDateEpoch,
    },
    work: async ({ root, output, chroot: enter }, context) => {
      const chroot = await enter();
      const hasRelive = await exists(join(root, 'usr/bin/relive'));
      const own = hasRelive ? [...files, ...filesBesideRelive] : files;
      for (const [source, target, mode] of own) {
        await makeDirectories(join(root, target, '..'));
        await copyFile(join(runtime, source), join(root, target));
        await chmod(join(root, target), mode);
        await lutimes(join(root, target), sourceDateEpoch, sourceDateEpoch);
      }
      if (health !== undefined) {
        await writeFile(join(root, healthList), healthLines(health));
        await lutimes(join(root, healthList), sourceDateEpoch, sourceDateEpoch);
      }
      const units = [
        'relive-health.service',
        ...(hasRelive ? [switched] : []),
        ...(pullDaily ? ['relive-pull.timer'] : []),
      ];
      await chroot.run('systemctl', ['enable', ...units], { onLine: () => undefined });
      if (await exists(join(root, 'usr/sbin/sshd'))) {
        await chroot.run('systemctl', ['enable', 'relive-ssh-host-keys.service'], {
          onLine: () => undefined,
        });
      }
      await takeAllMicrocode(root);
      const version = await kernelVersion(root);
      const kernel = join(root, `boot/vmlinuz-${version}`);
      // That of the kernel, not of the lock: nothing in the initrd is newer then, and where what is in it stays the same over an
      // update, all of its bytes do: stores and media have it once, and no restart is needed for it.
      const initrdTime = Math.floor((await stat(kernel)).mtimeMs / 1000);
      await writeFile(join(root, 'etc/initramfs-tools/conf.d/relive.conf'), initrdSettings(initrd));
      if (smallOffsets) await useSmallOffsets(join(root, 'usr/lib/modules'));
      await chroot.run('update-initramfs', ['-c', '-k', version], {
        env: { SOURCE_DATE_EPOCH: String(initrdTime) },
        onLine: (line) => context.emit({ event: 'note', source: 'live', message: line }),
      });
      // The initrd is kept beside the layers, for GRUB; in the layer it would be a second time.
      await copyFile(join(root, `boot/initrd.img-${version}`), join(output, initrdName));
      await rm(join(root, `boot/initrd.img-${version}`));
      await finishInitrd(join(output, initrdName), initrd, initrdTime);
      await copyFile(kernel, join(output, kernelName));
      await writeFile(join(output, 'kernel-version'), version);
    },
  };
}

/**
 * Unless they are told otherwise, these packages put the microcode of the build host's processor into the initramfs
 * (intel-microcode's README.Debian): it would be of no use elsewhere, and other bytes on each host.
 */
async function takeAllMicrocode(root: string): Promise<void> {
  for (const [name, text] of [
    ['intel-microcode', 'IUCODE_TOOL_INITRAMFS=early\nIUCODE_TOOL_SCANCPUS=no\n'],
    ['amd64-microcode', 'AMD64UCODE_INITRAMFS=early\n'],
  ] as const) {
    if (await exists(join(root, 'etc/default', name))) await writeInside(root, `etc/default/${name}`, text);
  }
}

/** The version of the one kernel in the system. */
async function kernelVersion(root: string): Promise<string> {
  const versions = (await readdir(join(root, 'boot')))
    .filter((name) => name.startsWith('vmlinuz-'))
    .map((name) => name.slice('vmlinuz-'.length));
  const [version, ...others] = versions;
  if (version !== undefined && others.length === 0) return version;
  throw new ReliveError(
    'configuration',
    version === undefined
      ? 'the system has no kernel in /boot'
      : `the system has several kernels: ${versions.join(', ')}`,
    { hint: 'an image boots one kernel: its package is chosen by "host" in the profile' },
  );
}
