import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { assert } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import { changelogEntries, fixedBetween } from '../../../src/debian/changelog.ts';
import { licencesIn } from '../../../src/debian/copyright.ts';
import { parsePdiffIndex, parseSha256Sums } from '../../../src/debian/listing.ts';
import { packagesReader } from '../../../src/debian/packages.ts';
import { parseRelease } from '../../../src/debian/release.ts';
import { knownVulnerabilities, parseTrackerData } from '../../../src/debian/security-tracker.ts';
import { sourcesReader } from '../../../src/debian/sources.ts';
import { installedPackages } from '../../../src/debian/status.ts';
import { compareVersions } from '../../../src/debian/version.ts';
import { parseNetrc } from '../../../src/host/credentials.ts';
import { dearmour } from '../../../src/host/gpgv.ts';
import { TarReader, tarOf } from '../../../src/host/tar.ts';
import { programSection } from '../../../src/image/authenticode.ts';
import { formatIndex, readIndex } from '../../../src/image/bundle.ts';
import { element, octets, readElements, sequence } from '../../../src/image/der.ts';
import { formatManifest, parseManifest } from '../../../src/image/manifest.ts';
import { parseSums } from '../../../src/image/seal.ts';
import { rootStack } from '../../../src/live/running.ts';
import type { DiskBytes } from '../../../src/medium/bytes.ts';
import { formatEnvironment, parseEnvironment } from '../../../src/medium/environment.ts';
import { readFatFile } from '../../../src/medium/fat.ts';
import { partitionTypes, readTable, usableSectors, writeTable } from '../../../src/medium/gpt.ts';
import { grubKey } from '../../../src/medium/grub-key.ts';
import { importConfiguration } from '../../../src/mirror/import.ts';
import { findCompressed } from '../../../src/rootfs/initrd.ts';
import { parseLock } from '../../../src/site/lock.ts';
import { exampleManifest } from '../image/example.ts';
import { memoryDisk } from '../medium/memory-disk.ts';

/** How often each parser is tried: `RELIVE_FUZZ_RUNS=20000 npx vitest run --project unit test/unit/fuzz`. */
const runs = Number(process.env['RELIVE_FUZZ_RUNS'] ?? 150);
const corpus = join(import.meta.dirname, 'corpus');

interface Parser {
  readonly name: string;
  /** Gives something, or throws a ReliveError; whatever else it throws is a bug. */
  readonly parse: (bytes: Buffer) => unknown;
  /** What is right, or nearly so where `incomplete`; what is tried is made of it. */
  readonly seeds: readonly Buffer[];
  readonly incomplete?: true;
}

const digest = 'a'.repeat(64);
const lines = (...all: readonly string[]): Buffer => Buffer.from(all.map((line) => `${line}\n`).join(''));
const text = (bytes: Buffer): string => bytes.toString('utf8');

const seeds = {
  release: lines(
    ...['Origin: Debian', 'Suite: stable', 'Codename: trixie', 'Date: Sat, 21 Nov 2026 10:00:00 UTC'],
    ...['Valid-Until: Sat, 28 Nov 2026 10:00:00 UTC', 'Architectures: all amd64', 'Components: main'],
    ...['Signed-By: ABCD', 'SHA256:', ` ${digest} 100 main/binary-amd64/Packages.xz`, 'Acquire-By-Hash: yes'],
  ),
  packages: lines(
    ...[
      'Package: apt',
      'Version: 3.0.4',
      'Architecture: amd64',
      'Filename: pool/main/a/apt/apt_3.0.4_amd64.deb',
    ],
    ...[
      'Size: 100',
      `SHA256: ${digest}`,
      'Depends: libc6 (>= 2.41), adduser | base',
      'Description: x',
      ' more',
    ],
  ),
  sources: lines(
    ...['Package: apt', 'Version: 3.0.4', 'Directory: pool/main/a/apt', 'Checksums-Sha256:'],
    ` ${digest} 100 apt_3.0.4.dsc`,
  ),
  status: lines(
    'Package: apt',
    'Status: install ok installed',
    'Source: apt (3.0)',
    'Version: 3.0.4',
    'Depends: a | b',
  ),
  changelog: lines(
    'apt (3.0.4) unstable; urgency=medium',
    '',
    '  * CVE-2026-0001',
    '',
    ' -- A <a@b>  Sat, 21 Nov 2026',
    'apt (3.0~1) x; y',
  ),
  copyright: lines(
    ...['Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/', '', 'Files: *'],
    ...['Copyright: x', 'License: GPL-2+', ' text'],
  ),
  tracker: Buffer.from(
    '{"apt": {"CVE-2026-0001": {"releases": {"trixie": {"status": "resolved", "fixed_version": "3.0.5"}}}}}',
  ),
};

