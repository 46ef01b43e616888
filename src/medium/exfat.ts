import { open } from 'node:fs/promises';
import { isReliveError, ReliveError } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { run } from '../host/process.ts';
import { findTool } from '../host/tools.ts';
import type { DiskBytes } from './bytes.ts';
import type { Extent, SectorSize } from './layout.ts';

/** What an exFAT file system says of itself. */
export interface ExfatState {
  readonly label: string;
  /** It was not unmounted. */
  readonly unclean: boolean;
  readonly bytes: number;
}

const entryBytes = 32;
/** The type of the directory entry that has the label. */
const labelEntry = 0x83;
const volumeDirty = 2;

/**
 * Reads an exFAT file system (Microsoft's exFAT specification, 3.1 main boot sector, 7.3 volume label); undefined where there
 * is none.
 */
export async function exfatState(disk: DiskBytes, extent: Extent): Promise<ExfatState | undefined> {
  const { offset } = extent;
  const sector = await disk.read(offset, 512);
  if (sector.toString('latin1', 3, 11) !== 'EXFAT   ') return undefined;
  const [sectorShift, clusterShift] = [sector.readUInt8(108), sector.readUInt8(109)];
  if (sectorShift < 9 || sectorShift > 12 || clusterShift > 25 - sectorShift) return undefined;
  const sectorSize = 2 ** sectorShift;
  const cluster = (sector.readUInt32LE(96) - 2) * 2 ** clusterShift;
  const bytes = Number(sector.readBigUInt64LE(72)) * sectorSize;
  const rootAt = (sector.readUInt32LE(88) + cluster) * sectorSize;
  if (cluster < 0 || rootAt + sectorSize > Math.min(bytes, extent.bytes)) return undefined;
  const root = await disk.read(offset + rootAt, sectorSize);
  let label = '';
  for (let at = 0; at < root.length && root.readUInt8(at) !== 0; at += entryBytes) {
    if (root.readUInt8(at) !== labelEntry) continue;
    label = root.toString('utf16le', at + 2, at + 2 + 2 * Math.min(root.readUInt8(at + 1), 11));
  }
  return { label, unclean: (sector.readUInt16LE(106) & volumeDirty) !== 0, bytes };
}

/**
 * Runs `work` with a loop device for a part of a disk. It goes when we do: detached while it is open, the kernel keeps it until
 * the last one closes it (losetup(8)).
 */
export async function withPart<T>(
  path: string,
  { offset, bytes }: Extent,
  options: { readonly sectorSize: SectorSize; readonly readOnly: boolean },
  context: Context,
  work: (device: string) => Promise<T>,
): Promise<T> {
  const { stdout } = await run(
    'losetup',
    [
      ...['--find', '--show', '--offset', String(offset), '--sizelimit', String(bytes)],
      ...['--sector-size', String(options.sectorSize), ...(options.readOnly ? ['--read-only'] : []), path],
    ],
    { signal: context.signal },
  );
  const device = stdout.trim();
  const handle = await open(device, 'r');
  try {
    await run('losetup', ['--detach', device], { signal: context.signal });
    return await work(device);
  } finally {
    await handle.close();
  }
}

/** Makes an exFAT file system on a device. */
export async function makeExfat(device: string, label: string, { signal }: Context): Promise<void> {
  await run('mkfs.exfat', ['-L', label, device], { signal });
}

/**
 * Checks an exFAT file system; changes nothing unless it is to be repaired.
 * @returns what is wrong with it, in lines; none for nothing, and for what was repaired
 */
export async function checkExfat(
  device: string,
  repair: boolean,
  { signal }: Context,
): Promise<readonly string[]> {
  // fsck.exfat(8): 1: errors were corrected, 4: errors are left.
  const { status, stdout, stderr } = await run('fsck.exfat', [repair ? '-p' : '-n', device], {
    signal,
    accept: [0, 1, 4],
  });
  if (status === 0 || (repair && status === 1)) return [];
  const lines = `${stdout}\n${stderr}`
    .split('\n')
    .filter((line) => /error|corrupt|not correct|bad/i.test(line));
  return lines.length > 0 ? lines : [`fsck.exfat ended with status ${status}`];
}

/**
 * Mounts an exFAT file system: by the kernel, else by FUSE (exfat-fuse).
 * @throws ReliveError `host-unable` where neither can
 */
export async function mountExfat(
  device: string,
  mountPoint: string,
  mode: 'read' | 'write',
  { signal }: Context,
): Promise<void> {
  const options = [mode === 'write' ? 'rw' : 'ro', 'nosuid', 'nodev', 'noexec', 'noatime'].join(',');
  try {
    await run('mount', ['-t', 'exfat', '-o', options, device, mountPoint], { signal });
  } catch (error) {
    if (!isReliveError(error, 'tool-failed')) throw error;
    if (findTool('mount.exfat-fuse') === undefined) {
      throw new ReliveError('host-unable', `cannot mount a store of exFAT: ${error.message}`, {
        hint: 'the kernel must have exfat (modprobe exfat), or apt-get install exfat-fuse',
        cause: error,
      });
    }
    await run('mount.exfat-fuse', ['-o', options, device, mountPoint], { signal });
  }
}
