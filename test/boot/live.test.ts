import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { kernelCommandLine } from '../../src/image/boot-entry.ts';
import { type BootManifest, parseManifest } from '../../src/image/manifest.ts';
import { formatEnvironment } from '../../src/medium/environment.ts';
import { storeLabel } from '../../src/medium/layout.ts';
import {
  addLiveProfile,
  LiveMachine,
  makeImage,
  makeLiveMedium,
  publishUpgrade,
  writeVersion,
} from '../fixtures/live-machine.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { slowTests } from '../support.ts';

let site: TestSite;
let medium: string;
let one: string;
let two: string;
/** Of zlib1g, in the newer image. */
let version: string;

beforeAll(async () => {
  site = await freshSite({ cache: true });
  const live = addLiveProfile(site);
  try {
    one = await makeImage(site, 'build', 'web');
    version = publishUpgrade(live, site);
    writeVersion(site, 'two');
    two = await makeImage(site, 'update', 'web', '--no-test');
  } finally {
    live.key.remove();
  }
  medium = await makeLiveMedium(site, one, two);
});
afterAll(() => removeSite(site));

/** A command of relive in the guest, with its result. */
async function relive(
  machine: LiveMachine,
  words: string,
): Promise<Readonly<Record<string, unknown>> & { readonly status: number }> {
  const { status, text } = await machine.run(`relive live ${words} --json`);
  const last = text.trim().split('\n').at(-1) ?? '';
  return { ...(JSON.parse(last) as object), status };
}

/** Which zlib1g is installed, which one nginx has in memory, and what the overlay brought. */
async function system(machine: LiveMachine): Promise<Readonly<Record<string, string>>> {
  const { text } = await machine.run(
    `
dpkg-query --show --showformat='installed \${Version}\\n' zlib1g;
map=$(grep -m 1 'libz[.]so' /proc/$(cat /run/nginx.pid)/maps);
echo in-memory $(tail -c 13 "/proc/$(cat /run/nginx.pid)/map_files/\${map%% *}" | tr -cd '[:print:]');
case $map in *deleted*) echo replaced yes;; *) echo replaced no;; esac;
echo conf $(cat /etc/web.conf);
echo beside $(cat /etc/web.conf.relive-new 2>/dev/null);
echo opt $(ls /opt/web);
echo user $(getent passwd someone | cut -d: -f1);
echo boot $(cat /proc/sys/kernel/random/boot_id);
echo machine $(cat /etc/machine-id);
echo note $(cat /srv/notes/note 2>/dev/null)`.replaceAll('\n', ' '),
  );
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => [line.replace(/ .*/, ''), line.replace(/^\S+ ?/, '')]),
  );
}

/** The manifest of an image on the medium of the guest. */
function manifestOf(image: string): string {
  return `/run/live/medium/images/${image.replace('-', '/')}/manifest.json`;
}

/** GRUB's block on the medium of the guest. */
async function block(machine: LiveMachine): Promise<string> {
  return (await machine.run("grep -a '^relive_' /run/live/medium/grubenv")).text;
}

/** Has a command bring the machine to an image. @returns what the command said */
async function bring(
  machine: LiveMachine,
  words: string,
  kind: 'switch' | 'kexec' | 'firmware',
  image: string,
): Promise<Readonly<Record<string, unknown>>> {
  let said: Readonly<Record<string, unknown>> = {};
  const polled = await machine.polledWhile(async () => {
    said = await relive(machine, words);
    expect(said).toMatchObject({ status: 0, image, kind });
    await machine.seen(new RegExp(`relive: the interruption by ${kind} took [\\d.]+ s`));
    await machine.healthy(image);
  });
  expect(polled.answered).toBeGreaterThan(0);
  expect(polled.missed).toBeGreaterThan(0);
  return said;
}

