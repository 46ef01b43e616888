import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findCompressed } from '../../../src/rootfs/initrd.ts';
import { runCommand, stagesOf, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';
import { repository, temporaryDirectory } from '../../support.ts';

let site: TestSite;

beforeAll(async () => {
  site = await freshSite({ cache: true });
});
afterAll(() => removeSite(site));

function profile(name: string, text: string): void {
  writeFileSync(join(site.directory, `profiles/${name}.yaml`), `version: 1\n${text}`);
}

/** How it is packed is not what is looked at. */
const fast = 'compression: {algorithm: zstd, level: 1}';

interface Image {
  readonly directory: string;
  readonly manifest: {
    readonly layers: readonly { readonly digest: string }[];
    readonly sourceDateEpoch: number;
    readonly packages: readonly { readonly name: string }[];
  };
}

async function show(name: string): Promise<Image> {
  return (await succeed(['image', 'show', name], { site: site.directory })).last as unknown as Image;
}

test('every package that a shipped profile names is in Debian', async () => {
  const names = readdirSync(join(repository, 'profiles'));
  for (const name of names) profile(`own-${name}`, `extends: [${name}]\n`);
  // Their indices: what demo's mirror lacks is the component with the firmware.
  await succeed(['mirror', 'sync', 'debian'], { site: site.directory });
  const own = names.map((name) => `own-${name}`);
  const { status, lines } = await runCommand(['profile', 'check', ...own], { site: site.directory });
  expect(lines.filter(({ event }) => event === 'finding')).toEqual([]);
  expect(status).toBe(0);
  expect(lines.filter(({ message }) => String(message).includes('names of its packages'))).toEqual([]);
});

describe('minimal, with another compression of the initrd', () => {
  test('is built; the initrd is lzop, without the time of the run', async () => {
    profile('small', `extends: [minimal]\nimage: {${fast}, initrd: {algorithm: lzo, level: 1}}\n`);
    const end = await succeed(['build', 'small'], { site: site.directory });
    expect(stagesOf(end)).toContain('bootstrap cached');
    const { directory, manifest } = await show('small');
    expect(manifest.packages.map(({ name }) => name)).toContain('lzop');
    const initrd = readFileSync(join(directory, 'initrd.img'));
    const { algorithm, offset } = findCompressed(initrd);
    expect(algorithm).toBe('lzo');
    expect(initrd.readUInt32BE(offset + 25)).toBe(manifest.sourceDateEpoch);
    const files = execFileSync('lsinitramfs', [join(directory, 'initrd.img')], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    expect(files).toMatch(/^scripts\/live$/m);
  });
});

describe('server', () => {
  test('is built with ssh by key only, behind a firewall', async () => {
    profile('net', `extends: [server]\nimage: {${fast}}\n`);
    await succeed(['build', 'net'], { site: site.directory });
    const { manifest } = await show('net');
    const layer = join(site.store, 'live', `${manifest.layers[0]?.digest.slice(0, 16) ?? ''}.squashfs`);
    const root = join(temporaryDirectory(), 'root');
    execFileSync('unsquashfs', ['-no-progress', '-quiet', '-dest', root, layer], { stdio: 'pipe' });
    const inside = (...args: readonly string[]): string =>
      execFileSync('unshare', ['--net', '--', 'chroot', root, ...args], { encoding: 'utf8', stdio: 'pipe' });
    execFileSync('mknod', ['-m', '666', join(root, 'dev/null'), 'c', '1', '3']);
    // Read by the programs themselves: what is in force, not what stands somewhere.
    inside('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '/etc/ssh/ssh_host_ed25519_key');
    inside('mkdir', '-p', '/run/sshd');
    const settings = inside('/usr/sbin/sshd', '-T');
    expect(settings).toMatch(/^passwordauthentication no$/m);
    expect(settings).toMatch(/^permitrootlogin no$/m);
    inside('/usr/sbin/nft', '--check', '--file', '/etc/nftables.conf');
    expect(inside('sudo', '--list', '--other-user=admin')).toMatch(/\(ALL : ALL\) NOPASSWD: ALL/);
    for (const unit of ['nftables', 'ssh', 'systemd-networkd']) {
      expect(inside('systemctl', 'is-enabled', unit)).toBe('enabled\n');
    }
    expect(inside('id', '-nG', 'admin').split(/\s/)).toEqual(
      expect.arrayContaining(['admin', 'sudo', 'adm']),
    );
    // Without a password and without a key nobody gets in.
    expect(inside('passwd', '--status', 'admin')).toMatch(/^admin L /);
  });
});
