import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { succeed } from '../fixtures/command.ts';
import { addLiveProfile, LiveMachine, makeImage } from '../fixtures/live-machine.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { slowTests } from '../support.ts';

describe.runIf(slowTests)('a machine that Secure Boot has locked down', () => {
  let site: TestSite;
  let disk: string;
  let ours: string;
  /** Its kernel is signed by Debian alone, whose key is neither in the firmware nor in the kernel. */
  let debians: string;

  beforeAll(async () => {
    site = await freshSite({ cache: true });
    addLiveProfile(site, 'lockdown-upgrade').key.remove();
    await succeed(['keys', 'create', '--secure-boot'], { site: site.directory });
    writeFileSync(
      join(site.directory, 'profiles/ours.yaml'),
      'version: 1\nextends: [web]\nboot: {secureBoot: true}\n',
    );
    ours = await makeImage(site, 'build', 'ours');
    debians = await makeImage(site, 'build', 'web');
    disk = join(site.directory, 'medium.img');
    await succeed(
      [
        'medium',
        'create',
        disk,
        '--size',
        '1G',
        '--image',
        `${ours},${debians}`,
        '--volume',
        'DATA:64M',
        '--yes',
      ],
      { site: site.directory },
    );
  });
  afterAll(() => removeSite(site));

  test('restarts by kexec into a kernel that our key has signed; one that it has not is refused before anything ends', async () => {
    const enrolled = join(site.directory, 'enrolled');
    await succeed(['keys', 'enroll', enrolled], { site: site.directory });
    const variables = join(site.directory, 'variables.fd');
    copyFileSync(join(enrolled, 'OVMF_VARS_4M.fd'), variables);
    const machine = await LiveMachine.start(disk, { firmware: 'secure-boot', variables });
    onTestFinished(async () => await machine.end());
    await machine.healthy(ours);
    expect(await machine.succeed('cat /sys/kernel/security/lockdown')).toContain('[integrity]');
    const boot = await machine.succeed('cat /proc/sys/kernel/random/boot_id');

    const state =
      'systemctl is-system-running; cat /sys/kernel/kexec_loaded; sha256sum </run/live/medium/grubenv';
    const before = (await machine.run(state)).text;
    expect(before).toMatch(/^running\n0\n/);
    const refused = await machine.run(`relive live reboot ${debians}`);
    expect(refused.status).toBe(3);
    expect(refused.text).toContain('the kernel that runs does not take the other one');
    expect(refused.text).toContain('relive live reboot --firmware goes the long way');
    expect((await machine.run(state)).text).toBe(before);

    await machine.succeed(`relive live reboot ${ours}`);
    await machine.seen(/relive: the interruption by kexec took [\d.]+ s/);
    await machine.healthy(ours);
    expect(await machine.succeed('cat /proc/sys/kernel/random/boot_id')).not.toBe(boot);
    expect(await machine.succeed('cat /sys/kernel/security/lockdown')).toContain('[integrity]');
  });
});
