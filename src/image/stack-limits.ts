import { ReliveError } from '../core/error.ts';
import { layerFile, type ManifestLayer } from './manifest.ts';

/** How many lower layers overlayfs takes (Linux fs/overlayfs/params.h, OVL_MAX_STACK). */
const mostLayers = 500;
/** From here on runtime/initramfs/relive refuses: mount(2) takes a page of options and cuts off what is longer in silence. */
const optionsLimit = 4000;

/** The options by which the initramfs mounts a stack of so many layers (relive_mount_root there). */
export function bootMountOptions(count: number): string {
  const lower = Array.from({ length: count }, (_, index) => `/run/live/rootfs/${count - 1 - index}`);
  return `noatime,lowerdir=${lower.join(':')},upperdir=/run/live/overlay/rw,workdir=/run/live/overlay/work,redirect_dir=on`;
}

/**
 * Refuses a stack that would not mount when it boots: too many layers, options that are too long, layers whose files have one
 * name.
 * @param layers bottom first
 * @throws ReliveError `configuration`
 */
export function requireMountable(image: string, layers: readonly Pick<ManifestLayer, 'digest'>[]): void {
  const refuse = (why: string): never => {
    throw new ReliveError('configuration', `the stack of ${image} would not mount when it boots: ${why}`, {
      hint: 'a full image has a stack of two layers: relive update PROFILE --full',
    });
  };
  if (layers.length > mostLayers) {
    refuse(`it has ${layers.length} layers, and overlayfs takes ${mostLayers}`);
  }
  const { length } = bootMountOptions(layers.length);
  if (length >= optionsLimit) {
    refuse(`the options of its mount have ${length} bytes, which is not below ${optionsLimit}`);
  }
  const names = new Set<string>();
  for (const layer of layers) {
    const name = layerFile(layer);
    if (names.has(name)) refuse(`two of its layers are called ${name}`);
    names.add(name);
  }
}
