import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as syntax from '../../../src/site/syntax.ts';

const ed25519 =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS admin@example.org';
const sha512 =
  '$6$relivedemo$mqnAdF8wNSL43FE1TtScOS2/jNg2ACc9eYduHeYt8uWbU6rg9YF4z4y/w6AuTTcT5OoIip5R1dIXi2rShcc8a/';
const yescrypt = '$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7';
const armour = '-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----\n';

/** By check: what it takes, and what it refuses besides what every one refuses (below). */
const samples: Readonly<
  Record<string, { readonly takes: readonly string[]; readonly refuses: readonly string[] }>
> = {
  packageName: {
    takes: ['g++', 'libstdc++6', '7zip', 'no', 'linux-image-6.12', '0ad', 'r-base'],
    refuses: [
      'a',
      'Foo',
      'foo-',
      'foo_bar',
      'foo=1',
      'foo/trixie',
      'foo:i386',
      '+x',
      'foo*',
      '?installed',
      '~i',
    ],
  },
  profileName: {
    takes: ['demo', 'lab-2', '0', 'a'.repeat(63)],
    refuses: ['Demo', 'a.b', 'a_b', 'a--b', 'a-', 'a'.repeat(64)],
  },
  archiveUrl: {
    takes: [
      'http://ftp.debian.org/debian',
      'https://[::1]:8080/debian/',
      'http://10.0.0.1:3142/ftp.debian.org/debian',
    ],
    refuses: [
      ...[
        'http://user:pass@host/debian',
        'file:///srv',
        'http://host/../x',
        'http://host/%2e%2e/x',
        'http:///debian',
      ],
      ...[
        'http://host/debian?x',
        'http://host/#x',
        'http://host:99999/',
        'ftp://host/debian',
        'http://-o/debian',
      ],
    ],
  },
  suiteName: {
    takes: ['trixie', 'bookworm-updates', 'bullseye/updates', 'stable'],
    refuses: ['./', 'a//b', '/a', 'a/'],
  },
  componentName: { takes: ['main', 'non-free-firmware', 'main/debug'], refuses: ['[x]', 'a/'] },
  userName: {
    takes: ['demo', '_apt', 'www-data', 'a'.repeat(32)],
    refuses: ['Demo', '0day', 'a:b', 'a,b', 'a.b', 'a'.repeat(33), 'root$', '+'],
  },
  groupName: { takes: ['adm', 'systemd-journal'], refuses: ['Adm', 'a,b', '1'] },
  passwordHash: {
    takes: [
      sha512,
      yescrypt,
      '$6$rounds=656000$salt$hash',
      '$2b$05$abcdefghijklmnopqrstuuZx0yIGNWS3EOrFmL3l9Wn3Cw8/RwVGi',
    ],
    refuses: ['demo', '!', '*', '$1$salt$hash', `${sha512}:0`, '$6$', 'a$6$b$c', '$7$x$y'],
  },
  sshKey: {
    takes: [ed25519, ed25519.split(' ').slice(0, 2).join(' ')],
    refuses: [
      ...['ssh-ed25519', 'ssh-ed25519 x', 'ssh-dss AAAAB3NzaC1kc3M=', `command="x" ${ed25519}`],
      ed25519.replace('ssh-ed25519', 'ssh-rsa'),
    ],
  },
  shellPath: {
    takes: ['/bin/bash', '/usr/sbin/nologin'],
    refuses: ['bash', '/bin/../x', '/', '/bin/', '/bin/a:b'],
  },
  userComment: { takes: ['Jürgen, room 5', ''], refuses: ['a:b', '--root'] },
  hostName: {
    takes: ['demo', 'a.example.org', '3com', 'A-1'],
    refuses: ['a_b', 'a.', '.a', 'a-', 'a'.repeat(65), 'a'.repeat(64), 'a..b'],
  },
  localeName: {
    takes: ['C.UTF-8', 'C', 'de_DE.UTF-8', 'ca_ES.UTF-8@valencia'],
    refuses: ['de', 'german', 'de_DE.', '../C'],
  },
  timezoneName: {
    takes: ['Etc/UTC', 'UTC', 'Europe/Berlin', 'America/Argentina/Ushuaia', 'US/Pacific', 'Etc/GMT+5'],
    refuses: ['europe/berlin', 'Europe/Berln', 'Mars/Base', '+01:00', '/etc/passwd', 'Europe/'],
  },
  unitName: {
    takes: ['ssh', 'ssh.service', 'getty@tty1', 'serial-getty@ttyS0.service', 'dev-disk-by\\x2dlabel-X.swap'],
    refuses: ['a/b', '.x', 'a\\b', '@', '*.service', 'a..b'],
  },
  kernelParameter: {
    takes: ['quiet', 'console=ttyS0,115200', 'i915.modeset=0', 'systemd.unit=rescue.target', 'x=a=b'],
    refuses: [
      ...[
        'boot=live',
        'root=/dev/sda',
        'relive.digest=1',
        'initrd=x',
        'module=x',
        'a;b',
        'a=$x',
        'a="b c"',
        "a='b'",
      ],
      ...['a{b}', 'a=\\', '=x', 'a>b', 'a&b', 'a|b', 'a#b', 'a`b`'],
    ],
  },
};

