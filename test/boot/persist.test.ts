import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readGrubKey } from '../../src/medium/grub-key.ts';
import { type CommandEnd, runCommand, succeed } from '../fixtures/command.ts';
import { diskOf, grubCd, MenuMachine, writeBlock } from '../fixtures/menu.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { temporaryDirectory } from '../support.ts';

/** Writes into what is kept, and beside it; nothing unless the image is the incremental one. */
const unit = `[Unit]
Description=Take notes

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c '[ -e /opt/new ] && [ ! -e /opt/old ] && for place in /srv/notes /var/local/bound /srv/loose; do mkdir -p $place; echo boot >>$place/log; done'

[Install]
WantedBy=multi-user.target
`;

/** Whether the system is what it is for. */
const program = `#!/bin/sh
test -e /volumes/DATA/srv/notes/deep && exit
echo "the notes are nowhere"
exit 3
`;

let site: TestSite;
let disk: string;

beforeAll(async () => {
  site = await freshSite({ cache: true });
  const overlay = join(site.directory, 'overlays/demo');
  mkdirSync(join(overlay, 'srv/notes/deep'), { recursive: true });
  writeFileSync(join(overlay, 'srv/notes/deep/seed'), 'from the image\n');
  mkdirSync(join(overlay, 'etc/systemd/system'), { recursive: true });
  writeFileSync(join(overlay, 'etc/systemd/system/notes.service'), unit);
  mkdirSync(join(overlay, 'usr/local/bin'), { recursive: true });
  writeFileSync(join(overlay, 'usr/local/bin/notes-kept'), program, { mode: 0o755 });
  const profiles = {
    kept: `version: 1
extends: [demo]
services: {enable: [notes]}
boot:
  checksum: sha512
  health: {units: [notes, systemd-journald], script: /usr/local/bin/notes-kept, timeout: 20}
persist:
  - {path: /srv/notes, volume: DATA}
  - {path: /var/local/bound, volume: DATA, how: bind, owner: "nobody:nogroup", mode: "0750"}
`,
    strict: 'version: 1\nextends: [kept]\npersist: [{path: /srv/notes, volume: DATA, required: true}]\n',
  };
  for (const [name, text] of Object.entries(profiles)) {
    writeFileSync(join(site.directory, `profiles/${name}.yaml`), text);
  }
  mkdirSync(join(overlay, 'opt/old'), { recursive: true });
  await succeed(['build', 'kept'], { site: site.directory });
  // What boots is a delta on that, with a deletion.
  renameSync(join(overlay, 'opt/old'), join(overlay, 'opt/new'));
  const { last } = await succeed(['update', 'kept', '--offline', '--no-test'], { site: site.directory });
  if (last?.['kind'] !== 'incremental') throw new Error(`no incremental image: ${JSON.stringify(last)}`);
  await succeed(['build', 'strict'], { site: site.directory });
  disk = join(site.directory, 'data.img');
  execFileSync('truncate', ['--size=64M', disk]);
  execFileSync('mkfs.ext4', ['-q', '-L', 'DATA', disk]);
});
afterAll(() => removeSite(site));

/** What a command of debugfs(8) prints of the volume. */
function debugfs(command: string): string {
  return execFileSync('debugfs', ['-w', '-R', command, disk], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

async function boot(profile: string, disks: readonly string[]): Promise<CommandEnd & { console: string }> {
  const log = join(temporaryDirectory(), 'console.log');
  const end = await runCommand(
    [
      ...['vm', profile, '--accel', 'tcg', '--timeout', '400', '--log', log],
      ...disks.flatMap((file) => ['--disk', file]),
    ],
    { site: site.directory },
  );
  return { ...end, console: readFileSync(log, 'utf8') };
}

describe('persistent data of an incremental image', () => {
  test('are on their volume, begun with what the image has, and there again at the next boot', async () => {
    expect(await boot('kept', [disk])).toMatchObject({ status: 0, last: { ok: true, clean: true } });
    expect(debugfs('cat /srv/notes/deep/seed')).toBe('from the image\n');
    expect(debugfs('cat /srv/notes/log')).toBe('boot\n');
    expect(debugfs('cat /var/local/bound/log')).toBe('boot\n');
    expect(debugfs('stat /var/local/bound')).toMatch(/Mode: +0750[^]*User: +65534 +Group: +65534/);
    expect(debugfs('ls /srv')).not.toContain('loose');
    debugfs('rm /srv/notes/deep/seed');

    expect(await boot('kept', [disk])).toMatchObject({ status: 0, last: { ok: true, clean: true } });
    expect(debugfs('cat /srv/notes/log')).toBe('boot\nboot\n');
    expect(debugfs('cat /var/local/bound/log')).toBe('boot\nboot\n');
    // What was removed stays so: the image is asked once.
    expect(debugfs('ls /srv/notes/deep')).not.toContain('seed');
  });

  test('are in RAM where the volume is missing, and the console says so; an image that needs them is not healthy, and its last trial leads back', async () => {
    const { last } = await succeed(['image', 'list'], { site: site.directory });
    const names = (last as unknown as { images: { name: string }[] }).images.map(({ name }) => name);
    expect(names).toHaveLength(3);
    const [good, trial] = names.filter((name) => name.startsWith('kept-')).toSorted();
    writeBlock(site.store, { relive_good: good ?? '', relive_trial: trial ?? '', relive_tries: '2' });
    await succeed(['image', 'verify', trial ?? ''], { site: site.directory });
    const publicKey = await readGrubKey(join(site.keys, 'public.asc'));
    const cd = await grubCd(site.directory, { check: 'signature', publicKey, timeoutSeconds: 1 });
    const machine = new MenuMachine(cd, [diskOf(site.store, 1024)], 1024);
    onTestFinished(async () => await machine.end());
    await machine.seen(new RegExp(`relive: ${trial}: trial 3 of 3`), 120);
    await machine.seen(/relive: \/srv\/notes is not kept: the volume DATA: no disk has it/, 300);
    await machine.seen(
      new RegExp(
        `relive: unhealthy ${trial}: /usr/local/bin/notes-kept ended with status 3: the notes are nowhere\\s`,
      ),
      300,
    );
    await machine.seen(new RegExp(`relive: ${trial} did not come up in 3 trials: back to ${good}`), 120);
  });

  test('stop the boot where a volume that is required is damaged', async () => {
    // Not clean, so that fsck looks at it, and beyond what it mends by itself.
    debugfs('clri <2>');
    debugfs('ssv state 2');
    const { status, last } = await boot('strict', [disk]);
    expect(status).toBe(3);
    expect(last?.['message']).toContain('the volume DATA for /srv/notes: its file system is damaged: fsck ');
  });
});
