import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseManifest } from '../../src/image/manifest.ts';
import { runCommand } from '../fixtures/command.ts';
import {
  addFactory,
  type BuiltImage,
  build,
  bytesOf,
  factorySite,
  sameEverywhere,
} from '../fixtures/factory.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { repository, temporaryDirectory } from '../support.ts';

/**
 * Runs a shell script in the tree of an image, as it lies in the store: its layers below a writable one in RAM. `mirror`
 * of this machine is at /srv/relive/mirror, and `out` at /srv/relive/store.
 */
function inImage(
  store: string,
  image: BuiltImage,
  script: string,
  binds: { mirror: string; out: string },
): string {
  const at = temporaryDirectory();
  const layers = image.manifest.layers.map(({ digest }) =>
    join(store, 'live', `${digest.slice(0, 16)}.squashfs`),
  );
  const enter = [
    'set -e',
    'at=$1; mirror=$2; out=$3; script=$4; shift 4',
    'mount -t tmpfs -o size=8G tmpfs "$at"',
    'mkdir "$at/upper" "$at/work" "$at/root"; lower=',
    'for layer; do mkdir "$at/$#"; mount -t squashfs -o loop,ro "$layer" "$at/$#"; lower="$at/$#${lower:+:}$lower"; shift; done',
    'mount -t overlay -o "lowerdir=$lower,upperdir=$at/upper,workdir=$at/work" overlay "$at/root"',
    'mount -t proc proc "$at/root/proc"; mount -t sysfs -o ro sysfs "$at/root/sys"; mount --rbind /dev "$at/root/dev"',
    'mount -t tmpfs tmpfs "$at/root/tmp"; mount -t tmpfs tmpfs "$at/root/run"',
    // What the units of the profile mount in a system that has booted.
    'cd "$at/root/srv/relive"; mkdir -p mirror store .relive',
    'mount --bind "$mirror" mirror; mount --bind "$out" store; mount -t tmpfs tmpfs .relive',
    'cd /; exec chroot "$at/root" sh -euc "$script"',
  ].join('\n');
  return execFileSync(
    'unshare',
    [
      ...['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child=KILL', '--net', '--'],
      ...['sh', '-c', enter, 'sh', at, binds.mirror, binds.out, script, ...layers],
    ],
    {
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', LC_ALL: 'C.UTF-8' },
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1e8,
    },
  );
}

describe('a factory image', () => {
  let site: TestSite;
  let proof: BuiltImage;
  let factory: BuiltImage;

  beforeAll(async () => {
    // The stages of the demo are there already; only the packing is another one.
    site = await factorySite({ extends: ['demo'], hostname: 'demo', image: sameEverywhere });
    // How it is packed is not what is looked at.
    const fast = 'image: {compression: {algorithm: zstd, level: 1}}\n';
    appendFileSync(join(site.directory, 'profiles/factory.yaml'), fast);
    const lock = join(site.directory, 'locks/demo.amd64.json');
    writeFileSync(
      join(site.directory, 'locks/proof.amd64.json'),
      readFileSync(lock, 'utf8').replace('"profile": "demo"', '"profile": "proof"'),
    );
    proof = await build(site, 'proof');
    factory = await build(site, 'factory');
  });
  afterAll(() => removeSite(site));

  test('builds, offline and in a tree of its own, the same bytes as the host', () => {
    const out = temporaryDirectory();
    const said = inImage(
      join(site.directory, 'store'),
      factory,
      'cd /srv/relive; relive doctor --quiet; relive keys create; relive build proof --offline --locked; relive image verify',
      { mirror: site.mirror, out },
    );
    expect(said).toMatch(/: ok\n$/);
    const images = join(out, 'images/proof');
    const file = join(images, readdirSync(images)[0] ?? '', 'manifest.json');
    const made = parseManifest(readFileSync(file, 'utf8'), file);
    expect(bytesOf(made)).toEqual(bytesOf(proof.manifest));
    // What the manifests say is what lies there.
    for (const { digest } of made.layers) {
      const name = `live/${digest.slice(0, 16)}.squashfs`;
      execFileSync('cmp', [join(out, name), join(site.directory, 'store', name)]);
    }
  });

  test("has the site's public part and no private key", () => {
    const listed = inImage(
      join(site.directory, 'store'),
      factory,
      'cd /srv/relive; find . -xdev | sort; echo ==; cat relive.yaml; echo ==; grep -rlE "BEGIN [A-Z ]*PRIVATE KEY" /srv /etc /root /home /var /usr/share/relive/profiles || true; find / -xdev -name private-keys-v1.d -o -xdev -name "*secring*"',
      { mirror: site.mirror, out: temporaryDirectory() },
    );
    const [paths = '', yaml = '', secrets = ''] = listed.split('==\n');
    for (const path of [
      ...['./relive.yaml', './profiles/factory.yaml', './profiles/demo.yaml', './locks/proof.amd64.json'],
      ...['./overlays/demo/etc/issue', './keys/public.asc', './keyrings/debian.gpg'],
    ]) {
      expect(paths.split('\n')).toContain(path);
    }
    expect(paths).not.toContain('gnupg');
    expect(yaml).not.toContain(site.mirror);
    expect(yaml).toContain('signedBy: keyrings/debian.gpg');
    expect(secrets.trim()).toBe('');
  });
});

describe('a factory is refused', () => {
  let site: TestSite;
  beforeAll(async () => {
    site = await freshSite({ cache: true });
    addFactory(site);
  });
  afterAll(() => removeSite(site));

  /** Builds with a file of relive's own changed for this one process. */
  async function refused(hide: readonly [string, string] = ['/dev/null', '/dev/null']) {
    const through = ['unshare', '--mount', '--propagation', 'private', '--', 'sh', '-c'];
    const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';
    return await runCommand(['build', 'factory'], {
      site: site.directory,
      through: [...through, script, 'sh', ...hide],
    });
  }

  test('where a file of the site has a private key in it, before anything is built', async () => {
    const file = join(site.directory, 'overlays/demo/etc/key.pem');
    writeFileSync(file, '-----BEGIN EC PRIVATE KEY-----\n');
    const { status, last } = await refused();
    rmSync(file);
    expect({ status, last }).toMatchObject({ status: 2, last: { code: 'configuration' } });
    expect(last?.['message']).toContain(`${file} has a private key in it`);
    expect(existsSync(join(site.directory, 'store'))).toBe(false);
  });

  test('where the package is missing', async () => {
    const empty = temporaryDirectory();
    mkdirSync(join(repository, 'build'), { recursive: true });
    const { status, last } = await refused([empty, join(repository, 'build')]);
    expect({ status, last }).toMatchObject({ status: 2, last: { code: 'not-found' } });
    expect(last?.['hint']).toContain('npm run package');
  });

  test('where the package is of another relive', async () => {
    const changed = join(temporaryDirectory(), 'health');
    writeFileSync(changed, '#!/bin/sh\n');
    const { status, last } = await refused([changed, join(repository, 'runtime/health/relive-health')]);
    expect({ status, last }).toMatchObject({ status: 2, last: { code: 'configuration' } });
    expect(last?.['message']).toContain('runtime/health/relive-health differs');
  });
});