test('a machine is brought to another image and back in memory, whenever that is cut off; then by switches and by kexec', async () => {
  const machine = await LiveMachine.start(medium);
  onTestFinished(async () => await machine.end());
  await machine.healthy(one);
  const before = await system(machine);
  expect(before).toMatchObject({ replaced: 'no', conf: 'one', opt: 'one', user: '', note: '' });
  expect(before['in-memory']).not.toBe('another build');
  await machine.succeed(
    'echo mine >/etc/web.conf; useradd --no-create-home someone; echo kept >/srv/notes/note; sync',
  );
  expect(await relive(machine, 'status')).toMatchObject({
    ...{ status: 0, image: one, applied: null, switched: null, newer: [{ image: two }] },
    ...{ volumes: [{ name: 'DATA', state: 'ok' }] },
  });

  // Cut off somewhere between its first words in the journal and its end; gone on with.
  const seconds = Math.random() * 4;
  const applying = await machine.polledWhile(async () => {
    await machine.succeed(
      `systemd-run --quiet --collect --unit=applying relive live apply;
while systemctl is-active --quiet applying && [ ! -e /run/live/overlay/relive/0001/journal.json ]; do sleep 0.1; done;
sleep ${seconds.toFixed(2)}; systemctl kill --signal=KILL applying; systemctl stop applying; true`.replaceAll(
        '\n',
        ' ',
      ),
    );
    const { applied } = await relive(machine, 'status');
    const done = (applied as { complete: boolean } | null)?.complete === true;
    const again = await relive(machine, 'apply');
    const nothing = { status: 2, code: 'not-found' };
    const whole = { status: 0, from: one, to: two, next: one, failed: [] };
    const kept = { conflicts: [{ path: 'etc/web.conf' }] };
    expect(again).toMatchObject(done ? nothing : { ...whole, ...kept });
  });
  expect(applying.answered, `cut off after ${seconds} s: ${JSON.stringify(applying)}`).toBeGreaterThan(0);
  expect(await system(machine)).toEqual({
    ...before,
    ...{ installed: version, 'in-memory': 'another build', replaced: 'no' },
    ...{ conf: 'mine', beside: 'two', opt: 'two', user: 'someone', note: 'kept' },
  });
  // A restart would be into what was booted.
  expect(await block(machine)).toContain(`relive_next=${one}\n`);
  // What is there already is not applied once more, and the undo is not about it.
  expect(await relive(machine, `apply ${two}`)).toMatchObject({ status: 0, from: two, to: two, changes: 0 });

  const undoing = await machine.polledWhile(async () => {
    expect(await relive(machine, 'undo')).toMatchObject({ status: 0, failed: [] });
  });
  expect(undoing.answered).toBeGreaterThan(0);
  expect(await system(machine)).toEqual({ ...before, conf: 'mine', user: 'someone', note: 'kept' });

  // One byte of the newer image is another one: nothing happens.
  const { layers } = JSON.parse(await machine.succeed(`cat ${manifestOf(two)}`)) as BootManifest;
  const delta = `live/${layers.at(-1)?.digest.slice(0, 16)}.squashfs`;
  await machine.succeed(
    `mkdir /run/damaged && cp -rs /run/live/medium/images /run/live/medium/live /run/damaged && rm /run/damaged/${delta} && cp /run/live/medium/${delta} /run/damaged/live/ && printf relive | dd of=/run/damaged/${delta} bs=1 seek=5000 conv=notrunc`,
  );
  expect(await relive(machine, `switch ${two} --store /run/damaged`)).toMatchObject({
    ...{ status: 3, code: 'corrupt', message: expect.stringContaining(delta) },
  });
  expect(await machine.succeed('findmnt --list; ls /run/relive')).not.toMatch(/nextroot|switch/);

  // All of user space: what was written is gone, what was kept is there, on the same kernel.
  expect(await bring(machine, `switch ${two}`, 'switch', two)).toMatchObject({ next: one });
  expect(await system(machine)).toEqual({
    ...before,
    ...{ installed: version, 'in-memory': 'another build', conf: 'two', opt: 'two', note: 'kept' },
  });
  expect(await relive(machine, 'status')).toMatchObject({
    ...{ status: 0, image: two, newer: [], applied: null, switched: { booted: one } },
    ...{ volumes: [{ name: 'DATA', state: 'ok' }], interruptions: [{ kind: 'switch' }] },
  });
  expect(await block(machine)).toContain(`relive_next=${one}\n`);
  const stack = 'dmsetup ls | sort; losetup --noheadings --output BACK-FILE | sort';
  const both = await machine.succeed(stack);
  expect(await bring(machine, `switch ${one}`, 'switch', one)).toMatchObject({
    next: one,
    expected: expect.stringMatching(/^a switch interrupts this machine for about \d+ s/),
  });
  expect(await system(machine)).toEqual({ ...before, note: 'kept' });
  // What only the newer image stood on is given back: a device, its data and its hash tree.
  const alone = await machine.succeed(stack);
  expect(both.split('\n').length - alone.split('\n').length).toBe(3);
  expect(await machine.succeed('findmnt --list; ls /run/relive/switch')).not.toMatch(
    /\/run\/(live\/rootfs|live\/overlay|relive\/switch\/1)|^1$/m,
  );

  // Another kernel: kexec, as a trial, which is over when the image has come up.
  expect(await bring(machine, `reboot ${two}`, 'kexec', two)).toMatchObject({ trial: true });
  const restarted = await system(machine);
  expect(restarted['boot']).not.toBe(before['boot']);
  expect(restarted).toMatchObject({ installed: version, conf: 'two', note: 'kept' });
  await machine.until(async () => (await block(machine)) === `relive_good=${two}\n`);

  await machine.succeed('sysctl --write kernel.kexec_load_disabled=1');
  expect(await relive(machine, 'reboot')).toMatchObject({
    ...{ status: 3, code: 'host-unable', hint: expect.stringContaining('--firmware') },
  });
});

