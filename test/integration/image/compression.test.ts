import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { squashfsReaders } from '../../../src/rootfs/readers.ts';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { temporaryDirectory } from '../../support.ts';

const box = `version: 1
suite: trixie
architecture: amd64
host: container
repositories: [debian, debian-security]
scripts: [{name: shrink, after: configure}]
`;

/** So that xz and lzma are done in seconds. */
const shrink = '#!/bin/sh\nrm -rf /usr/share /usr/lib/*/perl* /usr/lib/*/gconv\n';

describe('who reads what', () => {
  test.each(Object.entries(squashfsReaders))('%s', (algorithm, readers) => {
    const directory = temporaryDirectory();
    mkdirSync(join(directory, 'tree'));
    writeFileSync(join(directory, 'tree/file'), 'content '.repeat(100));
    const layer = join(directory, 'layer');
    execFileSync('mksquashfs', [join(directory, 'tree'), layer, '-comp', algorithm], { stdio: 'pipe' });
    mkdirSync(join(directory, 'at'));
    const mount = ['mount', '-t', 'squashfs', '-o', 'ro,loop', layer, join(directory, 'at')];
    const kernel = spawnSync('unshare', ['--mount', '--propagation', 'private', '--', ...mount]).status === 0;
    const grub = spawnSync('grub-fstest', [layer, 'cmp', '/file', join(directory, 'tree/file')]).status === 0;
    const seen = [...(kernel ? ['kernel'] : []), ...(grub ? ['grub'] : [])];
    expect(seen).toEqual(readers);
    expect(execFileSync('unsquashfs', ['-cat', layer, 'file']).length).toBe(800);
  });
});

describe('a container', () => {
  let site: TestSite;
  beforeAll(async () => {
    site = await freshSite({ cache: true });
    writeFileSync(join(site.directory, 'profiles/box.yaml'), box);
    mkdirSync(join(site.directory, 'scripts'), { recursive: true });
    writeFileSync(join(site.directory, 'scripts/shrink'), shrink, { mode: 0o755 });
    writeFileSync(
      join(site.directory, 'profiles/lzma.yaml'),
      'version: 1\nextends: [box]\nhostname: box\nimage: {compression: {algorithm: lzma}}\n',
    );
  });
  afterAll(() => removeSite(site));

  test('may be packed with lzma: it is unpacked for the proof and for export', async () => {
    const trees: Buffer[] = [];
    const digests: unknown[] = [];
    for (const name of ['box', 'lzma']) {
      const profile = join(site.directory, `profiles/${name}.yaml`);
      writeFileSync(
        profile,
        `${readFileSync(profile, 'utf8')}hostname: same\n`.replace('hostname: box\n', ''),
      );
      await succeed(['build', name], { site: site.directory });
      const { last } = await succeed(['image', 'show', name], { site: site.directory });
      digests.push((last as unknown as { manifest: { tree: string } }).manifest.tree);
      const file = join(site.directory, `${name}.tar`);
      await succeed(['image', 'export', name, '--tar', file], { site: site.directory });
      trees.push(readFileSync(file));
    }
    expect(digests[1]).toBe(digests[0]);
    expect(trees[1]?.equals(trees[0] ?? Buffer.alloc(0))).toBe(true);
  });

  test('is compared in all compressions', async () => {
    const { last } = await succeed(['image', 'compare', 'box', '--offline'], { site: site.directory });
    const { compressions } = last as unknown as {
      compressions: {
        algorithm: string;
        bytes: number;
        readers: string[];
        readBy: string;
        readSeconds: number;
      }[];
    };
    expect(compressions.map(({ algorithm }) => algorithm)).toEqual([
      'gzip',
      'lzma',
      'lzo',
      'lz4',
      'xz',
      'zstd',
    ]);
    const of = (name: string) => compressions.find(({ algorithm }) => algorithm === name);
    expect(of('lzma')).toMatchObject({ readers: [], readBy: 'unsquashfs' });
    expect(of('zstd')).toMatchObject({ level: 9, readers: ['kernel'], readBy: 'kernel' });
    expect(of('xz')?.bytes).toBeLessThan(of('lz4')?.bytes ?? 0);
    for (const { bytes, readSeconds } of compressions) {
      expect(bytes).toBeGreaterThan(10e6);
      expect(readSeconds).toBeGreaterThan(0);
    }
  });

  test('for a machine lzma is refused: what to take instead', async () => {
    writeFileSync(
      join(site.directory, 'profiles/machine.yaml'),
      'version: 1\nextends: [demo]\nimage: {compression: {algorithm: lzma}}\n',
    );
    const { status, last } = await runCommand(['build', 'machine'], { site: site.directory });
    expect(status).toBe(2);
    expect(last?.['message']).toMatch(
      /:3:34: image\.compression\.algorithm: found "lzma".* xz \(the nearest\)/,
    );
  });
});
