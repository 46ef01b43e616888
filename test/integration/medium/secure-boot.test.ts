import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { programSection, signProgram } from '../../../src/image/authenticode.ts';
import { secureBootSigner } from '../../../src/image/secure-boot-keys.ts';
import { exportIso } from '../../../src/medium/export.ts';
import { loadSite } from '../../../src/site/site.ts';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { recordingContext } from '../../fixtures/context.ts';
import { errorLike } from '../../fixtures/expecting.ts';
import { makeTinyStore, type TinyStore } from '../../fixtures/guest.ts';
import { makeSigningKey } from '../../fixtures/signing.ts';
import { makeToken } from '../../fixtures/token.ts';

let tiny: TinyStore;
let directory: string;
let keys: string;
beforeAll(async () => {
  tiny = makeTinyStore('healthy', undefined);
  directory = mkdtempSync(join(tmpdir(), 'relive-test-secure-'));
  keys = join(tiny.site, 'keys/secure-boot');
  await succeed(['keys', 'create', '--secure-boot', '--name', 'Lab'], { site: tiny.site });
});
afterAll(() => {
  tiny.remove();
  rmSync(directory, { recursive: true, force: true });
});

/** sbverify(1) takes a file's signatures for good, by this certificate. */
function verifies(file: string, certificate: string): boolean {
  return spawnSync('sbverify', ['--cert', certificate, file], { stdio: 'ignore' }).status === 0;
}

describe('a signed program', () => {
  test.each([
    ['a kernel of Debian, whose signature stays', 'vmlinuz'],
    ['a GRUB without a signature', '/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi'],
  ])('%s: another tool verifies it, and not with a byte changed', async (_name, path) => {
    const signer = await secureBootSigner({ keys: join(tiny.site, 'keys') }, recordingContext());
    const program = readFileSync(path.startsWith('/') ? path : join(tiny.imageDirectory, path));
    const before = Buffer.from(program);
    const signed = await signProgram(program, path, signer);
    expect(program.equals(before)).toBe(true);
    expect((await signProgram(program, path, signer)).equals(signed)).toBe(true);
    const file = join(directory, 'signed.efi');
    writeFileSync(file, signed);
    expect(verifies(file, join(keys, 'db.crt'))).toBe(true);
    expect(verifies(file, join(keys, 'KEK.crt'))).toBe(false);
    const listed = execFileSync('sbverify', ['--list', file], { encoding: 'utf8', stdio: 'pipe' });
    expect(listed).toContain('/CN=Lab db');
    expect(listed.includes('Debian Secure Boot')).toBe(path === 'vmlinuz');
    // Before others, where whoever looks at one alone finds it.
    writeFileSync(file, await signProgram(program, path, signer, 'first'));
    expect(verifies(file, join(keys, 'db.crt'))).toBe(true);
    expect(execFileSync('sbverify', ['--list', file], { encoding: 'utf8', stdio: 'pipe' })).toMatch(
      /^signature 1\nimage signature issuers:\n - .*CN=Lab db\n/m,
    );
    // One more signature on top.
    writeFileSync(file, await signProgram(signed, path, signer));
    expect(verifies(file, join(keys, 'db.crt'))).toBe(true);
    signed[100_000] = (signed[100_000] ?? 0) ^ 1;
    writeFileSync(file, signed);
    expect(verifies(file, join(keys, 'db.crt'))).toBe(false);
    await expect(signProgram(program.subarray(0, 5000), 'cut', signer)).rejects.toMatchObject(
      errorLike('corrupt', 'cut is no program that UEFI firmware starts'),
    );
  });
});

/** A file of an ISO's EFI system partition, taken out. */
function efiFile(iso: string, path: string): string {
  const images = mkdtempSync(join(directory, 'boot-images-'));
  execFileSync('xorriso', ['-osirrox', 'on', '-indev', iso, '-extract_boot_images', images], {
    stdio: 'pipe',
  });
  const partition = readdirSync(images).find((name) => name.includes('_uefi'));
  const program = join(images, 'program.efi');
  execFileSync('mcopy', ['-i', join(images, partition ?? ''), `::/${path}`, program]);
  return program;
}

test('the ISO of an image for Secure Boot has a signed GRUB that says its SBAT generation', async () => {
  const key = makeSigningKey('Test Images', 'rsa3072');
  onTestFinished(key.remove);
  const secure = makeTinyStore('healthy', key, 'amd64', (kernel) => kernel);
  onTestFinished(secure.remove);
  const iso = join(directory, 'a.iso');
  const site = await loadSite(secure.site);
  await expect(exportIso(site, 'tiny', iso, recordingContext())).rejects.toMatchObject(
    errorLike('not-found', 'the site has no db.crt for Secure Boot'),
  );
  cpSync(keys, join(secure.site, 'keys/secure-boot'), { recursive: true });
  await exportIso(site, 'tiny', iso, recordingContext());
  const program = efiFile(iso, 'EFI/BOOT/BOOTX64.EFI');
  expect(verifies(program, join(keys, 'db.crt'))).toBe(true);
  const sbat = programSection(readFileSync(program), '.sbat')?.toString() ?? '';
  expect(sbat).toMatch(/^sbat,1,SBAT Version,/);
  expect(sbat).toMatch(/^grub\.debian,\d+,Debian,grub2,2\.12/m);
});

