import { describe, expect, test } from 'vitest';
import { jsonLines, profileText, relive, siteWith } from '../site/support.ts';

const good = { 'profiles/kiosk.yaml': `${profileText}packages: [nano]\ndescription: a kiosk\n` };

describe('relive profile list', () => {
  test('prints a table', async () => {
    const cwd = siteWith({ ...good, 'profiles/bad.yaml': 'version: x\n' });
    const { status, stdout } = await relive(['profile', 'list'], { cwd });
    expect(status).toBe(0);
    expect(stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      ['NAME', 'VERSION', 'SUITE', 'ARCH', 'HOST', 'EXTENDS', 'DESCRIPTION'],
      ['bad', '-', '-', '-', '-', '-', '(not usable: relive profile check bad)'],
      ['kiosk', '1', 'trixie', 'amd64', 'virtual-machine', '-', 'a kiosk'],
      [''],
    ]);
  });

  test('prints JSON', async () => {
    const { status, stdout } = await relive(['profile', 'list', '--json'], { cwd: siteWith(good) });
    expect(status).toBe(0);
    expect(jsonLines(stdout)).toMatchObject([
      { event: 'result', ok: true, profiles: [{ name: 'kiosk', version: 1, complete: true, problems: [] }] },
    ]);
  });

  test('says what is no site, and how to make one', async () => {
    const { status, stderr } = await relive(['profile', 'list', '--site', 'nowhere'], { cwd: siteWith({}) });
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /error: .*nowhere is not a site: it has no relive\.yaml\n {2}hint: relive init makes one/,
    );
  });
});

describe('relive profile show', () => {
  test('prints YAML with places', async () => {
    const { status, stdout } = await relive(['profile', 'show', 'kiosk'], { cwd: siteWith(good) });
    expect(status).toBe(0);
    expect(stdout).toContain('  - nano # profiles/kiosk.yaml:6\n');
    expect(stdout).toContain('bootstrap: mmdebstrap # default\n');
  });

  test('prints JSON', async () => {
    const { stdout } = await relive(['profile', 'show', 'kiosk', '--json'], { cwd: siteWith(good) });
    expect(jsonLines(stdout)).toMatchObject([
      {
        event: 'result',
        name: 'kiosk',
        profile: { packages: ['nano'], hostname: 'kiosk' },
        origins: { 'packages[0]': 'profiles/kiosk.yaml:6', hostname: 'default' },
      },
    ]);
  });

  test('names an unknown profile and the problems of a bad one', async () => {
    const cwd = siteWith({ 'profiles/kiosk.yaml': `${profileText}pakages: []\nlocale: 3\n` });
    const unknown = await relive(['profile', 'show', 'kisk'], { cwd });
    expect([unknown.status, unknown.stderr]).toEqual([2, expect.stringContaining('did you mean kiosk?')]);
    const bad = await relive(['profile', 'show', 'kiosk', '--json'], { cwd });
    expect(bad.status).toBe(2);
    expect(jsonLines(bad.stdout)).toMatchObject([
      {
        event: 'error',
        code: 'configuration',
        message: expect.stringMatching(
          /^profiles\/kiosk\.yaml:6:1: pakages: .*\nprofiles\/kiosk\.yaml:7:9: locale: /,
        ),
      },
    ]);
  });
});

describe('relive profile check', () => {
  test('finds nothing in a good site', async () => {
    const { status, stdout } = await relive(['profile', 'check'], { cwd: siteWith(good) });
    expect([status, stdout]).toEqual([0, '1 profile checked, nothing found.\n']);
  });

  test('reports findings and ends with 1', async () => {
    const cwd = siteWith({ ...good, 'profiles/bad.yaml': `${profileText}overlay: none\npackages: [A]\n` });
    const text = await relive(['profile', 'check'], { cwd });
    expect(text.status).toBe(1);
    expect(text.stderr).toContain('unsuitable: profiles/bad.yaml:6:10: overlay[0]: found "none"');
    expect(text.stderr).toContain('unsuitable: profiles/bad.yaml:7:12: packages[0]: found "A"');
    expect(text.stdout).toBe('2 profiles checked, 2 problems found.\n');

    const json = await relive(['profile', 'check', '--json', 'bad'], { cwd });
    expect(json.status).toBe(1);
    expect(jsonLines(json.stdout)).toMatchObject([
      { event: 'finding', kind: 'unsuitable', path: 'profiles/bad.yaml:6:10' },
      { event: 'finding', kind: 'unsuitable', path: 'profiles/bad.yaml:7:12' },
      { event: 'result', ok: false, checked: ['bad'], problems: 2 },
    ]);
    expect((await relive(['profile', 'check', 'kiosk'], { cwd })).status).toBe(0);
    expect((await relive(['profile', 'check', 'kiosk', 'gone'], { cwd })).status).toBe(2);
  });

  test('a relive.yaml that is wrong is an error of its own', async () => {
    const { status, stderr } = await relive(['profile', 'check'], {
      cwd: siteWith({ 'relive.yaml': 'version: 1\n' }),
    });
    expect(status).toBe(2);
    expect(stderr).toContain('relive.yaml:1:1: repositories: is missing; allowed: a map');
  });
});
