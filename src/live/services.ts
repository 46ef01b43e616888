import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { systemCode } from '../core/error.ts';
import type { Context } from '../core/event.ts';
import { isAbsent } from '../host/files.ts';
import { run } from '../host/process.ts';
import { directoryType } from '../rootfs/delta.ts';
import type { Change } from './changes.ts';

/** A process of this machine, and the files that it has in memory as code. */
export interface Running {
  readonly pid: number;
  readonly name: string;
  /** The path of its control group. */
  readonly group: string;
  /** Absolute paths: its program, its libraries and what else it maps. */
  readonly files: readonly string[];
}

/** A unit of systemd as it is now. */
export interface Unit {
  readonly id: string;
  readonly active: boolean;
  readonly type: string;
  readonly refusesStop: boolean;
  /** The unit's own file, those that add to it, and the programs that it starts. */
  readonly files: readonly string[];
}

/** A unit and the reason for what is done about it. */
export interface UnitReason {
  readonly unit: string;
  readonly why: string;
}

export interface UnitPlan {
  readonly stop: readonly UnitReason[];
  readonly restart: readonly UnitReason[];
  readonly start: readonly UnitReason[];
  /** What would have to be started anew, and is not. */
  readonly leave: readonly UnitReason[];
}

const deleted = ' (deleted)';
const unitDirectory = /^\/(etc|usr\/lib|usr\/local\/lib)\/systemd\/system\//;

/**
 * The files that a process runs code of, in the text of /proc/PID/maps (proc_pid_maps(5)); what was replaced meanwhile is told by its
 * former path.
 */
export function mappedFiles(maps: string): string[] {
  const files = new Set<string>();
  for (const [, path = ''] of maps.matchAll(/^[0-9a-f]+-[0-9a-f]+ ..x. \S+ \S+ [1-9]\d* +(\/.*)$/gm)) {
    files.add(path.endsWith(deleted) ? path.slice(0, -deleted.length) : path);
  }
  return [...files];
}

/** The unit that a control group belongs to: the outermost service or scope; undefined for what systemd does not run. */
export function unitOfGroup(group: string): string | undefined {
  if (group.startsWith('/init.scope')) return 'init.scope';
  return group.split('/').find((part) => /\.(service|scope)$/.test(part));
}

/** All processes that run, but kernel threads. */
export function readProcesses(proc = '/proc'): Running[] {
  const found: Running[] = [];
  // Hundreds of files of the kernel's: read one after the other, without a thread for each.
  for (const name of readdirSync(proc)) {
    if (!/^\d+$/.test(name)) continue;
    const directory = join(proc, name);
    try {
      const files = mappedFiles(readFileSync(join(directory, 'maps'), 'utf8'));
      if (files.length === 0) continue;
      const program = readlinkSync(join(directory, 'exe'));
      files.push(program.endsWith(deleted) ? program.slice(0, -deleted.length) : program);
      const group = /^0::(.*)$/m.exec(readFileSync(join(directory, 'cgroup'), 'utf8'))?.[1] ?? '/';
      found.push({ pid: Number(name), name: basename(program).replace(deleted, ''), group, files });
    } catch (error) {
      // It ended while we looked.
      if (!isAbsent(error) && systemCode(error) !== 'ESRCH') throw error;
    }
  }
  return found;
}

