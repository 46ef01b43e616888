import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type RunningCommand, startCommand, succeed } from '../fixtures/command.ts';
import { decrypted, luksVolume } from '../fixtures/luks.ts';
import { MenuMachine } from '../fixtures/menu.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { slowTests } from '../support.ts';

const autologin = `[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I dumb
`;

/** Writes numbers to both volumes, and tells each one that both disks have. */
const writer = `#!/bin/sh
number=0
while :; do
	number=$((number + 1))
	for place in /srv/keys /srv/notes; do
		echo "$number" >>$place/numbers
		sync $place/numbers
	done
	echo "on both: $number."
done
`;

const megabyte = 1024 * 1024;
const passphrase = 'open sesame';

let site: TestSite;
let iso: string;
let server: RunningCommand;
const images: { first: string; second: string } = { first: '', second: '' };
/** The keys that the data of the encrypted volumes are encrypted with. */
const master = { SECRET: randomBytes(64), TOLD: randomBytes(64), WRONG: randomBytes(64) };

const diskFile = (label: string): string => join(site.directory, `${label}.img`);

/** A disk with an empty file system. */
function makeDisk(label: string, megabytes: number): string {
  const file = diskFile(label);
  execFileSync('truncate', [`--size=${megabytes}M`, file]);
  execFileSync('mkfs.ext4', ['-q', '-L', label, file]);
  return file;
}

