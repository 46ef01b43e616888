import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCommand, succeed } from '../fixtures/command.ts';
import { builtSite, freshSite, removeSite } from '../fixtures/site.ts';
import { relive, temporaryDirectory } from '../support.ts';

/** A site without keys; relive.yaml is all that these commands need. */
async function emptySite(name = 'site', extra = ''): Promise<string> {
  const { directory } = await builtSite();
  const site = join(temporaryDirectory(), name);
  mkdirSync(site, { recursive: true });
  writeFileSync(join(site, 'relive.yaml'), `${readFileSync(join(directory, 'relive.yaml'), 'utf8')}${extra}`);
  return site;
}

/** The agents that keep keys of a site. */
function agents(site: string): string[] {
  const listed = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' });
  return listed.split('\n').filter((line) => line.includes('gpg-agent') && line.includes(site));
}

const create = async (site: string, ...args: readonly string[]) =>
  await runCommand(['keys', 'create', ...args], { site });

test('several that use the keys at once all see them, and no agent stays', async () => {
  const site = await emptySite();
  await create(site);
  // Not in step: one lists them while another one's agent ends.
  const seen = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const counts = [];
      for (let round = 0; round < 12; round += 1) {
        const { last } = await succeed(['keys', 'list'], { site });
        counts.push((last as unknown as { keys: unknown[] }).keys.length);
      }
      return counts;
    }),
  );
  expect(new Set(seen.flat())).toEqual(new Set([1]));
  expect(agents(site)).toEqual([]);
});

describe('keys create', () => {
  test('makes an RSA key in a home that nobody else can read, and leaves no agent', async () => {
    const site = await emptySite();
    const { status, last } = await runCommand(['keys', 'create'], {
      site,
      through: ['sh', '-c', 'umask 0; exec "$@"', 'sh'],
    });
    expect(status).toBe(0);
    const home = join(site, 'keys/gnupg');
    expect(statSync(home).mode & 0o777).toBe(0o700);
    const readable = readdirSync(join(home, 'private-keys-v1.d'), { withFileTypes: true });
    expect(readable.map((entry) => statSync(join(entry.parentPath, entry.name)).mode & 0o077)).toEqual([0]);
    const listed = execFileSync(
      'gpg',
      ['--batch', '--with-colons', '--show-keys', join(site, 'keys/public.asc')],
      {
        encoding: 'utf8',
      },
    );
    // Length 3072, algorithm 1: RSA (doc/DETAILS of GnuPG); it signs and never expires.
    expect(listed).toMatch(/^pub:-:3072:1:[0-9A-F]+:\d+:::-:::scSC?:/m);
    expect(listed).toContain(`fpr:::::::::${String(last?.['fingerprint'])}:`);
    expect(readFileSync(join(site, 'keys/public.asc'), 'utf8')).not.toContain('PRIVATE');
    expect(agents(site)).toEqual([]);
  });

  test('takes length and user id, also one that means something to gpg', async () => {
    const site = await emptySite();
    const user = '--Lab: "#1" <lab@example.org>';
    const { status } = await create(site, '--bits', '4096', `--name=${user}`);
    expect(status).toBe(0);
    const { last } = await runCommand(['keys', 'list'], { site });
    expect(last?.['keys']).toEqual([expect.objectContaining({ user })]);
  });

  test('never replaces a key unless asked to', async () => {
    const site = await emptySite();
    const first = await create(site);
    const before = readFileSync(join(site, 'keys/public.asc'), 'utf8');
    const second = await create(site);
    expect(second.status).toBe(2);
    expect(second.last).toMatchObject({
      code: 'exists',
      message: expect.stringContaining(String(first.last?.['fingerprint'])),
      hint: expect.stringContaining('--replace'),
    });
    expect(readFileSync(join(site, 'keys/public.asc'), 'utf8')).toBe(before);
    expect(readdirSync(join(site, 'keys/gnupg/private-keys-v1.d'))).toHaveLength(1);
  });

  test.each([
    ['--bits', '1024'],
    ['--bits', 'many'],
  ])('refuses %s %s', async (...args) => {
    const site = await emptySite();
    expect((await create(site, ...args)).status).toBe(2);
    expect(existsSync(join(site, 'keys'))).toBe(false);
  });

  test('after --replace the new key signs, and what the old one signed is still good', async () => {
    const site = await freshSite({ store: true });
    const { last } = await create(site.directory, '--replace');
    const again = await create(site.directory, '--replace');
    const listed = await runCommand(['keys', 'list'], { site: site.directory });
    const fingerprints = [again, { last }].map(({ last: made }) => ({ fingerprint: made?.['fingerprint'] }));
    expect(listed.last?.['keys']).toMatchObject([...fingerprints, {}]);
    const exported = (await relive(['keys', 'export', '--site', site.directory])).stdout;
    const shown = spawnSync('gpg', ['--batch', '--with-colons', '--show-keys'], {
      input: exported,
      encoding: 'utf8',
    });
    expect(shown.stdout.match(/^pub:/gm)).toHaveLength(3);
    await succeed(['image', 'verify'], { site: site.directory });
    removeSite(site);
  });
});

test('keys list and keys export of a site without keys', async () => {
  const site = await emptySite();
  expect((await relive(['keys', 'list', '--site', site])).stdout).toContain('relive keys create');
  const exported = await runCommand(['keys', 'export'], { site });
  expect(exported.status).toBe(2);
  expect(exported.last).toMatchObject({
    code: 'not-found',
    hint: expect.stringContaining('relive keys create'),
  });
  expect(existsSync(join(site, 'keys'))).toBe(false);
});

describe('a path that is too long for the sockets of the agent', () => {
  const long = Array.from({ length: 4 }, (_, index) => `directory-number-${index}`).join('/');

  test('is told, with what to do, before anything is made', async () => {
    const site = await emptySite(`${long}/${long}`);
    const { status, last } = await create(site);
    expect(status).toBe(3);
    expect(last).toMatchObject({
      code: 'host-unable',
      message: expect.stringContaining(`${site}/keys/gnupg`),
      hint: expect.stringContaining('set "keys" in relive.yaml'),
    });
    expect(existsSync(join(site, 'keys'))).toBe(false);
  });

  test('and what the hint says helps', async () => {
    const keys = join(temporaryDirectory(), 'k');
    const site = await emptySite(`${long}/${long}`);
    const file = join(site, 'relive.yaml');
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^keys: \S+/m, `keys: ${keys}`));
    expect((await create(site)).status).toBe(0);
    expect(existsSync(join(keys, 'public.asc'))).toBe(true);
  });
});
