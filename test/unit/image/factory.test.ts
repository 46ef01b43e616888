import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { refusePrivateKeys, writePublicSite } from '../../../src/image/factory.ts';
import { wantedPackages } from '../../../src/rootfs/base.ts';
import { loadProfile } from '../../../src/site/profile.ts';
import { loadSite, type Site } from '../../../src/site/site.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';

let directory = '';

function put(path: string, content: string): void {
  const file = join(directory, path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, content);
}

const profile = (more: string): string =>
  `version: 1\nsuite: trixie\narchitecture: amd64\nhost: virtual-machine\nrepositories: [debian]\n${more}`;

beforeEach(() => {
  directory = join(temporaryDirectory(), 'site');
  put(
    'relive.yaml',
    `# Ours.
version: 1
mirror: ../mirror
keys: ../keys
cache: /var/cache/site
repositories:
  debian:
    url: [http://ftp.debian.org/debian]     # the nearest
    suites: [trixie, bookworm]
    components: [main]
    architectures: [amd64]
    signedBy: ../archive.gpg
  vendor:
    url: [http://ftp.example.org/vendor]
    suites: [stable]
    components: [main]
    architectures: [amd64]
    signedBy: vendor.asc
    transport: {ca: tls/ca.pem, certificate: tls/us.pem, key: tls/us.key, parallel: 2}
`,
  );
  put('../archive.gpg', 'archive');
  put('vendor.asc', 'vendor');
  put('tls/ca.pem', 'ca');
  put('tls/us.pem', 'certificate');
  put('tls/us.key', '-----BEGIN PRIVATE KEY-----\n');
  put('../keys/public.asc', 'public');
  put('../keys/gnupg/private-keys-v1.d/A.key', 'secret');
  put('profiles/factory.yaml', profile('factory: true\n'));
  put('overlays/one/etc/issue', 'hello\n');
  put('locks/factory.amd64.json', '{}\n');
  put('notes.txt', 'not for others\n');
});

async function written(): Promise<{ readonly home: string; readonly told: readonly string[] }> {
  const target = join(directory, '../target');
  const context = recordingContext();
  await writePublicSite(await loadSite(directory), target, context);
  const told = context.events.flatMap((event) => (event.event === 'warning' ? event.message : []));
  return { home: join(target, 'srv/relive'), told };
}

describe('the public part of a site', () => {
  test('is what images are made of, and nothing else', async () => {
    symlinkSync('issue', join(directory, 'overlays/one/etc/issue.net'));
    const { home } = await written();
    const files = readdirSync(home, { recursive: true, encoding: 'utf8' }).filter(
      (path) => !statSync(join(home, path)).isDirectory(),
    );
    expect(files.toSorted()).toEqual([
      ...['keyrings/debian.gpg', 'keyrings/vendor.asc', 'keyrings/vendor.ca.pem', 'keys/public.asc'],
      ...['locks/factory.amd64.json', 'overlays/one/etc/issue', 'overlays/one/etc/issue.net'],
      ...['profiles/factory.yaml', 'relive.yaml'],
    ]);
  });

  test('has a relive.yaml of its own places, with the keys that it brings and the comments of ours', async () => {
    const { home, told } = await written();
    const text = readFileSync(join(home, 'relive.yaml'), 'utf8');
    expect(text).toContain('# Ours.');
    expect(text).toContain('# the nearest');
    expect(parse(text)).toMatchObject({
      version: 1,
      repositories: {
        debian: { signedBy: 'keyrings/debian.gpg' },
        vendor: { signedBy: 'keyrings/vendor.asc', transport: { ca: 'keyrings/vendor.ca.pem', parallel: 2 } },
      },
    });
    for (const word of ['mirror:', 'keys:', 'cache:', 'us.key', 'us.pem']) expect(text).not.toContain(word);
    expect(told).toEqual([
      expect.stringContaining('vendor: its client certificate does not go into the image'),
    ]);
    // It is a site, and its profile a whole one.
    const site: Site = await loadSite(home);
    expect(await loadProfile(site, 'factory')).toMatchObject({ factory: true });
  });
});

describe('a private key', () => {
  test.each([
    '-----BEGIN PRIVATE KEY-----',
    '-----BEGIN OPENSSH PRIVATE KEY-----',
    '-----BEGIN PGP PRIVATE KEY BLOCK-----',
    '\u0000binary\n-----BEGIN RSA PRIVATE KEY-----',
  ])('is refused: %j', async (text) => {
    put('overlays/one/etc/tls.pem', text);
    await expect(refusePrivateKeys(await loadSite(directory))).rejects.toMatchObject(
      errorLike('configuration', join(directory, 'overlays/one/etc/tls.pem')),
    );
  });

  test('outside of what goes along is no matter', async () => {
    await expect(refusePrivateKeys(await loadSite(directory))).resolves.toBeUndefined();
  });
});

test('a factory has Node.js and what relive drives, save what it only suggests', async () => {
  const names = wantedPackages(await loadProfile(await loadSite(directory), 'factory')).map(
    ({ name }) => name,
  );
  expect(names).toEqual(expect.arrayContaining(['nodejs', 'mmdebstrap', 'grub-pc-bin', 'qemu-system-x86']));
  expect(names).not.toContain('debmirror');
});

test('a factory of bookworm is refused, whose Node.js is too old', async () => {
  put('profiles/old.yaml', profile('factory: true\n').replace('suite: trixie', 'suite: bookworm'));
  await expect(loadProfile(await loadSite(directory), 'old')).rejects.toMatchObject(
    errorLike(
      'configuration',
      'old.yaml:6:10: factory: found the boolean true; allowed: false with bookworm',
    ),
  );
});
