import type { BootManifest } from '../../../src/image/manifest.ts';

/** A manifest as a build writes it, with made-up digests. */
export const exampleManifest: BootManifest = {
  schema: 1,
  image: 'demo-20261122.01',
  kind: 'full',
  parent: null,
  version: '20261122.01',
  serial: 2_026_112_201,
  profile: { name: 'demo', version: 1, digest: '1'.repeat(64), commit: null },
  suite: 'trixie',
  architecture: 'amd64',
  host: 'virtual-machine',
  layers: [
    {
      role: 'base',
      digest: 'a'.repeat(64),
      size: 69_783_552,
      compression: 'zstd',
      verity: { root: 'c'.repeat(64), digest: 'd'.repeat(64), size: 4096 },
    },
    {
      role: 'kernel',
      digest: 'b'.repeat(64),
      size: 33_214_464,
      compression: 'zstd',
      verity: { root: 'c'.repeat(64), digest: 'd'.repeat(64), size: 4096 },
    },
  ],
  tree: '2'.repeat(64),
  unpacked: 400_000_000,
  kernel: { version: '6.12.117+deb13-cloud-amd64', digest: '3'.repeat(64), size: 11_737_024 },
  initrd: { digest: '4'.repeat(64), size: 18_104_038 },
  boot: { verify: 'signature', ram: 'none', parameters: ['quiet'] },
  lock: '8'.repeat(64),
  repositories: [
    { name: 'debian', suite: 'trixie', date: '2026-11-21T10:00:00.000Z', release: '5'.repeat(64) },
  ],
  packages: [
    { name: 'apt', version: '3.0.4', architecture: 'amd64', repository: 'debian', sha256: '6'.repeat(64) },
  ],
  inputs: '7'.repeat(64),
  sourceDateEpoch: 1_794_000_000,
  relive: '0.1.0',
};
