import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand, succeed } from '../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { slowTests, temporaryDirectory } from '../support.ts';

let site: TestSite;

/** In the place of systemd, which takes a minute in emulation: reads every file of the system, says so, switches off. */
const init = `#!/bin/sh
mount -t proc proc /proc
image=$(sed 's/.*relive.image=\\([^ ]*\\).*/\\1/' /proc/cmdline)
find / -xdev -type f -exec cat {} + >/dev/null && echo "relive: healthy $image" >/dev/console
sleep 1
echo o >/proc/sysrq-trigger
sleep 60
`;

/** Packing and reading all of the demo takes minutes with xz and lzma; the initrd is made when this runs. */
const shrink = `#!/bin/sh
rm -rf /usr/share /usr/lib/modules/*/kernel /usr/lib/*/perl* /boot/System.map* /boot/config*
`;

beforeAll(async () => {
  site = await freshSite({ cache: true });
  mkdirSync(join(site.directory, 'scripts'), { recursive: true });
  writeFileSync(join(site.directory, 'scripts/shrink'), shrink, { mode: 0o755 });
  const directory = join(site.directory, 'overlays/swift/usr/local/sbin');
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'at-once'), init, { mode: 0o755 });
});
afterAll(() => removeSite(site));

/**
 * zstd, the default, boots in every other test; the kernel reads each of the others the same way, but for lzma, which only unsquashfs
 * reads. Low levels: it is reading that is tried.
 */
const compressions = [
  ['gzip', 'level: 1', 'none'],
  ['lzma', '', 'unpacked'],
  ...(slowTests
    ? ([
        ['lzo', 'level: 1', 'none'],
        ['lz4', '', 'none'],
        ['xz', '', 'none'],
      ] as const)
    : []),
] as const;

test.each(compressions)('layers and initrd in %s boot', async (algorithm, level, ram) => {
  const profile = `version: 1
extends: [demo]
overlay: swift
scripts: [{name: shrink, after: live}]
image:
  compression: {algorithm: ${algorithm}${level === '' ? '' : `, ${level}`}}
  initrd: {algorithm: ${algorithm}}
boot:
  ram: ${ram}
  parameters: [init=/usr/local/sbin/at-once]
`;
  writeFileSync(join(site.directory, `profiles/${algorithm}.yaml`), profile);
  // The lock may ask for the program that makes such an initrd.
  await succeed(['build', algorithm], { site: site.directory });
  const log = join(temporaryDirectory(), 'console.log');
  const words = ['--accel', 'tcg', '--cpus', '1', '--power-off', '0', '--timeout', '600', '--log', log];
  const end = await runCommand(['vm', algorithm, ...words], { site: site.directory });
  expect(end).toMatchObject({ status: 0, last: { event: 'result', ok: true } });
  expect(readFileSync(log, 'utf8')).not.toMatch(/corrupted|I\/O error|decompression failed/i);
});
