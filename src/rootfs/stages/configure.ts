import { copyFile, readFile, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { ReliveError } from '../../core/error.ts';
import { exists, makeDirectories, sha256 } from '../../host/files.ts';
import { parseXkbNames, xkbNamesFile } from '../../host/xkb.ts';
import { nearest } from '../../site/nearest.ts';
import type { Profile } from '../../site/profile.ts';
import type { AptSource } from '../apt.ts';
import { needsLocales } from '../base.ts';
import type { Chroot } from '../chroot.ts';
import type { Stage } from '../layers.ts';
import { writeInside } from '../links.ts';

export interface ConfigureOptions {
  readonly profile: Profile;
  /** With upstream's addresses, for the finished system. */
  readonly sources: readonly AptSource[];
  readonly sourceDateEpoch: number;
}

/** Host name, locale, time zone, keyboard, users, services and APT sources of the system. */
export async function configureStage({
  profile,
  sources,
  sourceDateEpoch,
}: ConfigureOptions): Promise<Stage> {
  const { hostname, locale, timezone, keyboard, users, services } = profile;
  const keyrings = await Promise.all(sources.map(async ({ keyring }) => sha256(await readFile(keyring))));
  return {
    name: 'configure',
    inputs: {
      ...{ hostname, locale, timezone, users, services, sources, keyrings, sourceDateEpoch },
      ...(keyboard === undefined ? {} : { keyboard }),
    },
    work: async ({ root, chroot: enter }) => {
      const chroot = await enter();
      const environment = { SOURCE_DATE_EPOCH: String(sourceDateEpoch) };
      await writeInside(root, 'etc/hostname', `${hostname}\n`);
      await writeInside(root, 'etc/hosts', hostsFile(hostname));
      await writeInside(
        root,
        'etc/fstab',
        '# a live system: the root is the image, data are linked in by relive\n',
      );
      await writeSources(root, sources);
      await setLocale(chroot, locale);
      await rm(join(root, 'etc/localtime'), { force: true });
      await symlink(`/usr/share/zoneinfo/${timezone}`, join(root, 'etc/localtime'));
      await writeInside(root, 'etc/timezone', `${timezone}\n`);
      if (keyboard !== undefined) await setKeyboard(chroot, keyboard);
      for (const user of users) await addUser(chroot, user, environment);
      await setServices(chroot, services);
    },
  };
}

function hostsFile(hostname: string): string {
  return [
    '127.0.0.1\tlocalhost',
    `127.0.1.1\t${hostname}`,
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    '',
  ].join('\n');
}

/** deb822-style sources (sources.list(5)) of the repositories, with their keyrings copied into the system. */
async function writeSources(root: string, sources: readonly AptSource[]): Promise<void> {
  await makeDirectories(join(root, 'etc/apt/keyrings'));
  const stanzas: string[] = [];
  for (const { repository, uri, suite, components, keyring } of sources) {
    const ending = keyring.endsWith('.asc') ? 'asc' : 'gpg';
    const own = `/etc/apt/keyrings/relive-${basename(repository)}.${ending}`;
    await copyFile(keyring, join(root, own));
    stanzas.push(
      `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: ${components.join(' ')}\nSigned-By: ${own}\n`,
    );
  }
  await writeInside(root, 'etc/apt/sources.list.d/relive.sources', stanzas.join('\n'));
}

async function setLocale(chroot: Chroot, locale: string): Promise<void> {
  // At each boot systemd of trixie makes the other name, which PAM reads, a link to this one (tmpfiles.d, debian.conf).
  await writeInside(chroot.root, 'etc/locale.conf', `LANG=${locale}\n`);
  const other = join(chroot.root, 'etc/default/locale');
  await rm(other, { force: true });
  await symlink('../locale.conf', other);
  if (!needsLocales(locale)) return;
  const encoding = locale.split('.')[1] ?? 'ISO-8859-1';
  await writeInside(chroot.root, 'etc/locale.gen', `${locale} ${encoding.split('@')[0] ?? encoding}\n`);
  await chroot.run('locale-gen', [], { onLine: () => undefined });
}

/** keyboard(5). What console-setup keeps of it, so that a boot need not compile it, is made anew: it is of another one. */
async function setKeyboard(
  chroot: Chroot,
  { layout, variant = '', model = 'pc105', options = [] }: NonNullable<Profile['keyboard']>,
): Promise<void> {
  await requireLayouts(chroot.root, layout, variant);
  const words = [
    ['XKBMODEL', model],
    ['XKBLAYOUT', layout],
    ['XKBVARIANT', variant],
    ['XKBOPTIONS', options.join(',')],
    ['BACKSPACE', 'guess'],
  ];
  const text = words.map(([name, value]) => `${name}="${value}"\n`).join('');
  await writeInside(chroot.root, 'etc/default/keyboard', text);
  await chroot.run('setupcon', ['--save-only'], { onLine: () => undefined });
}

/** Layouts and variants must be among those that xkb-data lists in the system. */
async function requireLayouts(root: string, layouts: string, variants: string): Promise<void> {
  const names = parseXkbNames(await readFile(join(root, xkbNamesFile), 'utf8'));
  for (const [index, layout] of layouts.split(',').entries()) {
    refuseUnknown('layout', layout, [...names.keys()]);
    const variant = variants.split(',')[index] ?? '';
    if (variant !== '') refuseUnknown('variant', variant, names.get(layout) ?? []);
  }
}

function refuseUnknown(what: 'layout' | 'variant', name: string, known: readonly string[]): void {
  if (known.includes(name)) return;
  const near = nearest(name, known);
  throw new ReliveError(
    'configuration',
    `keyboard: ${what}: the system has no ${JSON.stringify(name)}${near === undefined ? '' : `; did you mean ${near}?`}`,
    { hint: `/${xkbNamesFile} of the package xkb-data lists layouts and their variants` },
  );
}

async function addUser(
  chroot: Chroot,
  { name, uid, password, sshKeys, groups, shell, comment }: Profile['users'][number],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const options = [
    ...(comment === undefined ? [] : ['--comment', comment]),
    ...(shell === undefined ? [] : ['--shell', shell]),
  ];
  if (name !== 'root') {
    const number = uid === undefined ? [] : ['--uid', String(uid)];
    const defaultShell = shell === undefined ? ['--shell', '/bin/bash'] : [];
    await chroot.run(
      'useradd',
      ['--create-home', '--user-group', ...number, ...defaultShell, ...options, name],
      { env },
    );
  } else if (options.length > 0) await chroot.run('usermod', [...options, name], { env });
  if (groups !== undefined && groups.length > 0) {
    await chroot.run('usermod', ['--append', '--groups', groups.join(','), name], { env });
  }
  // By standard input: an argument would stand in the process list.
  if (password !== undefined)
    await chroot.run('chpasswd', ['--encrypted'], { env, input: `${name}:${password}\n` });
  if (sshKeys !== undefined && sshKeys.length > 0) {
    const home = name === 'root' ? '/root' : `/home/${name}`;
    await chroot.run('install', ['-d', '-m', '700', '-o', name, '-g', name, `${home}/.ssh`]);
    await chroot.run(
      'install',
      ['-m', '600', '-o', name, '-g', name, '/dev/stdin', `${home}/.ssh/authorized_keys`],
      {
        input: `${sshKeys.join('\n')}\n`,
      },
    );
  }
}

async function setServices(chroot: Chroot, { enable, disable, mask }: Profile['services']): Promise<void> {
  const [first] = [...enable, ...disable, ...mask];
  if (first === undefined) return;
  if (!(await exists(join(chroot.root, 'usr/bin/systemctl')))) {
    throw new ReliveError('configuration', `services: ${first}: the system has no systemd`, {
      hint: 'a container has none unless its profile names one: add systemd-sysv to "packages"',
    });
  }
  for (const [verb, units] of [
    ['enable', enable],
    ['disable', disable],
    ['mask', mask],
  ] as const) {
    for (const unit of units) {
      const name = /\.[a-z]+$/.test(unit) ? unit : `${unit}.service`;
      if (verb !== 'mask' && !(await hasUnit(chroot.root, name))) {
        throw new ReliveError(
          'configuration',
          `services: ${verb}: no package or overlay of the profile brings ${name}`,
          {
            hint: 'add the package to "packages", or correct the name',
          },
        );
      }
      await chroot.run('systemctl', [verb, name], { onLine: () => undefined });
    }
  }
}

async function hasUnit(root: string, unit: string): Promise<boolean> {
  // An instance comes from its template: getty@tty1.service from getty@.service.
  const names = [unit, unit.replace(/@[^.]*\./, '@.')];
  for (const directory of ['etc/systemd/system', 'usr/lib/systemd/system', 'etc/init.d']) {
    for (const name of names) {
      const file = directory === 'etc/init.d' ? name.replace(/\.service$/, '') : name;
      if (await exists(join(root, directory, file))) return true;
    }
  }
  return false;
}
