import { spawnSync } from 'node:child_process';
import { createPrivateKey, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand, succeed } from '../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';
import { cli } from '../support.ts';

/** What of keys must be nowhere, in the forms that it could be written in. */
interface Secret {
  readonly name: string;
  readonly forms: readonly Buffer[];
}

/** A number that only the owner of a key knows: as bytes, in both cases of hexadecimal digits, and by base64 at each offset. */
function formsOf(number: Buffer): Buffer[] {
  const part = number.subarray(8, 40);
  const shifted = [0, 1, 2].map((skip) =>
    part.subarray(skip, skip + 30 - ((30 - skip) % 3)).toString('base64'),
  );
  const hex = part.toString('hex');
  return [part, ...[hex, hex.toUpperCase(), ...shifted].map((text) => Buffer.from(text))];
}

/** The keys of GnuPG's home: "(d #...#)" in hexadecimal digits (gpg-agent's extended key format), broken into lines. */
function secretsOfAgent(home: string): Secret[] {
  return readdirSync(join(home, 'private-keys-v1.d')).flatMap((name) => {
    const text = readFileSync(join(home, 'private-keys-v1.d', name), 'latin1').replaceAll(/\s+/g, '');
    return ['d', 'p', 'q', 'u'].map((letter) => {
      const [, digits] = new RegExp(`\\(${letter}#([0-9A-F]+)#\\)`).exec(text) ?? [];
      if (digits === undefined) throw new Error(`${name} has no ${letter}`);
      return { name: `${name} ${letter}`, forms: formsOf(Buffer.from(digits, 'hex')) };
    });
  });
}

function secretsOfPem(file: string): Secret[] {
  const jwk = createPrivateKey(readFileSync(file)).export({ format: 'jwk' });
  return (['d', 'p', 'q'] as const).map((letter) => ({
    name: `${file} ${letter}`,
    forms: formsOf(Buffer.from(jwk[letter] ?? '', 'base64url')),
  }));
}

/** The arguments and environments of all processes, looked at while the commands run. */
const seen = new Set<string>();
function look(): void {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    for (const what of ['cmdline', 'environ']) {
      try {
        seen.add(readFileSync(`/proc/${pid}/${what}`, 'latin1'));
      } catch {
        // It has ended.
      }
    }
  }
}

/** A password that stands in addresses, in credentials and in the environment, as it is and as HTTP's header has it. */
const password = `Geheim${randomBytes(12).toString('hex')}`;
const ofPassword: Secret = {
  name: 'the password',
  forms: [password, Buffer.from(`user:${password}`).toString('base64')].map((text) => Buffer.from(text)),
};
/** What a shell that starts relive may have in its environment. */
const environment = {
  A_TOKEN: password,
  http_proxy: `http://user:${password}@127.0.0.1:9/`,
  https_proxy: `http://user:${password}@127.0.0.1:9/`,
};

let site: TestSite;
let output = '';
const secrets: Secret[] = [];
const temporaryBefore = new Set(readdirSync(tmpdir()));

beforeAll(async () => {
  site = await freshSite({ cache: true });
  const eyes = setInterval(look, 25);
  const enrolled = join(site.directory, 'enrol');
  for (const args of [
    ['keys', 'create', '--replace'],
    ['keys', 'create', '--secure-boot'],
    ['keys', 'list'],
    ['keys', 'export'],
    ['keys', 'enroll', enrolled],
    ['build', 'demo'],
    ['image', 'export', 'demo', '--iso'],
    ['channel', 'set', 'stable', 'demo'],
    // What fails says more than what succeeds.
    ['keys', 'create'],
    ['keys', 'enroll', '/proc/nowhere'],
    ['keys', 'enroll', join(site.directory, 'relive.yaml/x')],
  ]) {
    const { status, lines, stderr } = await runCommand(args, { site: site.directory });
    output += `${JSON.stringify(args)} ${status}\n${lines.map((line) => JSON.stringify(line)).join('\n')}\n${stderr}\n`;
  }
  clearInterval(eyes);
  secrets.push(...secretsOfAgent(join(site.keys, 'gnupg')));
  for (const name of ['PK', 'KEK', 'db']) {
    secrets.push(...secretsOfPem(join(site.keys, `secure-boot/${name}.key`)));
  }
});
afterAll(() => removeSite(site));

const inside = (content: Buffer): string[] =>
  secrets.filter(({ forms }) => forms.some((form) => content.includes(form))).map(({ name }) => name);

/** The regular files below a directory, without what is compressed or in a layer: test/integration/image/traces.test.ts opens those. */
function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

