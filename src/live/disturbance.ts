import type { Manifest } from '../image/manifest.ts';
import type { Change } from './changes.ts';

/** How far a running system must be disturbed for all of an image to be in force; each does what those before do. */
export const disturbances = ['nothing', 'services', 'switch', 'kexec', 'firmware'] as const;
export type Disturbance = (typeof disturbances)[number];

/** What asks for a disturbance, and why. */
export interface Demand {
  readonly disturbance: Disturbance;
  readonly why: string;
}

/** The greatest of several. */
export function greatest(demands: readonly Demand[]): Disturbance {
  const highest = Math.max(0, ...demands.map(({ disturbance }) => disturbances.indexOf(disturbance)));
  return disturbances[highest] ?? 'nothing';
}

type Booted = Pick<Manifest, 'kernel' | 'initrd' | 'boot'>;

/** What only another start of the kernel can do, by what two manifests say. */
export function kernelDemands(from: Booted, to: Booted): Demand[] {
  const demands: Demand[] = [];
  const ask = (why: string): void => void demands.push({ disturbance: 'kexec', why });
  if (from.kernel?.digest !== to.kernel?.digest) {
    ask(
      from.kernel?.version === to.kernel?.version
        ? `another build of the kernel ${to.kernel?.version}`
        : `the kernel ${to.kernel?.version} in the place of ${from.kernel?.version}`,
    );
  }
  if (from.initrd?.digest !== to.initrd?.digest) ask('another initrd');
  if (from.boot?.parameters.join(' ') !== to.boot?.parameters.join(' ')) ask('another kernel command line');
  return demands;
}

/** Packages whose new version is in force everywhere only when all of user space has started anew. */
const userSpace = /^(libc6|systemd|dbus|dbus-broker|libsystemd0|libsystemd-shared)$/;

/** What packages of user space ask for, by what two manifests say. */
export function packageDemands(from: Pick<Manifest, 'packages'>, to: Pick<Manifest, 'packages'>): Demand[] {
  const before = new Map(from.packages.map((each) => [`${each.name}:${each.architecture}`, each]));
  const changed = to.packages.filter(
    (each) => before.get(`${each.name}:${each.architecture}`)?.sha256 !== each.sha256,
  );
  const demands = changed
    .filter(({ name }) => userSpace.test(name))
    .map(
      ({ name, version }): Demand => ({
        disturbance: 'switch',
        why: `${name} ${version}, which everything uses`,
      }),
    );
  const others = changed.length !== 0 || from.packages.length !== to.packages.length;
  return others ? [...demands, { disturbance: 'services', why: 'packages change' }] : demands;
}

const wholeUserSpace: readonly (readonly [RegExp, string])[] = [
  [/^usr\/lib\/[^/]+\/(libc\.so\.6|ld-linux[^/]*)$/, 'the C library, which every program uses'],
  [/^usr\/lib\/systemd\/systemd$/, 'systemd itself'],
  [/^usr\/bin\/dbus-(daemon|broker)$/, 'the message bus'],
];

/** What these changes ask for. */
export function changeDemands(changes: readonly Change[]): Demand[] {
  return wholeUserSpace
    .filter(([pattern]) => changes.some(({ path }) => pattern.test(path)))
    .map(([, why]): Demand => ({ disturbance: 'switch', why }));
}
