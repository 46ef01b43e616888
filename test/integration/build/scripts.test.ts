import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandEnd, runCommand, stagesOf, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { processesWith, uniqueSeconds } from '../../support.ts';

let site: TestSite;
const seconds = uniqueSeconds();

beforeAll(async () => {
  site = await freshSite({ cache: true });
  script('inside', [
    'env | sort > /usr/share/seen-inside',
    'grep -c : /proc/net/dev > /usr/share/networks-inside || true',
    'echo left > /run/left; echo left > /tmp/left',
    'echo said on standard error > /dev/stderr',
    `sleep ${seconds} > /dev/null 2>&1 &`,
  ]);
  script('outside', [
    'test -e "$RELIVE_ROOT/etc/passwd" && test -e relive.yaml',
    'env | sort > "$RELIVE_ROOT/usr/share/seen-outside"',
    'grep -c : /proc/net/dev > "$RELIVE_ROOT/usr/share/networks-outside" || true',
    'mount -t tmpfs tmpfs "$RELIVE_ROOT/mnt" && echo left > "$RELIVE_ROOT/mnt/left"',
    'echo left > "$TMPDIR/left"',
    `sleep ${seconds} > /dev/null 2>&1 &`,
  ]);
  script('last', [
    'echo "$RELIVE_AFTER" > /usr/share/last',
    'test ! -e /run/relive/scripts/inside',
    'mkdir -p /etc/sysusers.d /etc/udev/hwdb.d /opt/lib',
    'echo "u settled -" > /etc/sysusers.d/settled.conf',
    "printf 'evdev:name:settled:*\\n KEYBOARD_KEY_1=a\\n' > /etc/udev/hwdb.d/70-settled.hwdb",
    'cp /usr/lib/*/libz.so.1 /opt/lib && echo /opt/lib > /etc/ld.so.conf.d/settled.conf',
  ]);
});
afterAll(() => removeSite(site));

function script(name: string, lines: readonly string[]): void {
  const file = join(site.directory, 'scripts', name);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, `#!/bin/sh\nset -e\n${lines.join('\n')}\n`);
  chmodSync(file, 0o755);
}

/** A profile beside the demo, on top of it. */
function profile(name: string, text: string): string {
  const file = join(site.directory, `profiles/${name}.yaml`);
  writeFileSync(file, `version: 1\nextends: [demo]\n${text}`);
  return file;
}

async function build(name: string): Promise<CommandEnd> {
  // What a host has that reaches the network through a proxy is not theirs.
  return await runCommand(['build', name], { site: site.directory, env: { no_proxy: 'host.invalid' } });
}

/** The base layer of a profile's newest image. */
async function baseOf(name: string): Promise<string> {
  const { last } = await succeed(['image', 'show', name], { site: site.directory });
  const { manifest } = last as unknown as { manifest: { layers: { digest: string }[] } };
  return join(site.store, 'live', `${manifest.layers[0]?.digest.slice(0, 16) ?? ''}.squashfs`);
}

/** Entries of a layer, and what unsquashfs says of their times. */
function timesOf(layer: string, ...paths: readonly string[]): ReadonlyMap<string, string> {
  const lines = execFileSync('unsquashfs', ['-UTC', '-lls', '-d', '', layer, ...paths], { encoding: 'utf8' });
  return new Map(
    lines.split('\n').flatMap((line) => {
      const [, time, path] = / (\d{4}-\d\d-\d\d \d\d:\d\d) \/?(.*)$/.exec(line) ?? [];
      return time === undefined || path === undefined ? [] : [[path, time] as const];
    }),
  );
}

