import { describe, expect, test } from 'vitest';
import { archivesOf, type IndexTarget, parseIndexTargets } from '../../../src/site/apt.ts';

const target = (url: string, suite: string, more: Partial<IndexTarget> = {}): IndexTarget => ({
  url,
  suite,
  component: 'main',
  origin: '',
  label: '',
  ...more,
});

describe('parseIndexTargets', () => {
  test('reads lines; what apt does not know is empty', () => {
    const output =
      'http://ftp.debian.org/debian/\tbookworm\tmain\tDebian\tDebian\n' +
      'http://ftp.debian.org/debian/\ttrixie\tcontrib\t$(ORIGIN)\t$(LABEL)\n';
    expect(parseIndexTargets(output)).toEqual([
      target('http://ftp.debian.org/debian', 'bookworm', { origin: 'Debian', label: 'Debian' }),
      target('http://ftp.debian.org/debian', 'trixie', { component: 'contrib' }),
    ]);
    expect(parseIndexTargets('')).toEqual([]);
  });
});

describe('archivesOf', () => {
  test('takes the first archive of Debian and of its security', () => {
    expect(
      archivesOf([
        target('https://vendor.example/debian', 'bookworm', { origin: 'Vendor' }),
        target('http://sec.example/x', 'bookworm-security', { origin: 'Debian', label: 'Debian-Security' }),
        target('http://one.example/mirror', 'bookworm', { origin: 'Debian', label: 'Debian' }),
        target('http://two.example/debian', 'bookworm', { origin: 'Debian', label: 'Debian' }),
      ]),
    ).toEqual({ debian: 'http://one.example/mirror', security: 'http://sec.example/x' });
  });

  test('knows archives that apt has not looked into by suite, component and path', () => {
    expect(
      archivesOf([
        target('https://download.vendor.example/linux/debian', 'bookworm', { component: 'stable' }),
        target('http://archive.example/ubuntu', 'noble'),
        target('http://ftp.debian.org/debian-security', 'trixie-security'),
        target('http://ftp.debian.org/debian', 'trixie-updates'),
      ]),
    ).toEqual({ debian: 'http://ftp.debian.org/debian', security: 'http://ftp.debian.org/debian-security' });
  });

  test('takes no address that relive cannot use, nor one with a password', () => {
    expect(
      archivesOf([
        target('cdrom:[Debian]', 'trixie', { origin: 'Debian', label: 'Debian' }),
        target('file:/srv/debian', 'trixie', { origin: 'Debian', label: 'Debian' }),
        target('http://me:secret@host/debian', 'trixie', { origin: 'Debian', label: 'Debian' }),
      ]),
    ).toEqual({ debian: undefined, security: undefined });
  });
});
