import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { z } from 'zod';
import { ReliveError, systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { flock } from './lock.ts';
import { run } from './process.ts';

const text = z.nullish(z.string()).transform((value) => value ?? undefined);
const nodeSchema = z.object({
  name: z.string(),
  type: z.string(),
  size: z.coerce.number(),
  model: text,
  tran: text,
  label: text,
  partlabel: text,
  fstype: text,
  uuid: text,
  partuuid: text,
  ptuuid: text,
  'log-sec': z.coerce.number(),
  ro: z.union([z.boolean(), z.string().transform((value) => value === '1')]),
  mountpoints: z.nullish(z.array(z.nullable(z.string()))).transform((points) => {
    return (points ?? []).filter((point): point is string => point !== null);
  }),
  get children() {
    return z.nullish(z.array(nodeSchema));
  },
});
type Node = z.infer<typeof nodeSchema>;
/** udev looks at a disk for a moment. */
const lockSeconds = 3;
const columns =
  'NAME,TYPE,SIZE,MODEL,TRAN,LABEL,PARTLABEL,FSTYPE,UUID,PARTUUID,PTUUID,LOG-SEC,RO,MOUNTPOINTS';

/** A part of a block device: a partition, or what is made of one (LVM, RAID, dm-crypt). */
export interface DevicePart {
  readonly name: string;
  /** lsblk's word: `part`, `crypt`, `lvm`, `raid1`, ... */
  readonly type: string;
  readonly bytes: number;
  readonly label: string | undefined;
  /** Of the file system and of the partition. */
  readonly labels: readonly string[];
  /** Of the file system, of the partition, and of the partition table that it is in. */
  readonly uuids: readonly string[];
  readonly fileSystem: string | undefined;
  /** `[SWAP]` for swap in use. */
  readonly mountPoints: readonly string[];
}

/** A block device, as lsblk(8) sees it. */
export interface BlockDevice extends DevicePart {
  readonly model: string | undefined;
  /** `usb`, `sata`, `nvme`, ... */
  readonly transport: string | undefined;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  /** All that is below it. */
  readonly parts: readonly DevicePart[];
}

function partOf(node: Node): DevicePart {
  return {
    name: node.name,
    type: node.type,
    bytes: node.size,
    label: node.label ?? node.partlabel,
    labels: [node.label, node.partlabel].filter((label) => label !== undefined),
    uuids: [node.uuid, node.partuuid, node.ptuuid].filter((uuid) => uuid !== undefined),
    fileSystem: node.fstype,
    mountPoints: node.mountpoints,
  };
}

function deviceOf(node: Node): BlockDevice {
  const below = (of: Node): DevicePart[] =>
    (of.children ?? []).flatMap((child) => [partOf(child), ...below(child)]);
  return {
    ...partOf(node),
    model: node.model?.trim(),
    transport: node.tran,
    sectorSize: node['log-sec'],
    readOnly: node.ro,
    parts: below(node),
  };
}

/**
 * What this host knows of block devices.
 * @param path one device; all of the host without it
 */
export async function blockDevices(path: string | undefined, context: Context): Promise<BlockDevice[]> {
  const { stdout } = await run(
    'lsblk',
    ['--json', '--bytes', '--paths', '--output', columns, ...(path === undefined ? [] : ['--', path])],
    { signal: context.signal },
  );
  const { blockdevices } = z.object({ blockdevices: z.array(nodeSchema) }).parse(JSON.parse(stdout));
  return blockdevices.map(deviceOf);
}

/** Who uses a device, in words; nothing where it is free as far as lsblk can tell. */
export function usesOf(device: BlockDevice): string[] {
  return [device, ...device.parts].flatMap((part) => [
    ...part.mountPoints.map((point) =>
      point === '[SWAP]' ? `${part.name} is swap in use` : `${part.name} is mounted at ${point}`,
    ),
    ...(part === device || part.type === 'part' ? [] : [`${part.name} (${part.type}) is made of it`]),
  ]);
}

/**
 * Opens a disk for us alone: a block device by the kernel's own claim (open(2), O_EXCL), which mounts, swap, LVM, RAID
 * and device-mapper respect and make; and by flock(2), by which udev and other calls of relive keep off.
 * @throws ReliveError `locked` when something uses it, `not-found`, `host-unable`
 */
export async function openAlone(path: string, options: { readonly write: boolean }): Promise<FileHandle> {
  const device = (await stat(path)).isBlockDevice();
  const flags = (options.write ? constants.O_RDWR : constants.O_RDONLY) | (device ? constants.O_EXCL : 0);
  let handle: FileHandle;
  try {
    // eslint-disable-next-line no-bitwise -- flags of open(2)
    handle = await open(path, flags);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EBUSY') {
      throw new ReliveError(
        'locked',
        `${path} is in use: mounted, swap, or part of LVM, RAID or an encrypted volume`,
        {
          hint: `lsblk ${path} shows what uses it; unmount that first`,
          cause: error,
        },
      );
    }
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOMEDIUM') {
      throw new ReliveError(
        'host-unable',
        `cannot open ${path}${options.write ? ' for writing' : ''}: ${code}`,
        {
          hint: device ? 'is it write-protected, or are you not root?' : 'whose file is it?',
          cause: error,
        },
      );
    }
    throw error;
  }
  try {
    if (await flock(handle.fd, path, options.write ? 'exclusive' : 'shared', lockSeconds)) return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  throw new ReliveError('locked', `${path} is in use by another process`, {
    hint: 'wait until that has ended, then start again',
  });
}

/** Whether a file is the backing of a loop device, which may be mounted. */
export async function loopDevicesOf(path: string, context: Context): Promise<readonly string[]> {
  const { stdout } = await run('losetup', ['--noheadings', '--output', 'NAME', '--associated', path], {
    signal: context.signal,
  });
  return stdout.split('\n').filter((line) => line !== '');
}

/** Makes the kernel read the partition table of a device anew (ioctl BLKRRPART). */
export async function rereadPartitions(path: string, context: Context): Promise<void> {
  await run('blockdev', ['--rereadpt', path], { signal: context.signal });
}

/** Forgets what the kernel has in memory of a device, so that the next reads are from the device itself. */
export async function forgetCache(path: string, context: Context): Promise<void> {
  await run('blockdev', ['--flushbufs', path], { signal: context.signal });
}

/**
 * What libblkid finds at a place of a disk: `ext4 "DATA"`, or undefined.
 * @param offset bytes
 */
export async function contentAt(path: string, offset: number, context: Context): Promise<string | undefined> {
  const { status, stdout } = await run(
    'blkid',
    ['--probe', '--offset', String(offset), '--output', 'export', path],
    // 2: nothing, 8: several contradicting (blkid(8)).
    { signal: context.signal, accept: [0, 2, 8] },
  );
  if (status === 8) return 'several file systems at once';
  const values = new Map(
    stdout.split('\n').map((line): [string, string] => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
  const kind =
    values.get('TYPE') ?? (values.has('PTTYPE') ? `a partition table (${values.get('PTTYPE')})` : undefined);
  if (kind === undefined) return undefined;
  const label = values.get('LABEL');
  return label === undefined ? kind : `${kind} "${label}"`;
}