/** A machine that has come up with the older image. */
async function started(): Promise<LiveMachine> {
  const machine = await LiveMachine.start(medium);
  onTestFinished(async () => await machine.end());
  await machine.healthy(one);
  return machine;
}

/** Writes GRUB's block on the medium of the guest. */
async function writeEnvironment(
  machine: LiveMachine,
  environment: Parameters<typeof formatEnvironment>[0],
): Promise<void> {
  const text = Buffer.from(formatEnvironment(environment)).toString('base64');
  await machine.succeed(
    `mount -o remount,rw /run/live/medium; base64 --decode >/run/live/medium/grubenv <<<${text}; mount -o remount,ro /run/live/medium; sync`,
  );
}

test.runIf(slowTests)(
  'an image started by kexec that is not healthy is left by way of the firmware, after its last trial',
  async () => {
    const machine = await started();
    await machine.succeed(`echo ${two} >/srv/notes/failing`);
    await writeEnvironment(machine, { relive_good: one, relive_trial: two, relive_tries: '2' });
    expect(await relive(machine, 'reboot')).toMatchObject({ status: 0, image: two, trial: true });
    await machine.seen(new RegExp(`relive: unhealthy ${two}: /usr/local/bin/works ended with status 1`));
    await machine.seen(/relive: it is on trial: restarting in 10 s/);
    await machine.seen(new RegExp(`relive: ${two} did not come up in 3 trials: back to ${one}`));
    await machine.healthy(one);
    expect(await block(machine)).toContain(`relive_good=${one}\n`);
    expect(await relive(machine, 'status')).toMatchObject({ status: 0, image: one });
  },
);

test.runIf(slowTests)(
  'an image started by kexec whose kernel panics has its last trial by way of the firmware, and is left then',
  async () => {
    const machine = await started();
    await machine.succeed(`echo ${two} >/srv/notes/panicking`);
    await writeEnvironment(machine, { relive_good: one, relive_trial: two, relive_tries: '1' });
    expect(await relive(machine, 'reboot')).toMatchObject({ status: 0, image: two, trial: true });
    await machine.seen(/Kernel panic - not syncing: sysrq triggered crash/);
    // The second trial was counted before the kernel was started: GRUB counts on.
    await machine.seen(new RegExp(`relive: ${two}: trial 3 of 3`));
    await machine.seen(/Kernel panic - not syncing: sysrq triggered crash/);
    await machine.seen(new RegExp(`relive: ${two} did not come up in 3 trials: back to ${one}`));
    await machine.healthy(one);
    expect(await block(machine)).toBe(`relive_good=${one}\nrelive_trial=${two}\nrelive_tries=3\n`);
    expect(await relive(machine, 'status')).toMatchObject({ status: 0, image: one });
  },
);

test.runIf(slowTests)(
  'a restart behind a switch is into the image that was booted, and the medium remembers nothing of the other one',
  async () => {
    const machine = await started();
    expect(await block(machine)).toBe(`relive_good=${one}\n`);
    const remembered = `relive_good=${one}\nrelive_next=${one}\n`;
    await bring(machine, `switch ${two}`, 'switch', two);
    expect(await block(machine)).toBe(remembered);
    expect(await relive(machine, 'status')).toMatchObject({ image: two, switched: { booted: one } });
    // Not healthy either: a switch is no trial.
    await machine.succeed(`echo ${two} >/srv/notes/failing`);
    expect(await relive(machine, `switch ${two}`)).toMatchObject({ status: 0, image: two, next: one });
    await machine.seen(new RegExp(`relive: unhealthy ${two}: /usr/local/bin/works ended with status 1`));
    expect(await block(machine)).toBe(remembered);

    await machine.succeed('systemctl --no-block reboot');
    await machine.seen(new RegExp(`relive: loading /images/${one.replace('-', '/')}/vmlinuz`));
    await machine.healthy(one);
    expect(await block(machine)).toBe(`relive_good=${one}\n`);
    expect(await relive(machine, 'status')).toMatchObject({
      ...{ status: 0, image: one, applied: null, switched: null, newer: [{ image: two }] },
    });
  },
);