/** What no accepted text may hold, whatever it is for. */
function isDangerous(name: string, text: string): boolean {
  if (/^-|\p{Cc}|\p{Zl}|\p{Zp}/u.test(text)) return true;
  // These end in files with a field of their own, in one line; "$" and "/" belong to a hash.
  if (name === 'userComment' || name === 'sshKey') return false;
  if (/[ ;`"'&|<>]/.test(text)) return true;
  if (name === 'passwordHash') return false;
  return text.includes('$') || (name !== 'kernelParameter' && `/${text}/`.includes('/../'));
}

const checks = Object.entries(samples).map(([name, sample]) => {
  const schema = Object.entries(syntax).find(([key]) => key === name)?.[1];
  if (typeof schema !== 'object' || !('safeParse' in schema)) throw new Error(`${name} is no check`);
  return { name, sample, accepts: (text: string) => schema.safeParse(text).success };
});

describe.each(checks)('$name', ({ name, sample, accepts }) => {
  test.each(sample.takes)('takes %j', (text) => {
    expect(accepts(text)).toBe(true);
  });

  test.each([...sample.refuses, '-x', '--option', 'a\nb', 'a\u0000', '\u001b[31m', '..', '../x', 'a\u2028b'])(
    'refuses %j',
    (text) => {
      // A comment may hold anything that is harmless in a field of passwd(5).
      if (name === 'userComment' && text.startsWith('..')) return;
      expect(accepts(text)).toBe(false);
    },
  );

  test('takes nothing that could be an option, a second word or line, or a way out of a directory', () => {
    const near = fc
      .tuple(
        fc.constantFrom(...sample.takes),
        fc.nat(),
        fc.constantFrom(
          '\n',
          '\r',
          '\t',
          '\u0000',
          ' ',
          '/../',
          ';',
          '$(x)',
          '`',
          '"',
          "'",
          '\\',
          '-',
          '..',
          ':',
          ',',
          '=',
        ),
      )
      .map(([text, at, part]) => {
        const index = at % (text.length + 1);
        return text.slice(0, index) + part + text.slice(index);
      });
    fc.assert(
      fc.property(fc.oneof(near, fc.string({ maxLength: 30 })), (text) => {
        expect(accepts(text) && isDangerous(name, text)).toBe(false);
      }),
      { numRuns: 500 },
    );
  });
});

function takesSigner(text: string): boolean {
  return syntax.signedBy.safeParse(text).success;
}

test('signedBy takes paths and armoured keys', () => {
  expect(takesSigner('/usr/share/keyrings/debian-archive-keyring.gpg')).toBe(true);
  expect(takesSigner(armour)).toBe(true);
  expect(takesSigner('')).toBe(false);
  expect(takesSigner('a\nb')).toBe(false);
  expect(takesSigner('-----BEGIN PGP PUBLIC KEY BLOCK-----\n')).toBe(false);
  expect(takesSigner(armour.replace('mDMEZ', '\u001b'))).toBe(false);
});

test('takes the hashes that the tools of this host make', () => {
  const hashes = ['-5', '-6'].map((method) => {
    return execFileSync('openssl', ['passwd', method, 'secret'], { encoding: 'utf8' }).trim();
  });
  expect(hashes.filter((hash) => !syntax.passwordHash.safeParse(hash).success)).toEqual([]);
});