describe('scripts and a keyboard', () => {
  let end: CommandEnd;
  let base: string;

  beforeAll(async () => {
    profile(
      'changed',
      `hostname: changed
locale: C.UTF-8
keyboard: {layout: de, variant: nodeadkeys}
scripts:
  - {name: inside, after: packages}
  - {name: outside, after: files, where: host}
  - {name: last, after: live, timeout: 60}
`,
    );
    end = await build('changed');
    base = await baseOf('changed');
  });

  const cat = (path: string): string =>
    execFileSync('unsquashfs', ['-cat', base, path], { encoding: 'utf8', stdio: 'pipe' });

  test('run at their points, in order', () => {
    expect(end.status).toBe(0);
    expect(stagesOf(end).filter((line) => line.endsWith('-scripts start'))).toEqual([
      'packages-scripts start',
      'files-scripts start',
      'live-scripts start',
    ]);
    expect(cat('usr/share/last')).toBe('live\n');
    const notes = end.lines.filter(({ source }) => source === 'inside').map(({ message }) => message);
    expect(notes).toEqual(['said on standard error']);
  });

  test('see the environment that the documents list, and no network', () => {
    const names = (path: string): string[] =>
      cat(path)
        .split('\n')
        .map((line) => line.split('=')[0] ?? '')
        .filter((name) => !['', 'OLDPWD', 'PWD', 'SHLVL', '_'].includes(name));
    const always = [
      ...['DEBIAN_FRONTEND', 'HOME', 'LC_ALL', 'PATH', 'RELIVE_AFTER', 'RELIVE_ARCHITECTURE', 'RELIVE_HOST'],
      ...['RELIVE_PROFILE', 'RELIVE_ROOT', 'RELIVE_SUITE', 'SOURCE_DATE_EPOCH'],
    ];
    expect(names('usr/share/seen-inside')).toEqual([...always, 'TZ']);
    expect(names('usr/share/seen-outside')).toEqual([...always, 'TMPDIR', 'TZ']);
    expect(cat('usr/share/seen-inside')).toContain('RELIVE_ROOT=/\nRELIVE_SUITE=trixie\n');
    expect(cat('usr/share/seen-inside')).toContain('RELIVE_PROFILE=changed\n');
    // The loopback device alone.
    expect([cat('usr/share/networks-inside'), cat('usr/share/networks-outside')]).toEqual(['1\n', '1\n']);
  });

  test('leave nothing else: no process, no file of the work, no mount', () => {
    expect(processesWith(seconds)).toEqual([]);
    const paths = execFileSync('unsquashfs', ['-l', '-d', '', base], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    expect(paths.split('\n').filter((path) => /^\/(mnt|run|tmp)\/.|left$/.test(path))).toEqual([]);
  });

  test('what systemd would bring up to date at each boot is, behind the last of them, and is marked as that', () => {
    expect(cat('etc/passwd')).toMatch(/^settled:/m);
    expect(cat('etc/ld.so.cache')).toContain('/opt/lib/libz.so.1');
    const times = timesOf(base, 'usr/share/last', 'etc/.updated', 'var/.updated', 'etc/udev/hwdb.bin');
    expect([...times.keys()]).toContain('etc/udev/hwdb.bin');
    const marks = ['etc/.updated', 'var/.updated'].map((path) => times.get(path));
    expect(marks).toEqual([times.get('usr'), times.get('usr')]);
    expect(times.get('usr')).toBeDefined();
  });

  test('the locale is where systemd and PAM look for it, also after the next start', () => {
    expect(cat('etc/locale.conf')).toBe('LANG=C.UTF-8\n');
    expect(execFileSync('unsquashfs', ['-ll', base, 'etc/default/locale'], { encoding: 'utf8' })).toMatch(
      /etc\/default\/locale -> \.\.\/locale\.conf$/m,
    );
  });

  test('the keyboard is set, and what console-setup keeps of it is of this one', () => {
    expect(cat('etc/default/keyboard')).toBe(
      'XKBMODEL="pc105"\nXKBLAYOUT="de"\nXKBVARIANT="nodeadkeys"\nXKBOPTIONS=""\nBACKSPACE="guess"\n',
    );
    const kept = execFileSync('sh', ['-c', `unsquashfs -cat "$0" "$1" | gzip -dc`, base, keymap()], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    // The key right of L.
    expect(kept).toMatch(/^keycode 39 = \+?(U\+00f6|odiaeresis)/m);
  });

  function keymap(): string {
    const paths = execFileSync('unsquashfs', ['-l', '-d', '', base], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    const found = paths.split('\n').filter((path) => /^\/etc\/console-setup\/cached.*kmap\.gz$/.test(path));
    expect(found).toHaveLength(1);
    return found[0]?.slice(1) ?? '';
  }

  test('are run again when they change, with the stages behind them, and only then', async () => {
    expect((await build('changed')).last).toMatchObject({ unchanged: true });
    // What else waits for an update has it at each boot.
    const unit = '[Unit]\\nConditionNeedsUpdate=/var\\n[Service]\\nExecStart=true\\n';
    script('last', [
      'echo other > /usr/share/last',
      `printf '${unit}' > /etc/systemd/system/waiting.service`,
    ]);
    const again = await build('changed');
    expect(again.last).toMatchObject({ unchanged: false });
    expect(stagesOf(again).filter((line) => / (start|cached)$/.test(line))).toEqual(
      expect.arrayContaining(['files-scripts cached', 'live cached', 'live-scripts start', 'settle start']),
    );
    const messages = again.lines.filter(({ source }) => source === 'settle').map(({ message }) => message);
    expect(messages).toEqual([expect.stringContaining('etc/systemd/system/waiting.service')]);
    expect([...timesOf(await baseOf('changed'), 'etc/.updated').keys()]).not.toContain('etc/.updated');
  });
});

function halfMade(): string[] {
  return readdirSync(join(site.cache, 'stages')).filter((name) => name.endsWith('.tmp'));
}

describe('a script that', () => {
  test.each(['system', 'host'])('fails in %s: the line of the profile and its last words', async (where) => {
    script('fails', ['echo what it said last', 'exit 3']);
    const file = profile('failing', `scripts:\n  - {name: fails, after: files, where: ${where}}\n`);
    const { status, last } = await build('failing');
    expect(status).toBe(3);
    const place = where === 'system' ? 'in the system' : 'on the host';
    expect(last).toMatchObject({
      code: 'tool-failed',
      message: `${file}:4:12: scripts/fails (after files, ${place}) ended with status 3\n    what it said last`,
    });
    expect(halfMade()).toEqual([]);
  });

  test.each(['system', 'host'])('hangs in %s is ended, with all that it started', async (where) => {
    script('hangs', ["trap '' TERM", 'echo waiting', `sleep ${seconds} & sleep ${seconds}`]);
    const file = profile(
      'hanging',
      `scripts:\n  - {name: hangs, after: files, where: ${where}, timeout: 1}\n`,
    );
    const { status, last } = await build('hanging');
    expect(status).toBe(3);
    expect(last).toMatchObject({ code: 'timed-out', hint: expect.stringContaining('"timeout"') });
    expect(last?.['message']).toMatch(
      new RegExp(`^${file}:4:12: scripts/hangs .* did not end within 1 s\\n +waiting$`),
    );
    expect(processesWith(seconds)).toEqual([]);
    expect(halfMade()).toEqual([]);
  });

  test('has no interpreter in the system: what to do', async () => {
    writeFileSync(join(site.directory, 'scripts/fails'), '#!/usr/bin/nothing\n');
    profile('failing', 'scripts:\n  - {name: fails, after: files}\n');
    const { last } = await build('failing');
    expect(last).toMatchObject({ code: 'tool-failed', hint: expect.stringContaining('interpreter') });
  });
});

test('a layout that nobody has: the nearest one', async () => {
  const file = profile('typo', 'keyboard: {layout: dee}\nextends: [changed]\n');
  writeFileSync(file, readFileSync(file, 'utf8').replace('extends: [demo]\n', ''));
  const { status, last } = await build('typo');
  expect(status).toBe(2);
  expect(last).toMatchObject({
    code: 'configuration',
    message: expect.stringMatching(/^keyboard: layout: .*"dee"/),
  });
});