function debugfs(file: string, command: string): string {
  return execFileSync('debugfs', ['-w', '-R', command, file], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

/** A port that nothing listens on. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((done) => probe.listen(0, '127.0.0.1', done));
  const address = probe.address();
  await new Promise((done) => probe.close(done));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function newest(): Promise<string> {
  const { last } = await succeed(['image', 'show', 'livedata'], { site: site.directory });
  return (last as unknown as { manifest: { image: string } }).manifest.image;
}

beforeAll(async () => {
  site = await freshSite({ cache: true });
  const port = await freePort();
  const overlay = join(site.directory, 'overlays/livedata');
  const put = (path: string, text: string, mode = 0o644): void => {
    mkdirSync(join(overlay, path, '..'), { recursive: true });
    writeFileSync(join(overlay, path), text, { mode });
  };
  put('etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf', autologin);
  put('usr/local/sbin/write-numbers', writer, 0o755);
  put('usr/local/share/which', 'first\n');
  writeFileSync(
    join(site.directory, 'profiles/livedata.yaml'),
    `version: 1
extends: [demo]
overlay: [livedata]
live: true
pull: {from: "http://10.0.2.2:${port}/store"}
boot: {ram: layers}
persist:
  - {path: /srv/keys, volume: KEYS}
  - {path: /srv/notes, volume: SECRET, owner: "nobody:nogroup", required: true}
  - {path: /srv/told, volume: TOLD}
  - {path: /srv/wrong, volume: WRONG}
luks:
  - {volume: SECRET, key: {volume: KEYS, file: /srv/keys/secret.key}}
  - {volume: TOLD, key: {volume: KEYS, file: /told.key}, passphrase: true, timeout: 40}
  - {volume: WRONG, key: {volume: KEYS, file: /srv/keys/secret.key}}
`,
  );
  await succeed(['build', 'livedata'], { site: site.directory });
  images.first = await newest();
  iso = join(site.directory, 'livedata.iso');
  await succeed(['image', 'export', 'livedata', '--iso', iso], { site: site.directory });
  put('usr/local/share/which', 'second\n');
  await succeed(['update', 'livedata', '--offline', '--no-test'], { site: site.directory });
  images.second = await newest();
  server = startCommand(['serve', '--listen', `127.0.0.1:${port}`], { site: site.directory });

  const key = join(site.directory, 'secret.key');
  writeFileSync(key, randomBytes(32));
  const keys = makeDisk('KEYS', 32);
  for (const command of ['mkdir /srv', 'mkdir /srv/keys', `write ${key} /srv/keys/secret.key`]) {
    debugfs(keys, command);
  }
  luksVolume(makeDisk('SECRET', 32), master.SECRET, execFileSync('cat', [key]), 'SECRET');
  luksVolume(makeDisk('TOLD', 16), master.TOLD, Buffer.from(passphrase), 'TOLD');
  luksVolume(makeDisk('WRONG', 16), master.WRONG, Buffer.from('another key'), 'WRONG');
});
afterAll(async () => {
  server.child.kill('SIGTERM');
  await server.ended;
  removeSite(site);
});

/** A machine whose first console is a shell of root. */
class Shell extends MenuMachine {
  #calls = 0;

  /** Waits for the shell. */
  async ready(): Promise<void> {
    await this.seen(/root@livedata:~#/, 400);
    // What is typed is not shown, and nothing of the kernel's comes between.
    this.send('exec dash\n');
    await this.run('stty -echo; dmesg -n 1; PS1=');
  }

  /** What a command prints, and its status. */
  async run(command: string, seconds = 240): Promise<{ readonly text: string; readonly status: number }> {
    this.#calls += 1;
    const mark = `call-${this.#calls}`;
    // What is typed is not what the end looks like.
    this.send(`{ ${command}; } 2>&1; echo "${mark}"-$?.\n`);
    const seen = await this.seen(new RegExp(`[^]*?${mark}-(\\d+)\\.`), seconds);
    const [text = '', status] = seen.split(`${mark}-`);
    return { text: text.replaceAll('\r', '').replace(/^\n/, ''), status: Number.parseInt(status ?? '', 10) };
  }

  /** The result of a command of relive. */
  async relive(command: string, seconds = 240): Promise<Record<string, unknown>> {
    const { text } = await this.run(`relive ${command} --json`, seconds);
    const line = text
      .split('\n')
      .findLast((each) => each.startsWith('{') && /"event":"(result|error)"/.test(each));
    if (line === undefined) throw new Error(`relive ${command} gave no result: ${text}`);
    return JSON.parse(line) as Record<string, unknown>;
  }
}

function start(...labels: readonly string[]): Shell {
  const machine = new Shell(iso, labels.map(diskFile), 1280, { network: 'user' });
  onTestFinished(async () => await machine.end());
  return machine;
}

/** Lets the guest write, and takes the power away. @returns the last number that both disks have for certain */
async function cutOffWriting(machine: Shell): Promise<number> {
  machine.send('write-numbers\n');
  let last = 0;
  for (let seen = 0; seen < 12; seen += 1) {
    last = Number(/\d+/.exec(await machine.seen(/on both: \d+\./))?.[0]);
  }
  await machine.end();
  return last;
}

/** What the disks had for certain must be a beginning of what is there. */
function expectNumbers(text: string, last: number): void {
  const lines = text.trim().split('\n').map(Number);
  expect(lines.slice(0, last)).toEqual(Array.from({ length: last }, (_, index) => index + 1));
}

describe('data of a machine whose image is in RAM', () => {
  let written = 0;

  test('are on encrypted volumes; more is kept, volumes grow, and an image is fetched and applied without the medium', async () => {
    const machine = start('KEYS', 'SECRET', 'TOLD', 'WRONG');
    await machine.seen(/Passphrase of the volume TOLD:/, 300);
    machine.send('guessed\n');
    await machine.seen(/That is not it\. Passphrase of the volume TOLD:/, 60);
    machine.send(`${passphrase}\n`);
    await machine.seen(
      /relive: \/srv\/wrong is not kept: the volume WRONG: it is locked: \/srv\/keys\/secret\.key on KEYS is not its key/,
      120,
    );
    await machine.ready();

    const wrong = 'it is locked: /srv/keys/secret.key on KEYS is not its key';
    const { volumes } = await machine.relive('live status');
    expect(volumes).toEqual([
      { name: 'KEYS', state: 'ok' },
      { name: 'SECRET', state: 'ok' },
      { name: 'TOLD', state: 'ok' },
      { name: 'WRONG', state: wrong },
    ]);
    const { kept, profile } = await machine.relive('live persist list');
    expect(kept).toMatchObject([
      { path: '/srv/keys', volume: 'KEYS', encrypted: false, state: 'ok', since: 'image' },
      { path: '/srv/notes', volume: 'SECRET', encrypted: true, state: 'ok', required: true },
      { path: '/srv/told', volume: 'TOLD', encrypted: true, state: 'ok' },
      { path: '/srv/wrong', volume: 'WRONG', encrypted: true, state: wrong, space: null },
    ]);
    expect(profile).toContain(
      '- { path: /srv/notes, volume: SECRET, owner: nobody:nogroup, required: true }',
    );

    // The disk grows below the LUKS volume, which is in use.
    await (await machine.monitor()).execute('block_resize', {
      device: 'disk1',
      size: 80 * megabyte,
    });
    const { before, after } = await machine.relive('live persist grow SECRET');
    expect(Number(before)).toBeLessThan(32 * megabyte);
    expect(Number(after)).toBeGreaterThan(50 * megabyte);

    await machine.run('mkdir /opt/work; echo one >/opt/work/file');
    expect(await machine.relive('live persist add /opt/work SECRET --mode 0700')).toMatchObject({
      ok: true,
      profile: '- { path: /opt/work, volume: SECRET, mode: "0700" }',
    });
    expect((await machine.run('echo two >>/opt/work/file; cat /volumes/SECRET/opt/work/file')).text).toBe(
      'one\ntwo\n',
    );

    const refusals: readonly (readonly [string, string, RegExp])[] = [
      ['/srv/keys/more KEYS', 'exists', /^\/srv\/keys is kept already, on the volume KEYS$/],
      ['/usr KEYS', 'usage', /path "\/usr": expected a path that the system does not need to boot/],
      [
        '/opt/else NOWHERE',
        'host-unable',
        /^\/opt\/else cannot be kept: the volume NOWHERE: no disk has it$/,
      ],
      ['/opt/else WRONG', 'host-unable', /: the volume WRONG: it is locked: /],
    ];
    for (const [words, code, message] of refusals) {
      expect(await machine.relive(`live persist add ${words}`)).toMatchObject({
        code,
        message: expect.stringMatching(message) as string,
      });
    }

    // The timer is on; the medium is gone, and the image comes from where the profile says.
    await (await machine.monitor()).execute('eject', { device: 'medium', force: true });
    expect((await machine.run('systemctl is-enabled relive-pull.timer')).text.trim()).toBe('enabled');
    expect((await machine.run('systemctl is-active relive-pull.timer')).text.trim()).toBe('active');
    const pulled = await machine.run('systemctl start relive-pull.service', 400);
    expect(pulled).toMatchObject({ status: 0 });
    expect(await machine.relive('live status')).toMatchObject({
      image: images.first,
      store: '/run/relive/store',
      newer: [{ image: images.second }],
    });
    expect(await machine.relive('live apply', 400)).toMatchObject({ ok: true, to: images.second });
    expect((await machine.run('cat /usr/local/share/which')).text.trim()).toBe('second');
    written = await cutOffWriting(machine);
  });

  test('are there when the power went while they were written, and a passphrase that nobody gives does not stop the boot', async () => {
    expect(written).toBeGreaterThan(10);
    const machine = start('KEYS', 'SECRET', 'TOLD');
    await machine.seen(/Passphrase of the volume TOLD:/, 300);
    await machine.seen(
      /relive: \/srv\/told is not kept: the volume TOLD: it is locked: there is no key \/told\.key on KEYS; nobody gave its passphrase in 40 s/,
      120,
    );
    await machine.ready();
    for (const place of ['/srv/keys', '/srv/notes']) {
      expectNumbers((await machine.run(`cat ${place}/numbers`)).text, written);
    }
    expect((await machine.run('dmesg | grep -c "recovery complete"; cat /run/relive/fsck')).text).toMatch(
      /\d/,
    );
    // What was applied and added is gone, what was written to the volume is not.
    expect((await machine.run('cat /usr/local/share/which; ls /opt')).text.trim()).toBe('first');
    expect((await machine.run('cat /volumes/SECRET/opt/work/file')).text).toBe('one\ntwo\n');
    // What could not be kept is in RAM; else nobody has changed anything.
    const { entries } = await machine.relive('live status');
    const paths = (entries as { path: string }[]).map(({ path }) => path);
    const own = paths.filter((path) => !path.startsWith('/volumes/') && path !== '/root/.bash_history');
    expect(own).toEqual([]);
    await machine.run('rm /srv/keys/numbers /srv/notes/numbers');
    written = await cutOffWriting(machine);
  });

  test.runIf(slowTests)('stop the boot where they are required and the key is missing', async () => {
    for (const file of [diskFile('KEYS'), decrypted(diskFile('SECRET'), master.SECRET)]) {
      execFileSync('sh', ['-c', `e2fsck -fp ${file} >&2 || [ $? = 1 ]`], { stdio: 'ignore' });
      expectNumbers(
        debugfs(file, file === diskFile('KEYS') ? 'cat /srv/keys/numbers' : 'cat /srv/notes/numbers'),
        written,
      );
    }
    debugfs(diskFile('KEYS'), 'rm /srv/keys/secret.key');
    const machine = start('KEYS', 'SECRET');
    await machine.seen(
      /relive: stopped: the volume SECRET for \/srv\/notes: it is locked: there is no key \/srv\/keys\/secret\.key on KEYS/,
      300,
    );
    expect(await machine.seen(/emergency mode/i, 120)).toMatch(/emergency/i);
  });
});
