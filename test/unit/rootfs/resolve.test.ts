import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AptSource } from '../../../src/rootfs/apt.ts';
import { parseUri, resolvePackages } from '../../../src/rootfs/resolve.ts';
import { makeSigningKey, type SigningKey } from '../../fixtures/signing.ts';
import { publishUpstream } from '../../fixtures/upstream.ts';
import { recordingContext, temporaryDirectory } from '../../support.ts';

const digest = 'a'.repeat(64);
const debian: AptSource = {
  repository: 'debian',
  uri: 'file:/srv/mirror/debian',
  suite: 'trixie',
  components: ['main'],
  keyring: '/k.gpg',
};
const security: AptSource = {
  ...debian,
  repository: 'debian-security',
  uri: 'file:/srv/mirror/debian-security',
};
const sources = [debian, security];

describe('parseUri', () => {
  test('reads a line of apt', () => {
    const line = `'file:/srv/mirror/debian/pool/main/d/dbus/dbus_1.16.2-2_amd64.deb' dbus_1.16.2-2_amd64.deb 71588 SHA256:${digest}`;
    expect(parseUri(line, sources)).toEqual({
      name: 'dbus',
      version: '1.16.2-2',
      architecture: 'amd64',
      repository: 'debian',
      path: 'pool/main/d/dbus/dbus_1.16.2-2_amd64.deb',
      size: 71_588,
      sha256: digest,
    });
  });

  test('epochs stand in the file name as %3a; a plus is a plus', () => {
    const line = `'file:/srv/mirror/debian-security/pool/updates/main/l/linux/libstdc%2b%2b6_14-1_all.deb' libstdc++6_1%3a14-1+deb13u1~x_all.deb 1 SHA256:${digest}`;
    expect(parseUri(line, sources)).toMatchObject({
      name: 'libstdc++6',
      version: '1:14-1+deb13u1~x',
      architecture: 'all',
      repository: 'debian-security',
      path: 'pool/updates/main/l/linux/libstdc++6_14-1_all.deb',
    });
  });

  test.each([
    ['no digest', `'file:/srv/mirror/debian/pool/x_1_all.deb' x_1_all.deb 1 `],
    ['a weak digest', `'file:/srv/mirror/debian/pool/x_1_all.deb' x_1_all.deb 1 MD5Sum:${'a'.repeat(32)}`],
    ['another place', `'http://elsewhere.example/pool/x_1_all.deb' x_1_all.deb 1 SHA256:${digest}`],
    [
      'a place that begins alike',
      `'file:/srv/mirror/debian2/pool/x_1_all.deb' x_1_all.deb 1 SHA256:${digest}`,
    ],
    ['no size', `'file:/srv/mirror/debian/pool/x_1_all.deb' x_1_all.deb  SHA256:${digest}`],
    ['no architecture', `'file:/srv/mirror/debian/pool/x_1.deb' x_1.deb 1 SHA256:${digest}`],
    ['more on the line', `'file:/srv/mirror/debian/pool/x_1_all.deb' x_1_all.deb 1 SHA256:${digest} x`],
  ])('refuses %s', (_, line) => {
    expect(() => parseUri(line, sources)).toThrow('apt offers a package without SHA-256 or from elsewhere');
  });

  test('any name, version and path that Debian allows comes back', () => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9+.-]{1,20}$/);
    const version = fc.stringMatching(/^(\d{1,2}:)?\d[A-Za-z0-9.+~-]{0,15}$/);
    const directory = fc.stringMatching(/^[a-z][A-Za-z0-9+~-]{0,10}$/);
    fc.assert(
      fc.property(name, version, directory, (...[given, number, below]) => {
        const file = `${given}_${number.replace(':', '%3a')}_amd64.deb`;
        const path = `pool/${below}/${given}_x_amd64.deb`;
        const uri = `${debian.uri}/${path.replaceAll('+', '%2b').replaceAll('~', '%7e')}`;
        expect(parseUri(`'${uri}' ${file} 7 SHA256:${digest}`, sources)).toMatchObject({
          name: given,
          version: number,
          path,
          size: 7,
        });
      }),
    );
  });
});

describe('a name that no repository has', () => {
  let key: SigningKey;
  beforeAll(() => {
    key = makeSigningKey();
  });
  afterAll(() => key.remove());

  /** The error for a wanted package, in an archive with these. */
  async function refusal(present: readonly string[], ...wanted: readonly string[]): Promise<unknown> {
    const directory = temporaryDirectory();
    const files = new Map<string, Buffer>();
    publishUpstream(files, 'trixie', key, { packages: present.map((name) => ({ name })), byHash: false });
    for (const [path, content] of files) {
      mkdirSync(dirname(join(directory, path)), { recursive: true });
      writeFileSync(join(directory, path), content);
    }
    return await resolvePackages(
      {
        sources: [{ ...debian, uri: `file:${directory}`, keyring: key.keyring }],
        architecture: 'amd64',
        recommends: false,
        wanted: wanted.map((name, index) => ({
          name,
          why: 'profile' as const,
          from: `profiles/kiosk.yaml:${index + 7}:5`,
        })),
        directory: join(directory, 'apt'),
      },
      recordingContext(),
    ).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  const archive = ['nginx', 'nginx-light', 'nginx-lightest', 'less', 'libc6', 'libc7', 'apt'];

  test.each([
    ['ngnx', 'did you mean nginx?'],
    ['nginxx', 'did you mean nginx?'],
    ['nginx_light', 'did you mean nginx-light?'],
    ['nginx-lihgt', 'did you mean nginx-light?'],
    ['libc8', 'did you mean libc6, libc7?'],
  ])('%s: %s', async (name, says) => {
    expect(await refusal(archive, 'less', name)).toMatchObject({
      code: 'unknown-package',
      message: `profiles/kiosk.yaml:8:5: no package "${name}"; ${says}`,
      hint: 'searched in debian (trixie main)',
    });
  });

  test('nothing near is suggested where nothing is; each name has its line', async () => {
    expect(await refusal(archive, 'emacs', 'less', 'vi')).toMatchObject({
      message: 'profiles/kiosk.yaml:7:5: no package "emacs"\nprofiles/kiosk.yaml:9:5: no package "vi"',
    });
  });
});