test.runIf(slowTests)(
  'a restart by the firmware is into the image that is named, once, and is measured',
  async () => {
    const machine = await started();
    await bring(machine, `reboot --firmware ${two}`, 'firmware', two);
    expect(await relive(machine, 'status')).toMatchObject({
      ...{ image: two, interruptions: [{ kind: 'firmware' }] },
    });
  },
);

/** What a machine has in RAM of its image: names below /run/relive/ram, files behind loop devices; and all that its file systems take of RAM, in bytes. */
async function inRam(
  machine: LiveMachine,
): Promise<{ readonly names: readonly string[]; readonly loops: readonly string[]; readonly taken: number }> {
  const text = await machine.succeed(
    "ls /run/relive/ram; echo; losetup --noheadings --output BACK-FILE | sort; echo; sed -n 's/^Shmem: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo",
  );
  const [names = [], loops = [], taken] = text
    .split(/^\n/m)
    .map((part) => part.split('\n').filter((line) => line !== ''));
  return { names, loops: loops.map((file) => basename(file)), taken: Number(taken) * 1024 };
}

test.runIf(slowTests).each(['layers', 'unpacked'] as const)(
  'a machine whose image is in RAM (%s) is switched to others there, what only the old one stood on is freed, and its medium is pulled out',
  async (ram) => {
    const directory = join(site.store, 'images', two.replace('-', '/'));
    const text = readFileSync(join(directory, 'manifest.json'), 'utf8');
    const manifest = parseManifest(text, two) as BootManifest;
    const machine = await LiveMachine.start(medium, { pullable: true, memoryMib: 2048 }, [
      ...['-kernel', join(directory, 'vmlinuz'), '-initrd', join(directory, 'initrd.img')],
      ...['-append', [...kernelCommandLine(manifest, text), `relive.ram=${ram}`].join(' ')],
    ]);
    onTestFinished(async () => await machine.end());
    await machine.seen(new RegExp(`relive: ${two} is in RAM: the medium can be taken out`));
    await machine.healthy(two);
    // The medium is put back for as long as another image is taken from it.
    const go = async (image: string) => {
      await machine.succeed(
        `mkdir --parents /run/stick; mount -o ro /dev/disk/by-label/${storeLabel} /run/stick`,
      );
      await bring(machine, `switch ${image} --store /run/stick`, 'switch', image);
      return await inRam(machine);
    };

    const files = manifest.layers.map(({ digest }) => `${digest.slice(0, 16)}.squashfs`);
    const [, , delta = ''] = files;
    await machine.succeed('head --bytes=64M /dev/zero >/root/large');
    const booted = await inRam(machine);
    expect(booted.names).toEqual(ram === 'layers' ? files.toSorted() : ['0', '1', '2']);
    expect(booted.loops).toEqual(ram === 'layers' ? files.toSorted() : []);
    // Anew: no layer is copied, and what was written is gone.
    const again = await go(two);
    expect(again).toMatchObject({ names: booted.names, loops: booted.loops });
    expect(booted.taken - again.taken).toBeGreaterThan(60_000_000);
    // The older image has a layer less, and of the newer one a copy is made.
    const older = await go(one);
    expect(older.names).toEqual(again.names.filter((name) => name !== delta && name !== '2'));
    expect(older.loops).toEqual(again.loops.filter((name) => name !== delta));
    const newer = await go(two);
    expect(newer.names).toEqual([...older.names, delta].toSorted());
    expect(newer.loops).toEqual([...older.loops, delta].toSorted());
    expect(newer.taken).toBeLessThan(again.taken + 10_000_000);

    await machine.succeed('umount /volumes/DATA; sync; echo 3 >/proc/sys/vm/drop_caches');
    await machine.pullOut();
    await machine.succeed(
      'find / -xdev -type f -print0 | xargs -0 cat >/dev/null; systemctl restart nginx',
      600,
    );
    expect(await relive(machine, 'status')).toMatchObject({ status: 0, image: two, store: null });
    expect((await machine.polledWhile(async () => await Promise.resolve())).answered).toBeGreaterThan(0);
  },
);
