import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { signDetached } from '../../src/host/gpg.ts';
import { runCommand, succeed } from '../fixtures/command.ts';
import { recordingContext } from '../fixtures/context.ts';
import { errorLike } from '../fixtures/expecting.ts';
import { makeTinyStore } from '../fixtures/guest.ts';
import { addCertificate, makeToken } from '../fixtures/token.ts';
import { temporaryDirectory } from '../support.ts';

test('the key of images on a PKCS #11 token: it signs there, and a PIN that is wrong never reaches gpg', async () => {
  const home = temporaryDirectory();
  const address = makeToken(home, 'images', 3072);
  const pin = join(home, 'pin');
  vi.stubEnv('SOFTHSM2_CONF', join(home, 'softhsm2.conf'));
  onTestFinished(() => void vi.unstubAllEnvs());
  const tiny = makeTinyStore('not-started', undefined);
  onTestFinished(tiny.remove);
  const { site } = tiny;
  const create = async (key: string, ...more: readonly string[]): Promise<unknown> =>
    (
      await runCommand(['keys', 'create', '--name', 'Lab: #1 <lab@example.org>', '--token', key, ...more], {
        site,
      })
    ).last;
  expect(await create(address.replace(/&module-path.*/, ''))).toMatchObject(
    errorLike('usage', 'must name the library'),
  );
  expect(await create(address, '--bits', '4096')).toMatchObject(errorLike('usage', '--bits'));
  expect(await create(address.replace('object=images', 'object=no'))).toMatchObject({ code: 'tool-failed' });
  expect(await create(address)).toMatchObject(errorLike('not-found', 'no certificate for the key'));
  addCertificate(home, 'images');
  chmodSync(pin, 0o640);
  expect(await create(address)).toMatchObject(errorLike('configuration', 'is not for its owner alone'));
  chmodSync(pin, 0o600);
  writeFileSync(pin, '111111');
  expect(await create(address)).toMatchObject(errorLike('tool-failed', 'the key on the token'));
  writeFileSync(pin, '471147');
  const made = await create(address);
  expect(made).toMatchObject({ ok: true, user: 'Lab: #1 <lab@example.org>' });
  const { fingerprint, created } = made as { fingerprint: string; created: number };
  expect(await create(address)).toMatchObject({ code: 'exists' });
  // What lies here only says where the key is.
  const gnupg = join(site, 'keys/gnupg');
  const files = readdirSync(join(gnupg, 'private-keys-v1.d'));
  expect(files.map((name) => readFileSync(join(gnupg, 'private-keys-v1.d', name), 'latin1'))).toEqual([
    expect.stringContaining('shadowed-private-key'),
  ]);
  expect(statSync(gnupg).mode & 0o777).toBe(0o700);
  const listed = execFileSync(
    'gpg',
    [
      '--batch',
      '--homedir',
      temporaryDirectory(),
      '--with-colons',
      '--show-keys',
      join(site, 'keys/public.asc'),
    ],
    { encoding: 'utf8' },
  );
  expect(listed).toMatch(/^pub:-:3072:1:[0-9A-F]+:\d+:::-:::scSC?:/m);

  const file = join(tiny.imageDirectory, 'manifest.json');
  const sign = async (): Promise<Buffer> => {
    await signDetached(gnupg, fingerprint, [file], created, recordingContext());
    return readFileSync(`${file}.sig`);
  };
  const signature = await sign();
  expect((await sign()).equals(signature)).toBe(true);
  const keyring = join(home, 'keys.gpg');
  await succeed(['keys', 'export', keyring, '--binary'], { site });
  execFileSync('gpgv', ['--keyring', keyring, `${file}.sig`, file], { stdio: 'pipe' });
  await succeed(['channel', 'set', 'stable', tiny.image], { site });
  writeFileSync(pin, '111111');
  await expect(sign()).rejects.toMatchObject(errorLike('tool-failed', 'the key on the token'));
  const processes = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' });
  expect(processes.split('\n').filter((line) => line.includes(gnupg))).toEqual([]);
  // Another key, in a file: the token is not asked any more.
  await succeed(['keys', 'create', '--replace'], { site });
  await succeed(['channel', 'set', 'stable', tiny.image], { site });
  expect(existsSync(join(gnupg, 'token.uri'))).toBe(false);
});
