import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type CommandEnd, runCommand, stagesOf } from '../../fixtures/command.ts';
import { hostArchive } from '../../fixtures/host-archive.ts';
import { throughNobody } from '../../fixtures/nobody.ts';
import { type BuiltSite, builtSite, freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { relive } from '../../support.ts';

let built: BuiltSite;
let site: TestSite;

beforeAll(async () => {
  built = await builtSite();
});
beforeEach(async () => {
  site = await freshSite();
});
afterEach(() => removeSite(site));

async function build(...through: readonly string[]): Promise<CommandEnd> {
  return await runCommand(['build', 'demo', '--offline'], { site: site.directory, through });
}

/** Replaces a part of the profile and gives the position of the first `find` in it then. */
function edit(from: string | RegExp, to: string, find = to): string {
  const file = join(site.directory, 'profiles/demo.yaml');
  const text = readFileSync(file, 'utf8').replace(from, to);
  writeFileSync(file, text);
  const before = text.slice(0, text.indexOf(find));
  const line = before.split('\n').length;
  return `${file}:${line}:${before.length - before.lastIndexOf('\n')}`;
}

/** Has the site mirror into a directory of its own, which is empty. */
function useOwnMirror(): void {
  const file = join(site.directory, 'relive.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^mirror: \S+/m, 'mirror: mirror'));
}

/** Every path below the site, so that nothing new goes unnoticed. */
function everything(): string[] {
  return readdirSync(site.directory, { recursive: true, encoding: 'utf8' }).toSorted();
}

describe('without root', () => {
  test('says so before it does anything', async () => {
    // It could write everywhere in the site.
    execFileSync('chmod', ['--recursive', 'a+rwX', join(site.directory, '..')]);
    const before = everything();
    const { status, last, stderr } = await build(...throughNobody);
    expect({ status, stderr }).toEqual({ status: 2, stderr: '' });
    expect(last).toMatchObject({
      event: 'error',
      code: 'not-root',
      message: expect.stringMatching(/^build needs root/),
    });
    expect(last?.['hint']).toContain('sudo relive build');
    expect(everything()).toEqual(before);
  });

  test("a path that is another one's is named", async () => {
    execFileSync('chmod', ['a+rX', join(site.directory, '..'), site.directory]);
    rmSync(join(site.directory, 'keys'), { recursive: true, force: true });
    const { last } = await runCommand(['keys', 'create'], { site: site.directory, through: throughNobody });
    expect(last).toMatchObject({
      code: 'usage',
      message: expect.stringContaining(`${join(site.directory, 'keys')}: permission denied`),
    });
  });

  test('images can be listed and verified', async () => {
    const { status } = await runCommand(['image', 'verify'], {
      site: built.directory,
      through: throughNobody,
    });
    expect(status).toBe(0);
  });
});

describe('what a profile cannot have', () => {
  test('a package that does not exist: its line, and the nearest name', async () => {
    const place = edit('  - nano\n', '  - nanoo\n', 'nanoo');
    const { status, last } = await build();
    expect(status).toBe(2);
    expect(last).toMatchObject({
      code: 'unknown-package',
      hint: expect.stringContaining('debian (trixie main non-free-firmware)'),
    });
    const [line] = String(last?.['message']).split('\n');
    expect(line).toMatch(new RegExp(`^${place}: no package "nanoo"; did you mean nano\\b`));
    expect(existsSync(site.store)).toBe(false);
  });

  test('packages that exclude each other: both are named', async () => {
    const place = edit('  - nano\n', '  - nano\n  - sysvinit-core\n', 'sysvinit-core');
    const { status, last } = await build();
    expect(status).toBe(2);
    expect(last?.['code']).toBe('unsolvable');
    expect(last?.['message']).toMatch(/^ +systemd-sysv : Conflicts: sysvinit-core/m);
    expect(last?.['message']).not.toContain('Reading package lists');
    expect(last?.['hint']).toContain(`${place} (sysvinit-core)`);
    expect(last?.['hint']).toContain("relive's base packages (live system) (systemd-sysv)");
  });

  test('a wrong type: file, line and column, what was found and what is allowed', async () => {
    edit('  - nano\n', '  - {nano: 1}\n');
    edit(/^version: 1$/m, 'version: one');
    const { status, last } = await build();
    expect(status).toBe(2);
    const file = join(site.directory, 'profiles/demo.yaml');
    expect(last).toMatchObject({ code: 'configuration' });
    expect(last?.['message']).toContain(`${file}:2:10: version: found "one"`);
    expect(last?.['message']).toMatch(new RegExp(`^${file}:\\d+:5: packages\\[\\d+\\]: found a map`, 'm'));
  });

  test('a unit that no package brings: nothing half-made stays', async () => {
    removeSite(site);
    site = await freshSite({ cache: true });
    edit('getty@tty1]', 'getty@tty1, nginx]');
    const { status, last, lines } = await build();
    expect(stagesOf({ lines }).slice(-2)).toEqual(['files cached', 'configure start']);
    expect(status).toBe(2);
    expect(last).toMatchObject({ code: 'configuration', message: expect.stringContaining('nginx.service') });
    expect(readdirSync(join(site.cache, 'stages')).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    expect(readdirSync(site.cache).toSorted()).toEqual(['.lock', 'stage-locks', 'stages', 'timings']);
  });
});

describe('a site that lacks something', () => {
  test('a key: before anything is fetched or built', async () => {
    rmSync(site.keys, { recursive: true });
    const { status, last, lines } = await build();
    expect(status).toBe(2);
    expect(last).toMatchObject({ code: 'not-found', hint: expect.stringContaining('relive keys create') });
    expect(stagesOf({ lines })).toEqual([]);
  });

  test('a profile: the nearest one is named', async () => {
    const { status, last } = await runCommand(['build', 'demos'], { site: site.directory });
    expect(status).toBe(2);
    expect(last).toMatchObject({ code: 'not-found', message: expect.stringContaining('did you mean demo?') });
  });
});

describe('without a network', () => {
  const offline = ['unshare', '--net', '--'];
  const host = new URL(hostArchive()).host;

  test('and without a mirror names the host that cannot be reached', async () => {
    useOwnMirror();
    const { status, last } = await runCommand(['build', 'demo'], { site: site.directory, through: offline });
    expect(status).toBe(3);
    expect(last).toMatchObject({ code: 'no-network', message: expect.stringContaining(host) });
    expect(last?.['hint']).toBeTypeOf('string');
    expect(existsSync(site.store)).toBe(false);
  });

  test('--offline without a mirror and without a lock says what would bring it', async () => {
    useOwnMirror();
    rmSync(join(site.directory, 'locks'), { recursive: true });
    const { status, last } = await build(...offline);
    expect(status).toBe(3);
    expect(last).toMatchObject({
      code: 'no-network',
      message: 'the suite trixie of debian is not in the mirror yet',
      hint: expect.stringContaining('--offline'),
    });
  });

  test('--offline with a package missing from the mirror names its file', async () => {
    cpSync(site.mirror, join(site.directory, 'mirror'), { recursive: true, verbatimSymlinks: true });
    useOwnMirror();
    const pool = join(site.directory, 'mirror/debian/pool');
    const missing =
      readdirSync(pool, { recursive: true, encoding: 'utf8' }).find((path) =>
        /\/nano_[^/]+\.deb$/.test(path),
      ) ?? '';
    rmSync(join(pool, missing));
    const { status, last } = await build(...offline);
    expect(status).toBe(3);
    expect(last).toMatchObject({ code: 'no-network', message: expect.stringContaining(`pool/${missing}`) });
    expect(existsSync(site.store)).toBe(false);
  });
});

test('plain output: the error goes to standard error, standard output stays empty', async () => {
  rmSync(site.keys, { recursive: true });
  const { status, stdout, stderr } = await relive(['build', 'demo', '--site', site.directory]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toMatch(/^error: the site has no signing key in .*\n +hint: relive keys create/);
});
