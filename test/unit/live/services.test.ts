import { describe, expect, test } from 'vitest';
import type { Change } from '../../../src/live/changes.ts';
import {
  concernedServices,
  mappedFiles,
  parseUnits,
  planUnits,
  type Running,
  tasksOf,
  type Unit,
  type UnitFacts,
  unitOfGroup,
} from '../../../src/live/services.ts';

const file = {
  ...{ type: 0o100000, mode: 0o644, uid: 0, gid: 0, attributes: '', size: 1, time: 0 },
  content: ['1'],
};
const changed = (path: string): Change => ({
  path,
  before: { ...file, path },
  after: { ...file, path, content: ['2'] },
});
const added = (path: string): Change => ({ path, before: null, after: { ...file, path } });
const removed = (path: string): Change => ({ path, before: { ...file, path }, after: null });
const library = 'usr/lib/x86_64-linux-gnu/libz.so.1.3.1';

const process = (group: string, ...files: readonly string[]): Running => {
  return { pid: 1, name: 'program', group, files };
};
const unit = (id: string, more: Partial<Unit> = {}): Unit => {
  return { id, active: true, type: 'simple', refusesStop: false, files: [], ...more };
};
const plan = (facts: Partial<UnitFacts>) =>
  planUnits({ changes: [], processes: [], units: [], ownership: { of: () => [] }, own: undefined, ...facts });

test('code in memory is told by its path, also when it was replaced; data and other mappings do not count', () => {
  const maps = `55d0c0000000-55d0c0010000 r-xp 00000000 00:1b 42 /usr/sbin/nginx
7f0000000000-7f0000001000 r-xp 00000000 00:1b 43 /usr/lib/x86_64-linux-gnu/libz.so.1.3.1 (deleted)
7f0000002000-7f0000003000 r--p 00000000 00:1b 44 /usr/lib/locale/C.utf8/LC_CTYPE
7f0000004000-7f0000005000 rwxp 00000000 00:00 0 [heap]
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]
`;
  expect(mappedFiles(maps)).toEqual(['/usr/sbin/nginx', `/${library}`]);
});

test('the unit of a control group is the outermost service or scope', () => {
  expect(unitOfGroup('/system.slice/nginx.service')).toBe('nginx.service');
  expect(unitOfGroup('/system.slice/docker.service/inner.service')).toBe('docker.service');
  expect(unitOfGroup('/user.slice/user-1000.slice/user@1000.service/app.slice/a.service')).toBe(
    'user@1000.service',
  );
  expect(unitOfGroup('/user.slice/user-1000.slice/session-3.scope')).toBe('session-3.scope');
  expect(unitOfGroup('/init.scope')).toBe('init.scope');
  expect(unitOfGroup('/')).toBeUndefined();
});