describe('private keys', () => {
  test('are found where they are: the search works', () => {
    expect(secrets).toHaveLength(2 * 4 + 3 * 3);
    const key = readFileSync(join(site.keys, 'secure-boot/db.key'), 'latin1').replaceAll(
      /-----.*-----|\n/g,
      '',
    );
    expect(inside(Buffer.from(key, 'base64')).length).toBe(3);
    const agent = filesBelow(join(site.keys, 'gnupg/private-keys-v1.d'));
    const unfolded = agent.map((file) => readFileSync(file, 'latin1').replaceAll(/\s+/g, ''));
    expect(inside(Buffer.from(unfolded.join('\n')))).toHaveLength(8);
  });

  test('are in no output', () => {
    // That the commands did what they were to do.
    expect(output.match(/^\["[^\]]*\] \d+$/gm)?.map((line) => line.at(-1))).toEqual([
      ...Array.from({ length: 8 }, () => '0'),
      ...['2', '2', '2'],
    ]);
    expect(inside(Buffer.from(output))).toEqual([]);
    expect(output).not.toMatch(/BEGIN [A-Z ]*PRIVATE KEY/);
  });

  test('are in no argument and no environment of a process', () => {
    const all = [...seen].join('\n');
    expect(all).toContain('gpg');
    expect(all).toContain('mksquashfs');
    expect(inside(Buffer.from(all, 'latin1'))).toEqual([]);
  });

  test('are in no file of the site but their own, which only their owner may read', () => {
    const own = filesBelow(site.keys).filter((file) => /private-keys-v1\.d|\.key$/.test(file));
    expect(own).toHaveLength(5);
    expect(own.filter((file) => (statSync(file).mode & 0o077) !== 0)).toEqual([]);
    const others = filesBelow(site.directory).filter((file) => !own.includes(file));
    expect(others.length).toBeGreaterThan(1000);
    const found = others.filter(
      (file) => statSync(file).size < 2 ** 28 && inside(readFileSync(file)).length > 0,
    );
    expect(found).toEqual([]);
  });

  test('are in nothing that was left in the directory for temporary files', () => {
    const mine = readdirSync(tmpdir()).filter(
      (name) => name.startsWith('relive') && !temporaryBefore.has(name) && !name.startsWith('relive-test-'),
    );
    const files = mine.map((name) => join(tmpdir(), name)).filter((path) => existsSync(path));
    expect(files.flatMap((path) => (statSync(path).isFile() ? inside(readFileSync(path)) : []))).toEqual([]);
  });
});

describe('a password', () => {
  let said = '';
  const statuses: (number | null)[] = [];
  const address = `http://user:${password}@127.0.0.1:9/debian`;

  /** Runs a command twice: for people and for programs. */
  function say(args: readonly string[], env: NodeJS.ProcessEnv = {}): void {
    for (const more of [[], ['--json']]) {
      const own = [cli, ...args, ...more];
      const ended = spawnSync(process.execPath, own, { encoding: 'utf8', env: { ...process.env, ...env } });
      statuses.push(ended.status);
      said += `${args[0]}: ${ended.status}\n${ended.stdout}\n${ended.stderr}\n`;
    }
  }

  beforeAll(async () => {
    const file = join(site.directory, 'relive.yaml');
    const before = readFileSync(file, 'utf8');
    const here = ['--site', site.directory];
    say(['init', join(site.directory, 'other'), '--archive', address]);
    writeFileSync(file, before.replaceAll(/http:\/\/[^\s,\]]+/g, address));
    for (const command of [
      'profile check',
      'profile show demo',
      'mirror sync',
      'mirror list',
      'build demo',
      'refresh',
    ])
      say([...command.split(' '), ...here]);
    // Longer than what is shown of a value.
    writeFileSync(
      file,
      before.replaceAll(/http:\/\/[^\s,\]]+/g, `http://user:${'a'.repeat(300)}${password}@h/`),
    );
    say(['profile', 'check', ...here]);
    // A profile in which somebody wrote the password instead of its hash, and one whose end is missing.
    const profile = join(site.directory, 'profiles/secret.yaml');
    for (const wrong of [password, `{${password}`, `"${password}`]) {
      writeFileSync(profile, `version: 1\nextends: [demo]\nusers:\n  - {name: anna, password: ${wrong}}\n`);
      say(['profile', 'check', ...here]);
    }
    // The log of a failed stage is kept: here with all that a script can see of whoever started it.
    writeFileSync(file, before);
    mkdirSync(join(site.directory, 'scripts'), { recursive: true });
    const text = '#!/bin/sh\nenv\ncat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr "\\0" "\\n"\nexit 1\n';
    writeFileSync(join(site.directory, 'scripts/look'), text, { mode: 0o755 });
    for (const where of ['system', 'host']) {
      const script = `scripts: [{name: look, after: live, where: ${where}}]`;
      writeFileSync(profile, `version: 1\nextends: [demo]\n${script}\n`);
      // Locking asks the archive, which the proxy of the environment would not let it.
      if (where === 'system') await succeed(['lock', 'secret'], { site: site.directory });
      say(['build', 'secret', ...here], environment);
    }
  });

  test('of an address or a user is in nothing that is said', () => {
    expect(statuses.filter((status) => status !== 2 && status !== 3)).toEqual([]);
    expect(said.split('\n').filter((line) => line.includes(password))).toEqual([]);
    expect(said).toContain('http://***@127.0.0.1:9/debian');
    expect(said).not.toContain('a bug of relive');
  });

  test('of the environment is in no log of a stage that failed', () => {
    const all = filesBelow(join(site.cache, 'logs')).map((file) => readFileSync(file));
    expect(all).toHaveLength(2);
    expect(all.every((text) => text.includes('SOURCE_DATE_EPOCH='))).toBe(true);
    expect(all.filter((text) => ofPassword.forms.some((form) => text.includes(form)))).toEqual([]);
  });

  test('is in no other file of the site', () => {
    const own = new Set(['relive.yaml', 'profiles/secret.yaml'].map((name) => join(site.directory, name)));
    const found = filesBelow(site.directory)
      .filter((file) => !own.has(file) && statSync(file).size < 2 ** 28)
      .filter((file) => ofPassword.forms.some((form) => readFileSync(file).includes(form)));
    expect(found).toEqual([]);
  });
});