test('db on a PKCS #11 token signs as one in a file does, and what cannot be signed with says so', async () => {
  const home = mkdtempSync(join(directory, 'token-'));
  const address = makeToken(home, 'db', 2048);
  const pin = join(home, 'pin');
  const key = makeSigningKey('Test Images', 'rsa3072');
  onTestFinished(key.remove);
  const secure = makeTinyStore('healthy', key, 'amd64', (kernel) => kernel);
  onTestFinished(secure.remove);
  const here = { site: secure.site, env: { SOFTHSM2_CONF: join(home, 'softhsm2.conf') } };
  const create = ['keys', 'create', '--secure-boot', '--token'];
  const refused = async (args: readonly string[]): Promise<unknown> => (await runCommand(args, here)).last;
  expect(await refused([...create, `${address}&pin-value=471147`])).toMatchObject({ code: 'usage' });
  chmodSync(pin, 0o640);
  expect(await refused([...create, address])).toMatchObject({
    code: 'configuration',
    message: `the PIN in ${pin} is not for its owner alone`,
  });
  chmodSync(pin, 0o600);
  expect(await refused([...create, address.replace('object=db', 'object=no')])).toMatchObject({
    code: 'tool-failed',
  });
  expect(existsSync(join(secure.site, 'keys/secure-boot'))).toBe(false);
  const { stderr } = await succeed([...create, address], here);
  expect(stderr).not.toContain('471147');
  const made = join(secure.site, 'keys/secure-boot');
  expect(readdirSync(made).toSorted()).toEqual(
    ['.gitignore', 'KEK.crt', 'KEK.key', 'PK.crt', 'PK.key', 'db.crt', 'db.uri', 'owner.guid'].toSorted(),
  );
  const iso = join(home, 'a.iso');
  await succeed(['image', 'export', 'tiny', '--iso', iso], here);
  const program = efiFile(iso, 'EFI/BOOT/BOOTX64.EFI');
  expect(verifies(program, join(made, 'db.crt'))).toBe(true);
  expect(verifies(program, join(made, 'KEK.crt'))).toBe(false);
  const first = readFileSync(iso);
  await succeed(['image', 'export', 'tiny', '--iso', iso], here);
  expect(readFileSync(iso).equals(first)).toBe(true);
  await succeed(['keys', 'enroll', join(home, 'enroll')], here);
  // A wrong PIN: the token says so, and nothing is written.
  writeFileSync(pin, '111111');
  rmSync(iso);
  expect(await refused(['image', 'export', 'tiny', '--iso', iso])).toMatchObject({ code: 'tool-failed' });
  expect(existsSync(iso)).toBe(false);
});

test('keys enroll writes lists as efitools makes them, signed, and nothing secret', async () => {
  const out = join(directory, 'enroll');
  const { last } = await succeed(['keys', 'enroll', out], { site: tiny.site });
  const { files } = last as unknown as { files: string[] };
  expect(files).toHaveLength(11);
  const owner = readFileSync(join(keys, 'owner.guid'), 'utf8').trim();
  for (const name of ['PK', 'KEK', 'db']) {
    const other = join(directory, `${name}.other`);
    execFileSync('cert-to-efi-sig-list', ['-g', owner, join(keys, `${name}.crt`), other], { stdio: 'pipe' });
    const list = readFileSync(join(out, `${name}.esl`));
    expect(list.equals(readFileSync(other))).toBe(true);
    // The signature is in front of what it signs.
    const auth = readFileSync(join(out, `${name}.auth`));
    expect(auth.subarray(auth.length - list.length).equals(list)).toBe(true);
  }
  for (const file of files) expect(readFileSync(join(out, file), 'latin1')).not.toContain('PRIVATE');
});

test('replaced keys are kept beside the new ones', async () => {
  const copy = join(directory, 'copy');
  mkdirSync(copy);
  cpSync(tiny.site, copy, { recursive: true });
  await succeed(['keys', 'create', '--secure-boot', '--replace'], { site: copy });
  const names = execFileSync('ls', [join(copy, 'keys')], { encoding: 'utf8' });
  expect(names).toMatch(/^secure-boot\n[^]*secure-boot\.\d{14}\n/m);
  const old = readFileSync(join(keys, 'db.crt'), 'utf8');
  expect(readFileSync(join(copy, 'keys/secure-boot/db.crt'), 'utf8')).not.toBe(old);
});