describe('units', () => {
  test('are read from what systemctl shows', () => {
    const text = `ExecStart={ path=/usr/sbin/nginx ; argv[]=/usr/sbin/nginx -g x ; ignore_errors=no }
Type=forking
Id=nginx.service
ActiveState=active
FragmentPath=/usr/lib/systemd/system/nginx.service
DropInPaths=/etc/systemd/system/nginx.service.d/a.conf /run/b.conf
RefuseManualStop=no

Type=simple
Id=b.service
ActiveState=inactive
FragmentPath=
DropInPaths=
RefuseManualStop=yes
`;
    expect(parseUnits(text)).toEqual([
      {
        ...{ id: 'nginx.service', active: true, type: 'forking', refusesStop: false },
        files: [
          ...['/usr/lib/systemd/system/nginx.service', '/etc/systemd/system/nginx.service.d/a.conf'],
          ...['/run/b.conf', '/usr/sbin/nginx'],
        ],
      },
      { id: 'b.service', active: false, type: 'simple', refusesStop: true, files: [] },
    ]);
  });

  test('exactly those with a changed library in memory start anew', () => {
    const decided = plan({
      changes: [changed(library)],
      processes: [
        process('/system.slice/nginx.service', '/usr/sbin/nginx', `/${library}`),
        process('/system.slice/cron.service', '/usr/sbin/cron'),
      ],
      units: [unit('nginx.service'), unit('cron.service')],
    });
    expect(decided.restart.map((each) => each.unit)).toEqual(['nginx.service']);
    expect(decided).toMatchObject({ stop: [], start: [], leave: [] });
  });

  test.each([
    ['/system.slice/dbus.service', 'dbus.service'],
    ['/system.slice/systemd-logind.service', 'systemd-logind.service'],
    ['/system.slice/lightdm.service', 'lightdm.service'],
    ['/system.slice/NetworkManager.service', 'NetworkManager.service'],
    ['/system.slice/system-getty.slice/getty@tty1.service', 'getty@tty1.service'],
    ['/user.slice/user-1000.slice/session-3.scope', 'session-3.scope'],
    ['/init.scope', 'init.scope'],
    ['/system.slice/own.service', 'own.service'],
    ['/system.slice/firm.service', 'firm.service'],
  ])('%s is told of, and left alone', (group, id) => {
    const decided = plan({
      changes: [changed(library)],
      processes: [process(group, `/${library}`)],
      units: [unit(id, { refusesStop: id === 'firm.service' })],
      own: 'own.service',
    });
    expect(decided.restart).toEqual([]);
    expect(decided.leave.map((each) => each.unit)).toEqual([id]);
  });

  test('whose own files or configuration change start anew, by the package that has them; others do not', () => {
    const packages: Readonly<Record<string, readonly string[]>> = {
      '/usr/sbin/nginx': ['nginx'],
      '/etc/nginx': ['nginx'],
      '/etc/cron.d/x': ['cron'],
      '/usr/sbin/cron': ['cron'],
      '/etc/default': ['nginx', 'cron', 'ssh'],
    };
    const units = [
      unit('nginx.service', { files: ['/usr/sbin/nginx'] }),
      unit('cron.service', { files: ['/usr/sbin/cron'] }),
      unit('off.service', { active: false, files: ['/usr/sbin/nginx'] }),
    ];
    const restarted = (path: string): string[] =>
      plan({
        ...{ changes: [changed(path)], units },
        ownership: { of: (each) => packages[each] ?? [] },
      }).restart.map((each) => each.unit);
    expect(restarted('usr/sbin/nginx')).toEqual(['nginx.service']);
    expect(restarted('etc/nginx/sites-enabled/mine')).toEqual(['nginx.service']);
    expect(restarted('etc/cron.d/x')).toEqual(['cron.service']);
    expect(restarted('etc/default/whatever')).toEqual([]);
    expect(restarted('usr/share/doc/nginx/README')).toEqual([]);
  });

  test('that the image removes are stopped, those that it enables are started', () => {
    const path = '/usr/lib/systemd/system/old.service';
    const decided = plan({
      changes: [
        removed('usr/lib/systemd/system/old.service'),
        added('etc/systemd/system/multi-user.target.wants/new.service'),
        removed('etc/systemd/system/multi-user.target.wants/off.service'),
      ],
      units: [unit('old.service', { files: [path] }), unit('off.service')],
    });
    expect(decided.stop.map((each) => each.unit)).toEqual(['old.service']);
    expect(decided.start.map((each) => each.unit)).toEqual(['new.service']);
    expect(decided.leave.map((each) => each.unit)).toEqual(['off.service']);
    expect(decided.restart).toEqual([]);
  });

  test('that run once do so at the next boot', () => {
    const decided = plan({
      changes: [changed(library)],
      processes: [process('/system.slice/once.service', `/${library}`)],
      units: [unit('once.service', { type: 'oneshot' })],
    });
    expect(decided).toEqual({ stop: [], restart: [], start: [], leave: [] });
  });
});

test('what changes demand of the system', () => {
  const none = { daemonReload: false, ldconfig: false, sysusers: false, tmpfiles: [], udev: false };
  expect(tasksOf([changed('usr/share/x')])).toEqual(none);
  expect(tasksOf([changed(library)])).toEqual({ ...none, ldconfig: true });
  expect(tasksOf([changed('usr/lib/systemd/system/a.service')])).toEqual({ ...none, daemonReload: true });
  expect(tasksOf([added('usr/lib/sysusers.d/a.conf')])).toEqual({ ...none, sysusers: true });
  expect(tasksOf([changed('usr/lib/tmpfiles.d/a.conf'), removed('etc/tmpfiles.d/b.conf')])).toEqual({
    ...none,
    tmpfiles: ['a.conf'],
  });
  expect(tasksOf([changed('usr/lib/udev/rules.d/a.rules')])).toEqual({ ...none, udev: true });
});

describe('systemd is asked of', () => {
  const running = [
    process('/system.slice/nginx.service'),
    process('/user.slice/session-1.scope'),
    process('/'),
  ];

  test('services with processes and those whose unit changes, where only data and libraries do', () => {
    const unitFile = changed('usr/lib/systemd/system/other@.service');
    const wanted = added('etc/systemd/system/multi-user.target.wants/third.service');
    expect(concernedServices([changed(library), unitFile, wanted], running)).toEqual([
      'nginx.service',
      'other@*.service',
      'third.service',
    ]);
    expect(concernedServices([changed('opt/data')], [])).toEqual([]);
    const users: Change = { ...changed('etc/shadow'), merged: true };
    expect(concernedServices([users], running)).toEqual(['nginx.service']);
  });

  test.each([
    ['configuration', changed('etc/nginx/nginx.conf')],
    ['a drop-in', added('etc/systemd/system/nginx.service.d/more.conf')],
    [
      'a program that a service without a process may have started',
      { path: 'usr/sbin/once', before: null, after: { ...file, path: 'usr/sbin/once', mode: 0o755 } },
    ],
    [
      'a link to one',
      {
        path: 'usr/bin/awk',
        before: { ...file, path: 'usr/bin/awk', type: 0o120000, mode: 0o777 },
        after: null,
      },
    ],
  ])('all where %s changes', (_, change) => {
    expect(concernedServices([changed(library), change], running)).toEqual(['*.service']);
  });
});
