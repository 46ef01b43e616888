import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseManifest } from '../../src/image/manifest.ts';
import { chooseAccelerator } from '../../src/vm/accel.ts';
import { runCommand } from '../fixtures/command.ts';
import {
  type BuiltImage,
  build,
  bytesOf,
  copyClosure,
  factorySite,
  sameEverywhere,
  writeProfile,
} from '../fixtures/factory.ts';
import { removeSite, type TestSite } from '../fixtures/site.ts';
import { recordingContext, slowTests } from '../support.ts';

/**
 * In emulation this takes a quarter of an hour on two cores: it runs where KVM does, or when RELIVE_SLOW_TESTS is set.
 * test/integration/factory.test.ts proves the same in the image's tree, without its kernel.
 */
const accelerator = await chooseAccelerator('auto', recordingContext());
const wanted = accelerator === 'kvm' || slowTests;
const minutes = 60_000;

/** Builds at boot; the boot is healthy only when that went well. */
const unit = `[Unit]
Description=Build the profile proof
RequiresMountsFor=/srv/relive/.relive
Requires=srv-relive-mirror.mount srv-relive-store.mount
After=srv-relive-mirror.mount srv-relive-store.mount

[Service]
Type=oneshot
WorkingDirectory=/srv/relive
ExecStart=/usr/bin/relive keys create
ExecStart=/usr/bin/relive build proof --offline --locked
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
`;

/** A file with an ext4 file system of this label, and in it what is in `from`. */
function volume(file: string, label: string, mebibytes: number, from?: string): void {
  execFileSync('truncate', ['--size', `${mebibytes}M`, file]);
  execFileSync('mkfs.ext4', ['-q', '-L', label, ...(from === undefined ? [] : ['-d', from]), file]);
}

describe.runIf(wanted)('a factory image in a virtual machine', () => {
  let site: TestSite;
  let scratch: string;
  let proof: BuiltImage;

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'relive-test-factory-'));
    site = await factorySite({
      suite: 'trixie',
      architecture: 'amd64',
      host: 'virtual-machine',
      repositories: ['debian', 'debian-security'],
      image: sameEverywhere,
    });
    const units = join(site.directory, 'overlays/factory-proof/etc/systemd/system');
    mkdirSync(units, { recursive: true });
    writeFileSync(join(units, 'proof.service'), unit);
    writeProfile(site, 'factory-proof', {
      extends: ['factory'],
      overlay: 'factory-proof',
      services: { enable: ['proof'] },
    });
    proof = await build(site, 'proof');
    await build(site, 'factory-proof');
  }, 15 * minutes);
  afterAll(() => {
    removeSite(site);
    rmSync(scratch, { recursive: true, force: true });
  });

  test(
    'builds from a mirror on a volume the same bytes as the host',
    async () => {
      const mirror = join(scratch, 'mirror');
      mkdirSync(mirror);
      copyClosure(site, 'proof', mirror);
      const disks = [join(scratch, 'mirror.img'), join(scratch, 'store.img')] as const;
      volume(disks[0], 'RELIVE-MIRROR', 400, mirror);
      volume(disks[1], 'RELIVE-STORE', 600);
      const log = join(scratch, 'console.log');
      const { status, last } = await runCommand(
        [
          ...['vm', 'factory-proof', '--accel', accelerator, '--disk', disks.join(',')],
          ...['--memory', '4096', '--timeout', '2400', '--log', log],
        ],
        { site: site.directory },
      );
      expect({ status, last }).toMatchObject({ status: 0, last: { event: 'result', ok: true, clean: true } });
      // Out of the store's volume, without mounting it.
      const store = join(scratch, 'store');
      mkdirSync(store);
      execFileSync('debugfs', ['-R', `rdump / ${store}`, disks[1]], { stdio: 'pipe' });
      const images = join(store, 'images/proof');
      const file = join(images, readdirSync(images)[0] ?? '', 'manifest.json');
      const made = parseManifest(readFileSync(file, 'utf8'), file);
      expect(bytesOf(made)).toEqual(bytesOf(proof.manifest));
      for (const { digest } of made.layers) {
        const name = `live/${digest.slice(0, 16)}.squashfs`;
        execFileSync('cmp', [join(store, name), join(site.directory, 'store', name)]);
      }
      // The same layers, kernel and initrd: what the guest made boots where the host's does.
      const boot = await runCommand(['vm', 'proof', '--accel', accelerator], { site: site.directory });
      expect(boot).toMatchObject({ status: 0, last: { ok: true } });
    },
    45 * minutes,
  );
});
