import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readGrubKey } from '../../src/medium/grub-key.ts';
import { type CommandEnd, runCommand, succeed } from '../fixtures/command.ts';
import { diskOf, grubCd, MenuMachine, writeBlock } from '../fixtures/menu.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { temporaryDirectory } from '../support.ts';

/** Directories of the running system, but the kernel's own, the volumes, and what is bound from them. */
const everywhere =
  'find / \\( -path /proc -o -path /sys -o -path /dev -o -path /volumes -o -path /var/local/bound \\) -prune -o';

/** Writes into what is kept, and into every directory beside it; nothing unless the image is the incremental one. */
const notes = `#!/bin/sh
[ -e /opt/new ] && [ ! -e /opt/old ] || exit 1
for place in /srv/notes /var/local/bound /srv/loose; do
	mkdir -p $place
	echo boot >>$place/log
done
hostname >>/srv/notes/identity
cat /etc/machine-id >>/srv/notes/identity
ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub >>/srv/notes/identity
grep -c renamed-machine /etc/hosts >>/srv/notes/identity
echo renamed-machine >/etc/hostname
${everywhere} -name .written -print | wc -l >>/srv/notes/found
${everywhere} -type d -print | while read -r directory; do
	{ echo written >"$directory/.written"; } 2>/dev/null
done
${everywhere} -name .written -print | wc -l >>/srv/notes/written
`;
const unit = `[Unit]
Description=Take notes
After=relive-identity.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/notes

[Install]
WantedBy=multi-user.target
`;

/** Whether the system is what it is for. */
const program = `#!/bin/sh
read -r state </run/relive/volumes/DATA
[ "$state" = ok ] && exit
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
  mkdirSync(join(overlay, 'usr/local/sbin'), { recursive: true });
  writeFileSync(join(overlay, 'usr/local/sbin/notes'), notes, { mode: 0o755 });
  const profiles = {
    kept: `version: 1
extends: [demo]
packages: [openssh-server]
services: {enable: [notes]}
boot:
  checksum: sha512
  health: {units: [notes, systemd-journald], script: /usr/local/bin/notes-kept, timeout: 20}
identity: {volume: DATA}
persist:
  - {path: /srv/notes, volume: DATA, grow: true}
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
      ...['vm', profile, '--accel', 'tcg', '--cpus', '1', '--timeout', '900', '--log', log],
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
    execFileSync('truncate', ['--size=96M', disk]);

    expect(await boot('kept', [disk])).toMatchObject({ status: 0, last: { ok: true, clean: true } });
    expect(debugfs('cat /srv/notes/log')).toBe('boot\nboot\n');
    expect(debugfs('cat /var/local/bound/log')).toBe('boot\nboot\n');
    // What was removed stays so: the image is asked once.
    expect(debugfs('ls /srv/notes/deep')).not.toContain('seed');

    // Nothing else: of what was written into every directory only what the volumes have is there.
    expect(debugfs('cat /srv/notes/found')).toBe('0\n0\n');
    expect(Number(debugfs('cat /srv/notes/written').split('\n')[0])).toBeGreaterThan(1000);
    // But the machine is the one that it was: its name, its id, its host key.
    const identity = debugfs('cat /srv/notes/identity').split('\n');
    expect(identity[0]).toBe('kept');
    expect(identity[4]).toBe('renamed-machine');
    expect(identity[1]).toMatch(/^[0-9a-f]{32}$/);
    expect(identity[5]).toBe(identity[1]);
    expect(identity[2]).toMatch(/SHA256:.*ED25519/);
    expect(identity[6]).toBe(identity[2]);
    expect(identity[7]).toBe('1');
    expect(debugfs('stat /etc/ssh/ssh_host_ed25519_key')).toContain('Mode:  0600');
    // The volume has grown with its disk.
    expect(debugfs('show_super_stats -h')).toMatch(/^Block count: +(24576|98304)$/m);
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