/** Packages and Sources come in pieces that end anywhere. */
function inPieces(
  reader: { readonly push: (bytes: Buffer) => void; readonly end: () => void },
  bytes: Buffer,
): void {
  for (let at = 0; at < bytes.length; at += 7) reader.push(bytes.subarray(at, at + 7));
  reader.end();
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer, void> {
  yield await Promise.resolve(bytes);
}

async function gpt(sectorSize: number): Promise<Buffer> {
  const disk = memoryDisk(2 ** 18);
  const sectors = 2 ** 18 / sectorSize;
  const { first, last } = usableSectors(sectors, sectorSize);
  const one = {
    type: partitionTypes.linux,
    guid: '11111111-2222-4333-8444-555555555555',
    name: 'RELIVE',
    first,
    last,
  };
  await writeTable(disk, { sectorSize, sectors, diskGuid: one.guid, partitions: [one] });
  return disk.content;
}

/** The first sectors, tables and directories of a FAT32 file system with a file; the rest of it is zeros. */
const fatBytes = 34 * 2 ** 20;
function fat(): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'relive-test-'));
  try {
    const image = join(directory, 'fat');
    execFileSync('truncate', ['--size', String(fatBytes), image]);
    execFileSync('mformat', ['-i', image, '-F', '-c', '1', '::']);
    execFileSync('mmd', ['-i', image, '::/EFI', '::/EFI/BOOT']);
    execFileSync('mcopy', ['-i', image, '/etc/hostname', '::/EFI/BOOT/BOOTX64.EFI']);
    return readFileSync(image).subarray(0, 2 ** 20);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A disk of which a buffer is the beginning. */
function diskOf(start: Buffer, bytes: number): DiskBytes {
  return {
    read: async (offset, length) => {
      if (offset < 0 || length < 0 || offset + length > bytes)
        throw new Error(`read of ${length} at ${offset}`);
      const piece = Buffer.alloc(length);
      if (offset < start.length) start.copy(piece, 0, offset, Math.min(start.length, offset + length));
      return await Promise.resolve(piece);
    },
    write: async () => await Promise.reject(new Error('nothing is written')),
    sync: async () => await Promise.resolve(),
  };
}

const manifestText = formatManifest(exampleManifest);
const indexText = formatIndex({ bundle: 1, since: null, signature: 'a', entries: [] });
const tracked = [{ source: 'apt', sourceVersion: '3.0.4' }];

const parsers: readonly Parser[] = [
  { name: 'release', parse: (bytes) => parseRelease(bytes, 'x'), seeds: [seeds.release] },
  {
    name: 'packages',
    parse: (bytes) =>
      inPieces(
        packagesReader('x', () => undefined, ['Depends']),
        bytes,
      ),
    seeds: [seeds.packages],
  },
  {
    name: 'sources',
    parse: (bytes) =>
      inPieces(
        sourcesReader('x', () => undefined),
        bytes,
      ),
    seeds: [seeds.sources],
  },
  { name: 'sums', parse: (bytes) => parseSha256Sums(bytes, 'x'), seeds: [lines(`${digest}  ./a/b`)] },
  {
    name: 'pdiff',
    parse: (bytes) => parsePdiffIndex(bytes, 'x'),
    seeds: [lines(`SHA256-Current: ${digest} 1`, 'SHA256-Download:', ` ${digest} 10 T-2026-F-1.gz`)],
  },
  {
    name: 'status',
    parse: (bytes) => installedPackages(text(bytes), 'x'),
    seeds: [seeds.status, seeds.packages],
  },
  {
    name: 'changelog',
    parse: (bytes) => {
      const entries = changelogEntries(text(bytes));
      // What stands in somebody's changelog must not end an update: no error at all.
      expect(() => fixedBetween(entries, '1', '3.0.4')).not.toThrow();
    },
    seeds: [seeds.changelog],
  },
  { name: 'copyright', parse: (bytes) => licencesIn(text(bytes)), seeds: [seeds.copyright] },
  {
    name: 'tracker',
    parse: (bytes) => knownVulnerabilities(parseTrackerData(text(bytes), 'x'), 'trixie', tracked, 'x'),
    seeds: [seeds.tracker],
  },
  {
    name: 'version',
    parse: (bytes) => compareVersions(text(bytes), '1:2.0~rc1-1'),
    seeds: [Buffer.from('1:2.0~rc1+b1-2')],
  },
  { name: 'manifest', parse: (bytes) => parseManifest(text(bytes), 'x'), seeds: [Buffer.from(manifestText)] },
  {
    name: 'bundle-index',
    parse: (bytes) =>
      readIndex(text(bytes), exampleManifest, { text: manifestText, signature: Buffer.from('a') }, 'x'),
    incomplete: true,
    seeds: [Buffer.from(indexText)],
  },
  { name: 'image-sums', parse: (bytes) => parseSums(text(bytes)), seeds: [lines(`${digest}  vmlinuz`)] },
  {
    name: 'lock',
    parse: (bytes) => parseLock(text(bytes), 'x'),
    incomplete: true,
    seeds: [Buffer.from('{"schema": 1, "profile": "a"}')],
  },
  {
    name: 'tar',
    parse: async (bytes) => {
      const reader = new TarReader(once(bytes), 'x');
      await reader.whole('manifest.json', 1000);
      await reader.whole('b', 1000);
    },
    seeds: [
      Buffer.from(
        tarOf([
          { path: 'manifest.json', content: '{}' },
          { path: 'b', content: 'x'.repeat(600) },
        ]),
      ),
    ],
  },
  {
    name: 'grub-environment',
    parse: (bytes) => parseEnvironment(bytes.toString('latin1')),
    seeds: [Buffer.from(formatEnvironment({ relive_good: 'demo-20261122.01', relive_tries: '2' }))],
  },
  {
    name: 'armour',
    parse: (bytes) => dearmour(text(bytes), 'x'),
    incomplete: true,
    seeds: [
      lines(
        '-----BEGIN PGP PUBLIC KEY BLOCK-----',
        '',
        'mQGNBGc=',
        '=abcd',
        '-----END PGP PUBLIC KEY BLOCK-----',
      ),
    ],
  },
  {
    name: 'grub-key',
    parse: (bytes) => grubKey(bytes, 'x'),
    incomplete: true,
    seeds: [Buffer.from('99010d0462000000010800b4', 'hex'), Buffer.from([0xc6, 0xff, 0, 0, 1, 0, 4])],
  },
  {
    name: 'netrc',
    parse: (bytes) => parseNetrc(text(bytes)),
    seeds: [lines('machine a.example login u password p')],
  },
  {
    name: 'der',
    parse: (bytes) => readElements(bytes),
    seeds: [sequence(octets(Buffer.alloc(200)), element(0x03, Buffer.from([0])))],
  },
  {
    name: 'program',
    parse: (bytes) => programSection(bytes, '.sbat'),
    seeds: [
      Buffer.concat([
        Buffer.from('MZ'),
        Buffer.alloc(58),
        Buffer.from([64, 0, 0, 0]),
        Buffer.from('PE\0\0'),
        Buffer.alloc(400),
      ]),
    ],
  },
  {
    name: 'initrd',
    parse: (bytes) => findCompressed(bytes),
    incomplete: true,
    seeds: [Buffer.from(`070701${'0'.repeat(104)}TRAILER!!!\0\0\0\0`), Buffer.from('28b52ffd0000', 'hex')],
  },
  {
    name: 'mount-table',
    parse: (bytes) => rootStack(text(bytes)),
    seeds: [lines('28 1 0:25 / / rw - overlay overlay rw,lowerdir=/a\\040b:/c,upperdir=/d,workdir=/e')],
  },
  {
    name: 'gpt-512',
    parse: async (bytes) => await readTable(diskOf(bytes, bytes.length), bytes.length),
    seeds: [await gpt(512)],
  },
  {
    name: 'gpt-4096',
    parse: async (bytes) => await readTable(diskOf(bytes, bytes.length), bytes.length),
    seeds: [await gpt(4096)],
  },
  {
    name: 'fat',
    parse: async (bytes) => await readFatFile(diskOf(bytes, fatBytes), 0, fatBytes, 'EFI/BOOT/BOOTX64.EFI'),
    seeds: [fat()],
  },
  ...(['mirror.list', 'debmirror.conf', 'sources.list', 'debian.sources'] as const).map((name) => ({
    name,
    parse: (bytes: Buffer) => importConfiguration(`/etc/${name}`, text(bytes), 'amd64'),
    seeds: [
      lines(
        'set nthreads 4',
        'deb [arch=amd64 signed-by=/k.gpg] http://ftp.debian.org/debian trixie main contrib',
      ),
      lines('$host="ftp.debian.org";', '@dists="trixie,trixie-updates";', '$method="http";'),
      lines('Types: deb', 'URIs: http://ftp.debian.org/debian', 'Suites: trixie', 'Components: main'),
    ],
  })),
];

/** What is done to a seed: a byte changed, a piece cut out, doubled, moved, or put in from another one or from nowhere. */
const change = fc.record({
  what: fc.constantFrom('set', 'flip', 'cut', 'double', 'insert', 'end', 'word'),
  at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
  near: fc.boolean(),
  length: fc.nat({ max: 64 }),
  byte: fc.nat({ max: 255 }),
  bytes: fc.uint8Array({ maxLength: 40 }),
  word: fc.constantFrom(
    '\n',
    '\n\n',
    ' ',
    ':',
    '../',
    '/',
    '\0',
    '-1',
    '1e9',
    '99999999999999999999',
    '{',
    '}',
    '[]',
    'null',
    '"',
    '__proto__',
    'constructor',
    '\u{1F600}',
    '\uFEFF',
    '0',
    '(',
    ')',
    '~',
    '%',
    '\\',
    '$(',
    '=',
  ),
});

function changed(
  seed: Buffer,
  changes: readonly (typeof change extends fc.Arbitrary<infer T> ? T : never)[],
): Buffer {
  let bytes = Buffer.from(seed);
  for (const { what, at, near, length, byte, bytes: fresh, word } of changes) {
    // Headers are at the beginning, and seeds that are disks are mostly zeros.
    const offset = Math.floor(at * (near ? Math.min(bytes.length, 1600) : bytes.length));
    const before = bytes.subarray(0, offset);
    const after = bytes.subarray(offset);
    if (what === 'set' && offset < bytes.length) bytes.writeUInt8(byte, offset);
    else if (what === 'flip' && offset < bytes.length)
      bytes.writeUInt8((bytes[offset] ?? 0) ^ (1 << (byte % 8)), offset);
    else if (what === 'cut') bytes = Buffer.concat([before, after.subarray(length)]);
    else if (what === 'double') bytes = Buffer.concat([before, after.subarray(0, length), after]);
    else if (what === 'insert') bytes = Buffer.concat([before, fresh, after]);
    else if (what === 'word') bytes = Buffer.concat([before, Buffer.from(word), after]);
    else if (what === 'end') bytes = Buffer.from(before);
  }
  return bytes;
}

/** @throws what a parser must not throw */
async function attempt({ parse }: Parser, bytes: Buffer): Promise<void> {
  try {
    await parse(bytes);
  } catch (error) {
    if (!isReliveError(error) || error.code === 'bug') throw error;
  }
}

describe.each(parsers)('$name', (parser) => {
  test('takes what is right', async () => {
    const [seed = Buffer.alloc(0)] = parser.incomplete === true ? [] : parser.seeds;
    const wrong = await Promise.resolve(seed)
      .then(parser.parse)
      .then(() => undefined)
      .catch((error: unknown) => error);
    expect(parser.incomplete === true || wrong === undefined ? undefined : wrong).toBeUndefined();
  });

  test('what it once stumbled over', async () => {
    const directory = join(corpus, parser.name);
    for (const name of existsSync(directory) ? readdirSync(directory) : []) {
      await expect(attempt(parser, readFileSync(join(directory, name)))).resolves.toBeUndefined();
    }
  });

  test('refuses what is changed, or takes it; nothing else happens', async () => {
    await assert(
      fc.asyncProperty(
        fc.constantFrom(...parser.seeds),
        fc.array(change, { minLength: 1, maxLength: 6 }),
        async (seed, changes) => {
          await attempt(parser, changed(seed, changes));
        },
      ),
      { numRuns: runs },
    );
  });

  test('and what is random', async () => {
    await assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (bytes) => {
        await attempt(parser, Buffer.from(bytes));
      }),
      { numRuns: runs },
    );
  });
});