/** The units in the output of `systemctl show`: a paragraph each. */
export function parseUnits(text: string): Unit[] {
  return text
    .split(/\n\n+/)
    .filter((paragraph) => paragraph.trim() !== '')
    .map((paragraph) => {
      const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(paragraph)?.[1] ?? '';
      const programs = [...paragraph.matchAll(/^Exec\w+=\{ path=(\S+) ;/gm)].map(([, path = '']) => path);
      return {
        id: value('Id'),
        active: ['active', 'reloading', 'activating'].includes(value('ActiveState')),
        type: value('Type'),
        refusesStop: value('RefuseManualStop') === 'yes',
        files: [value('FragmentPath'), ...value('DropInPaths').split(' '), ...programs].filter(
          (path) => path !== '',
        ),
      };
    });
}

/** Whether this is configuration of services, of which a package may have it: not a directory, and no list of users. */
function isConfiguration({ path, before, after, merged }: Change): boolean {
  return path.startsWith('etc/') && merged !== true && (after ?? before)?.type !== directoryType;
}

/** Absolute paths of the configuration among these changes. */
export function configurationPaths(changes: readonly Change[]): string[] {
  return changes.filter(isConfiguration).map(({ path }) => `/${path}`);
}

/**
 * The services that changes can concern, by name or pattern (systemctl(1)): those that have processes, and those whose unit
 * changes. All that systemd knows where programs change, which a service without a process may have started, or
 * configuration, which is a package's. systemd takes long to tell of many.
 */
export function concernedServices(changes: readonly Change[], processes: readonly Running[]): string[] {
  const names = new Set(
    processes.flatMap(({ group }) => unitOfGroup(group) ?? []).filter((name) => name.endsWith('.service')),
  );
  for (const change of changes) {
    const { path, before, after } = change;
    const absolute = `/${path}`;
    const program =
      !/\.so(\.|$)/.test(path) &&
      [before, after].some(
        (each) => each !== null && each.type !== directoryType && (each.mode & 0o111) !== 0,
      );
    const name = basename(path);
    const unit = unitDirectory.test(absolute) && /^[\w:.\\@-]+\.service$/.test(name);
    if (!unit && (program || isConfiguration(change) || unitDirectory.test(absolute))) return ['*.service'];
    if (unit) names.add(name.replace('@.service', '@*.service'));
  }
  return [...names];
}

/** What systemd knows of these services, by name or pattern. */
export async function readUnits(names: readonly string[], context: Context): Promise<Unit[]> {
  if (names.length === 0) return [];
  const properties = ['Id', 'ActiveState', 'Type', 'RefuseManualStop', 'FragmentPath', 'DropInPaths'];
  const started = ['ExecStartPre', 'ExecStart', 'ExecStartPost'];
  const { stdout } = await run(
    'systemctl',
    ['show', '--no-pager', `--property=${[...properties, ...started].join(',')}`, '--', ...names],
    { ...context, mayOutlive: true },
  );
  return parseUnits(stdout);
}

/** What must not be started anew while it is used, and why; after needrestart's list. */
const untouchable: readonly (readonly [RegExp, string])[] = [
  [/^init\.scope$/, 'systemd itself'],
  [/^dbus(-broker)?\.service$/, 'whoever speaks over it would lose the connection'],
  [/^systemd-logind\.service$/, 'it has the sessions of all users'],
  [
    /^(gdm3?|kdm|lightdm|lxdm|nodm|sddm|slim|wdm|xdm|greetd|display-manager|cage(@.*)?)\.service$/,
    'the sessions on the screen would end',
  ],
  [
    /^(autovt|getty|serial-getty|console-getty|container-getty)(@.*)?\.service$/,
    'logins on its console would end',
  ],
  [/^(user@.*\.service|session-.*\.scope)$/, 'a user is logged in: log out and in again'],
  [
    /^(NetworkManager|ModemManager|wpa_supplicant(@.*)?|iwd|connman|networking|ifup@.*|openvpn.*|wg-quick@.*|tinc.*)\.service$/,
    'the network would be gone for a moment, this connection perhaps with it',
  ],
  [
    /^(docker|containerd|libvirtd|virtqemud|virtlxcd|lxc|lxd|incus)\.service$/,
    'what it runs would be disturbed',
  ],
];

/** Why a unit is not to be started anew; undefined where it may be. */
export function whyNot(unit: string): string | undefined {
  if (unit.endsWith('.scope'))
    return untouchable.find(([pattern]) => pattern.test(unit))?.[1] ?? 'nobody starts it anew';
  return untouchable.find(([pattern]) => pattern.test(unit))?.[1];
}

/** Which packages own which files: dpkg's lists. */
export interface Ownership {
  /** The packages that have this absolute path. */
  readonly of: (path: string) => readonly string[];
}

/** Reads dpkg's lists for these paths. @param info /var/lib/dpkg/info below the root */
export function readOwnership(info: string, wanted: ReadonlySet<string>): Ownership {
  const owners = new Map<string, string[]>();
  const names = wanted.size > 0 && existsSync(info) ? readdirSync(info) : [];
  for (const name of names) {
    if (!name.endsWith('.list')) continue;
    const owner = name.slice(0, -'.list'.length).replace(/:.*$/, '');
    for (const path of readFileSync(join(info, name), 'utf8').split('\n')) {
      if (wanted.has(path)) owners.set(path, [...(owners.get(path) ?? []), owner]);
    }
  }
  return { of: (path) => owners.get(path) ?? [] };
}

/** The paths by which the owner of a configuration file is found: its own, and its directory in /etc. */
export function ownershipPaths(configuration: readonly string[], units: readonly Unit[]): Set<string> {
  const directories = configuration.map((path) => path.split('/').slice(0, 3).join('/'));
  return new Set([...configuration, ...directories, ...units.flatMap(({ files }) => files)]);
}

/**
 * The services whose configuration this is: those of the package that owns the file or, for files of no package, its
 * directory in /etc.
 */
function configured(path: string, units: readonly Unit[], ownership: Ownership): readonly Unit[] {
  const own = ownership.of(path);
  const directory = path.split('/').slice(0, 3).join('/');
  const above = own.length > 0 || directory === path ? [] : ownership.of(directory);
  // A directory that several packages have is nobody's.
  const owners = new Set(own.length > 0 ? own : above.length <= 2 ? above : []);
  return units.filter(({ files }) =>
    files.some((file) => ownership.of(file).some((each) => owners.has(each))),
  );
}

export interface UnitFacts {
  readonly changes: readonly Change[];
  readonly processes: readonly Running[];
  readonly units: readonly Unit[];
  readonly ownership: Ownership;
  /** The unit that relive itself runs in. */
  readonly own: string | undefined;
}

const wants = /^\/etc\/systemd\/system\/[^/]+\.target\.(wants|requires)\/([^/]+)$/;

/**
 * Which units have to be stopped, started anew or started because of changes: those with a process that has a replaced
 * file in memory, and those whose unit, program or configuration changes. Exactly these.
 */
export function planUnits({ changes, processes, units, ownership, own }: UnitFacts): UnitPlan {
  const paths = new Map(
    changes.map((change) => [`/${Buffer.from(change.path, 'latin1').toString('utf8')}`, change]),
  );
  const reasons = new Map<string, string>();
  const because = (unit: string, why: string): void => {
    if (!reasons.has(unit)) reasons.set(unit, why);
  };
  for (const { files, group, name } of processes) {
    const unit = unitOfGroup(group);
    const file = files.find((each) => paths.has(each) || paths.has(`/usr${each}`));
    if (file === undefined) continue;
    if (unit !== undefined) because(unit, `${name} has ${file} in memory`);
    else because(name, `${name}, which no unit runs, has ${file} in memory`);
  }
  const active = units.filter((unit) => unit.active);
  for (const unit of active) {
    const file = unit.files.find((each) => paths.has(each));
    if (file !== undefined) because(unit.id, `${file} changes`);
  }
  for (const [path, { after, before }] of paths) {
    if (!path.startsWith('/etc/') || unitDirectory.test(path)) continue;
    if ((after ?? before)?.type === directoryType) continue;
    for (const unit of configured(path, active, ownership)) because(unit.id, `${path} changes`);
  }
  const known = new Map(units.map((unit) => [unit.id, unit]));
  const stop: UnitReason[] = [];
  const start: UnitReason[] = [];
  for (const [path, { after }] of paths) {
    if (!unitDirectory.test(path)) continue;
    const unit = known.get(basename(path));
    if (wants.test(path)) {
      const name = basename(path);
      if (after === null && unit?.active === true && !stop.some((each) => each.unit === name)) {
        because(name, 'it is no longer enabled');
      } else if (after !== null && unit?.active !== true && name.endsWith('.service')) {
        start.push({ unit: name, why: 'the image enables it' });
      }
    } else if (unit?.active === true && unit.files[0] === path && after === null) {
      stop.push({ unit: unit.id, why: 'the image has it no longer' });
    } else if (unit?.active === true && after?.content[0] === '/dev/null') {
      stop.push({ unit: unit.id, why: 'the image masks it' });
    }
  }
  const restart: UnitReason[] = [];
  const leave: UnitReason[] = [];
  for (const [unit, why] of [...reasons].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (stop.some((each) => each.unit === unit)) continue;
    const facts = known.get(unit);
    const not =
      unit === own
        ? 'relive runs in it'
        : why === 'it is no longer enabled'
          ? 'it goes on until the restart'
          : (whyNot(unit) ??
            (facts === undefined
              ? 'it is no service'
              : facts.refusesStop
                ? 'it refuses to be stopped'
                : undefined));
    // What runs once does so at the next boot.
    if (not === undefined && facts?.type === 'oneshot') continue;
    if (not === undefined) restart.push({ unit, why });
    else leave.push({ unit, why: `${why}; ${not}` });
  }
  return { stop, restart, start, leave };
}

/** What has to be told of changes, in this order, before services are. */
export interface Tasks {
  readonly daemonReload: boolean;
  readonly ldconfig: boolean;
  readonly sysusers: boolean;
  /** The files of tmpfiles.d(5) to carry out, by their names. */
  readonly tmpfiles: readonly string[];
  readonly udev: boolean;
}

/** What these changes demand. */
export function tasksOf(changes: readonly Change[]): Tasks {
  const some = (pattern: RegExp): boolean => changes.some(({ path }) => pattern.test(path));
  const tmpfiles = changes.filter(
    ({ path, after }) => after !== null && /^(etc|usr\/lib)\/tmpfiles\.d\/.*\.conf$/.test(path),
  );
  return {
    daemonReload: some(/^(etc|usr\/lib|usr\/local\/lib)\/systemd\/system\/|^etc\/(init\.d\/|fstab$)/),
    ldconfig: some(/^(usr\/(local\/)?)?lib\d*\/.*\.so(\.|$)|^etc\/ld\.so\.conf/),
    sysusers: some(/^(etc|usr\/lib)\/sysusers\.d\//),
    tmpfiles: [...new Set(tmpfiles.map(({ path }) => basename(path)))],
    udev: some(/^(etc|usr\/lib)\/udev\/(rules|hwdb)\.d\//),
  };
}

/** Carries out the tasks, then stops, starts anew and starts units. @returns what failed, in words */
export async function tellSystem(
  tasks: Tasks,
  units: Pick<UnitPlan, 'restart' | 'start'>,
  context: Context,
): Promise<string[]> {
  const failed: string[] = [];
  const attempt = async (program: string, args: readonly string[], accept = [0]): Promise<void> => {
    try {
      await run(program, args, { ...context, accept, mayOutlive: true });
    } catch (error) {
      context.signal.throwIfAborted();
      const message = error instanceof Error ? error.message : String(error);
      failed.push(message);
      context.emit({ event: 'warning', message });
    }
  };
  if (tasks.ldconfig) await attempt('ldconfig', []);
  if (tasks.sysusers) await attempt('systemd-sysusers', []);
  if (tasks.daemonReload) await attempt('systemctl', ['daemon-reload']);
  // systemd-tmpfiles(8): 65 and 73 tell of lines that could not be carried out and of what was there.
  if (tasks.tmpfiles.length > 0) {
    await attempt('systemd-tmpfiles', ['--create', ...tasks.tmpfiles], [0, 65, 73]);
  }
  if (tasks.udev) await attempt('udevadm', ['control', '--reload']);
  for (const { unit } of units.restart) context.emit({ event: 'note', message: `restarting ${unit}` });
  failed.push(...(await ask('restart', units.restart, context)));
  failed.push(...(await ask('start', units.start, context)));
  return failed;
}

/** Has systemd start units, all at once: it knows their order. @returns which did not come up, in words */
async function ask(
  what: 'restart' | 'start',
  units: readonly UnitReason[],
  context: Context,
): Promise<string[]> {
  const names = units.map(({ unit }) => unit);
  if (names.length === 0) return [];
  const { stderr, status } = await run('systemctl', [what, '--', ...names], {
    ...context,
    mayOutlive: true,
    accept: [0, 1, 4, 5],
  });
  if (status === 0) return [];
  const wrong = stderr.split('\n').filter((line) => /^(Job for|Failed to|A dependency job)/.test(line));
  const failed = wrong.length === 0 ? [`systemctl ${what}: status ${status}`] : wrong;
  for (const message of failed) context.emit({ event: 'warning', message });
  return failed;
}

/** Stops units whose files are about to go. */
export async function stopUnits(units: readonly UnitReason[], context: Context): Promise<void> {
  for (const { unit } of units) await run('systemctl', ['stop', '--', unit], context);
}
