import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { sha256 } from '../../../src/host/files.ts';
import { exportIso } from '../../../src/medium/export.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { makeTinyStore, type TinyStore } from '../../fixtures/guest.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';

let key: SigningKey;
let tiny: TinyStore;
beforeAll(() => {
  key = makeSigningKey('Test Images', 'rsa3072');
  tiny = makeTinyStore('healthy', key);
});
afterAll(() => {
  tiny.remove();
  key.remove();
});

const siteOf = (directory: string): { readonly store: string; readonly keys: string } => ({
  store: join(directory, 'store'),
  keys: join(directory, 'keys'),
});

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), 'relive-test-iso-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** The site somewhere else: files made in another order, with other times and modes. */
function copyElsewhere(): string {
  const directory = temporary();
  const names = readdirSync(tiny.site, { recursive: true, encoding: 'utf8' }).toSorted().toReversed();
  for (const name of names) {
    const from = join(tiny.site, name);
    if (!statSync(from).isFile() || name.includes('/isos/')) continue;
    cpSync(from, join(directory, name), { recursive: true });
    chmodSync(join(directory, name), 0o600);
    utimesSync(join(directory, name), 1_000_000_000, 1_000_000_000);
  }
  return directory;
}

test('equal inputs give equal bytes, elsewhere and with other times', async () => {
  const one = await exportIso(siteOf(tiny.site), 'tiny', join(temporary(), 'one.iso'), recordingContext());
  // FAT and ISO 9660 count in seconds and two of them: another second must not show.
  await new Promise((done) => setTimeout(done, 2100));
  const other = await exportIso(
    siteOf(copyElsewhere()),
    'tiny-20261122.01',
    join(temporary(), 'x=y.iso'),
    recordingContext(),
  );
  expect(sha256(readFileSync(other.file))).toBe(sha256(readFileSync(one.file)));
  expect(other.bytes).toBe(statSync(other.file).size);
});

describe('an ISO', () => {
  let iso = '';
  const context = recordingContext();
  beforeAll(async () => {
    iso = (await exportIso(siteOf(tiny.site), 'tiny', undefined, context)).file;
  });
  const xorriso = (...args: readonly string[]): string =>
    execFileSync('xorriso', ['-indev', iso, ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });

  test('is laid out like a store, byte for byte, owned by root', () => {
    const directory = temporary();
    xorriso('-osirrox', 'on', '-extract', '/', join(directory, 'out'));
    const names = readdirSync(tiny.imageDirectory);
    expect(names.length).toBeGreaterThan(6);
    for (const name of names) {
      const [inside, outside] = [
        join(directory, 'out/images/tiny/20261122.01', name),
        join(tiny.imageDirectory, name),
      ];
      expect([name, sha256(readFileSync(inside))]).toEqual([name, sha256(readFileSync(outside))]);
    }
    expect(readdirSync(join(directory, 'out/live')).toSorted()).toEqual([
      basename(tiny.layer),
      basename(tiny.layer).replace('.squashfs', '.verity'),
      `${tiny.image}.module`,
    ]);
    expect(xorriso('-find', '/', '-exec', 'lsdl', '--')).not.toMatch(/^.{10}\s+\d+ (?!0\s+0)/m);
  });

  test('starts by BIOS and by UEFI, from a CD and from a disk', () => {
    const report = xorriso('-report_el_torito', 'plain', '-report_system_area', 'plain', '-pvd_info');
    expect(report).toMatch(/El Torito boot img :\s+1 {2}BIOS {2}y/);
    expect(report).toMatch(/El Torito boot img :\s+2 {2}UEFI {2}y/);
    expect(report).toMatch(/MBR partition +: +2 +0x80/);
    // The EFI system partition.
    expect(report).toMatch(/GPT type GUID +: +2 +28732ac11ff8d211ba4b00a0c93ec93b/);
    expect(report).toMatch(/Volume Id *: TINY_20261122_01/i);
  });

  test('was reported as a stage', () => {
    expect(context.events[0]).toEqual({ event: 'stage', stage: 'iso', state: 'start' });
    expect(context.events.at(-1)).toMatchObject({ event: 'stage', stage: 'iso', state: 'done' });
  });
});

describe('no ISO appears, and none is lost', () => {
  const damages: readonly (readonly [string, string, (site: string) => void])[] = [
    [
      'a missing layer',
      `.squashfs is missing`,
      (site) => {
        rmSync(join(site, 'store/live', basename(tiny.layer)));
      },
    ],
    [
      'a missing kernel',
      'vmlinuz is missing',
      (site) => rmSync(join(site, 'store/images/tiny/20261122.01/vmlinuz')),
    ],
    [
      'a symbolic link in the image',
      'escape is not a plain file',
      (site) => {
        symlinkSync('/etc/shadow', join(site, 'store/images/tiny/20261122.01/escape'));
      },
    ],
  ];
  test.each(damages)('with %s', async (_name, message, damage) => {
    const site = copyElsewhere();
    damage(site);
    const out = temporary();
    const file = join(out, 'a.iso');
    writeFileSync(file, 'the old one');
    await expect(exportIso(siteOf(site), 'tiny', file, recordingContext())).rejects.toMatchObject(
      errorLike('corrupt', message),
    );
    expect(readdirSync(out)).toEqual(['a.iso']);
    expect(readFileSync(file, 'utf8')).toBe('the old one');
  });

  test('when the disk is full', async () => {
    const out = temporary();
    const small = join(out, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', small]);
    try {
      await expect(
        exportIso(siteOf(tiny.site), 'tiny', join(small, 'a.iso'), recordingContext()),
      ).rejects.toMatchObject({ code: 'disk-full' });
      expect(readdirSync(small)).toEqual([]);
    } finally {
      execFileSync('umount', [small]);
    }
  });

  test('when it is interrupted, at the first progress that xorriso reports', async () => {
    const out = temporary();
    const site = copyElsewhere();
    // A hole: nothing on the disk, but a second of work for xorriso, which reports once a second.
    truncateSync(join(site, 'store/live', basename(tiny.layer)), 2 ** 31);
    const context = recordingContext();
    const reason = new Error('interrupted here');
    const exported = exportIso(siteOf(site), 'tiny', join(out, 'a.iso'), {
      ...context,
      emit: (event) => {
        if (event.event === 'progress') context.abort(reason);
      },
    });
    await expect(exported).rejects.toBe(reason);
    expect(readdirSync(out)).toEqual([]);
  });
});
