import { mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { BlockDevice, DevicePart } from '../../../src/host/disk.ts';
import { attachedMedium, diskNamed } from '../../../src/refresh/media.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';

function part(name: string, labels: readonly string[], uuids: readonly string[]): DevicePart {
  return {
    ...{ name, type: 'part', bytes: 1e9, label: labels[0], labels, uuids },
    ...{ fileSystem: 'ext4', mountPoints: [] },
  };
}

function disk(name: string, ...parts: readonly DevicePart[]): BlockDevice {
  const own = { ...part(name, [], ['0A1B2C3D-0000-4000-8000-000000000000']), type: 'disk' };
  return { ...own, model: undefined, transport: 'usb', sectorSize: 512, readOnly: false, parts };
}

const disks = [
  disk('/dev/sda', part('/dev/sda1', ['root'], ['1111-2222'])),
  disk('/dev/sdb', part('/dev/sdb1', ['KIOSK', 'data'], ['aaaa1111-0000-4000-8000-000000000000'])),
];

test('a disk is found by the label of a file system or of a partition, and by a UUID of either case', () => {
  expect(diskNamed('KIOSK', disks)?.name).toBe('/dev/sdb');
  expect(diskNamed('data', disks)?.name).toBe('/dev/sdb');
  expect(diskNamed('UUID=AAAA1111-0000-4000-8000-000000000000', disks)?.name).toBe('/dev/sdb');
  expect(diskNamed('UUID=1111-2222', disks)?.name).toBe('/dev/sda');
  expect(diskNamed('kiosk', disks)).toBeUndefined();
  expect(diskNamed('UUID=KIOSK', disks)).toBeUndefined();
});

test('a name that several disks have is none', () => {
  expect(() => diskNamed('UUID=0a1b2c3d-0000-4000-8000-000000000000', disks)).toThrow(
    'several disks have UUID=0a1b2c3d-0000-4000-8000-000000000000: /dev/sda, /dev/sdb',
  );
});

test('a path is the medium when something is there', async () => {
  const directory = realpathSync(temporaryDirectory());
  mkdirSync(join(directory, 'by-id'));
  writeFileSync(join(directory, 'disk'), '');
  symlinkSync('../disk', join(directory, 'by-id/usb'));
  const context = recordingContext();
  expect(await attachedMedium(join(directory, 'by-id/usb'), context)).toBe(join(directory, 'disk'));
  expect(await attachedMedium(join(directory, 'by-id/other'), context)).toBeUndefined();
});
