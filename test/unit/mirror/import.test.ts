import { describe, expect, test } from 'vitest';
import { importConfiguration } from '../../../src/mirror/import.ts';
import { siteSchema } from '../../../src/site/schema.ts';

/** What relive.yaml would be; it must be one that relive takes. */
function imported(path: string, text: string) {
  const result = importConfiguration(path, text, 'amd64');
  expect(siteSchema.safeParse({ version: 1, repositories: result.repositories }).error).toBeUndefined();
  return result;
}

describe('mirror.list', () => {
  const text = `
set base_path    /var/spool/apt-mirror
set nthreads     20
set limit_rate   500k
set unlink 1
# a comment
deb http://ftp.debian.org/debian trixie main contrib
deb-src http://ftp.debian.org/debian trixie main contrib
deb-arm64 http://ftp.debian.org/debian trixie main contrib
deb [arch=amd64,i386 signed-by=/etc/apt/keyrings/docker.asc] https://download.docker.com/linux/debian trixie stable
deb http://ftp.debian.org/debian trixie-updates main contrib
clean http://ftp.debian.org/debian
nonsense here
`;

  test('becomes repositories, and what is left is named', () => {
    const { format, repositories, left } = imported('mirror.list', text);
    expect(format).toBe('mirror.list');
    expect(repositories).toEqual({
      debian: {
        url: ['http://ftp.debian.org/debian'],
        suites: ['trixie', 'trixie-updates'],
        components: ['main', 'contrib'],
        architectures: ['amd64', 'arm64'],
        signedBy: '/usr/share/keyrings/debian-archive-keyring.gpg',
        select: 'all',
        kinds: ['packages', 'sources', 'translations'],
        transport: { parallel: 20, bandwidth: '500 kB/s' },
      },
      'debian-2': {
        url: ['https://download.docker.com/linux/debian'],
        suites: ['trixie'],
        components: ['stable'],
        architectures: ['amd64', 'i386'],
        signedBy: '/etc/apt/keyrings/docker.asc',
        select: 'all',
        kinds: ['packages', 'translations'],
        transport: { parallel: 20, bandwidth: '500 kB/s' },
      },
    });
    expect(left).toEqual([
      expect.stringContaining('clean http://ftp.debian.org/debian'),
      'line 13: nonsense here',
      'set unlink 1',
    ]);
  });
});

describe('sources.list', () => {
  test('one-line, with a flat repository and one without a key', () => {
    const { repositories, left } = imported(
      'sources.list',
      'deb http://ftp.debian.org/debian trixie main\ndeb [trusted=yes] https://example.org/apt ./\ndeb cdrom:[x]/ trixie main\n',
    );
    expect(repositories['apt']).toEqual({
      url: ['https://example.org/apt'],
      suites: ['./'],
      architectures: ['amd64'],
      signedBy: 'keys/apt.gpg',
      select: 'closure',
    });
    expect(left.join('\n')).toMatch(/trusted=yes[^]*cdrom[^]*names no key/);
  });

  test('deb822, with a key in it', () => {
    const { repositories, left, format } = imported(
      'vendor.sources',
      `# the vendor
Types: deb deb-src
URIs: https://example.org/debian-vendor
Suites: trixie trixie-backports
Components: main
Architectures: arm64
Check-Valid-Until: no
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8/wvZ6hUTiXOwQHXMAlaFHcPH9hAtr4F1y2+OYdbtMuth
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: https://example.org/off
Suites: trixie
Components: main
`,
    );
    expect(format).toBe('deb822');
    expect(repositories).toEqual({
      'debian-vendor': {
        url: ['https://example.org/debian-vendor'],
        suites: ['trixie', 'trixie-backports'],
        components: ['main'],
        architectures: ['arm64'],
        signedBy: expect.stringMatching(
          /^-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ[^]*-----END PGP PUBLIC KEY BLOCK-----\n$/,
        ),
        select: 'closure',
        kinds: ['packages', 'sources'],
      },
    });
    expect(left).toEqual([
      expect.stringContaining('check-valid-until'),
      expect.stringContaining('not enabled'),
    ]);
  });
});

test('debmirror.conf', () => {
  const { format, repositories, left } = imported(
    'debmirror.conf',
    `# the default
$mirrordir="/srv/mirror/debian";
$debug=0;
$download_method="http";
$host="ftp.debian.org";
$remoteroot="debian";
@dists="trixie,trixie-updates";
@sections="main,main/debian-installer,contrib";
@arches="amd64,arm64";
$do_source=1;
$i18n=1;
$getcontents=0;
@ignores="";
$rsync_extra="doc,tools";
1;
`,
  );
  expect(format).toBe('debmirror.conf');
  expect(repositories).toEqual({
    debian: {
      url: ['http://ftp.debian.org/debian'],
      suites: ['trixie', 'trixie-updates'],
      components: ['main', 'contrib'],
      architectures: ['amd64', 'arm64'],
      signedBy: '/usr/share/keyrings/debian-archive-keyring.gpg',
      select: 'all',
      kinds: ['packages', 'sources', 'udebs', 'translations'],
    },
  });
  expect(left.join()).toContain('rsync_extra');
});

test('anything else is refused', () => {
  expect(() => importConfiguration('x', 'hello: world\n', 'amd64')).toThrow('no configuration that is known');
});
