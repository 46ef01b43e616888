import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { rootStack, runningImage, storeAtHand } from '../../../src/live/running.ts';
import { temporaryDirectory } from '../../support.ts';

function makeStore(path: string): void {
  for (const part of ['images', 'live']) mkdirSync(join(path, part), { recursive: true });
}

const others = 'proc /proc proc rw 0 0\n';

describe('the stack of the root', () => {
  test('is what overlayfs was mounted with, bottom first', () => {
    const mounts = `overlay / overlay rw,noatime,lowerdir=/run/live/rootfs/1:/run/live/rootfs/0,upperdir=/run/live/overlay/rw,workdir=/run/live/overlay/work,redirect_dir=on 0 0\n${others}`;
    expect(rootStack(mounts)).toEqual({
      lower: ['/run/live/rootfs/0', '/run/live/rootfs/1'],
      upper: '/run/live/overlay/rw',
    });
  });

  test('is the topmost mount, and its paths may hold what overlayfs quotes', () => {
    const mounts = `overlay / overlay rw,lowerdir=/a,upperdir=/b 0 0\n${others}overlay / overlay rw,lowerdir=/c\\134:d:/e,upperdir=/f\\134,g\\040h,workdir=/w 0 0\n`;
    expect(rootStack(mounts)).toEqual({ lower: ['/e', '/c:d'], upper: '/f,g h' });
  });

  test('is none on another file system, or on an overlay that nobody can write to', () => {
    expect(rootStack(`/dev/sda1 / ext4 rw 0 0\n${others}`)).toBeUndefined();
    expect(rootStack('overlay / overlay ro,lowerdir=/a:/b 0 0\n')).toBeUndefined();
  });
});

test('a machine that runs no image is told so', async () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'mounts'), '/dev/sda1 / ext4 rw 0 0\n');
  const places = {
    root: '/',
    mounts: join(directory, 'mounts'),
    home: directory,
    medium: directory,
    keys: join(directory, 'keys.asc'),
    configuration: join(directory, 'live.yaml'),
  };
  await expect(runningImage(places)).rejects.toMatchObject({ code: 'host-unable' });
});

test('the store at hand is the one that is named, else one on a volume that is there, else one in RAM, else the medium', async () => {
  const directory = temporaryDirectory();
  const inside = (path: string): string => join(directory, path);
  const places = {
    root: directory,
    mounts: inside('mounts'),
    home: inside('home'),
    medium: inside('medium'),
    keys: '',
    configuration: inside('live.yaml'),
  };
  expect(await storeAtHand(undefined, places)).toBeUndefined();
  makeStore(places.medium);
  expect(await storeAtHand(undefined, places)).toBe(places.medium);
  makeStore(inside('home/store'));
  expect(await storeAtHand(undefined, places)).toBe(inside('home/store'));
  makeStore(inside('volumes/0f6c-1d50/store'));
  writeFileSync(places.configuration, 'volume: UUID=0f6c-1d50\n');
  writeFileSync(places.mounts, '/dev/vdb /volumes/DATA ext4 rw 0 0\n');
  expect(await storeAtHand(undefined, places)).toBe(inside('home/store'));
  writeFileSync(places.mounts, '/dev/vdb /volumes/0f6c-1d50 ext4 rw 0 0\n');
  expect(await storeAtHand(undefined, places)).toBe(inside('volumes/0f6c-1d50/store'));
  makeStore(inside('other'));
  expect(await storeAtHand(inside('other'), places)).toBe(inside('other'));
  await expect(storeAtHand(inside('nowhere'), places)).rejects.toMatchObject({ code: 'not-found' });
});
