import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { isReliveError } from '../../../src/core/error.ts';
import { wantedPackages } from '../../../src/rootfs/base.ts';
import { formatProblem } from '../../../src/site/problem.ts';
import {
  checkProfiles,
  listProfiles,
  loadProfile,
  type Profile,
  resolveProfile,
} from '../../../src/site/profile.ts';
import { showProfile } from '../../../src/site/show.ts';
import { loadSite } from '../../../src/site/site.ts';
import { endsWell, profileText, siteText, siteWith } from './support.ts';

/** Loads the profile `one` of a site with these profiles. */
async function load(profiles: Readonly<Record<string, string>>): Promise<Profile> {
  return await loadProfile(await loadSite(siteOf(profiles)), 'one');
}

function siteOf(profiles: Readonly<Record<string, string>>): string {
  const files = Object.entries(profiles).map(([name, text]) => [`profiles/${name}.yaml`, text]);
  return siteWith(Object.fromEntries(files) as Record<string, string>);
}

/** The problems of the profile `one`, the directory left out. */
async function problemsOf(profiles: Readonly<Record<string, string>>): Promise<string[]> {
  const directory = siteOf(profiles);
  try {
    await loadProfile(await loadSite(directory), 'one');
    return [];
  } catch (error) {
    if (!isReliveError(error, 'configuration')) throw error;
    return error.message.replaceAll(`${directory}/profiles/`, '').replaceAll(`${directory}/`, '').split('\n');
  }
}

const base = `version: 7
description: base
hostname: base
packages: [nano, less]
overlay: files
users:
  - {name: admin, uid: 1000, groups: [adm]}
  - {name: guest}
services: {enable: [ssh], disable: [cron.service]}
boot: {parameters: [quiet, panic=10]}
image: {compression: {algorithm: zstd, level: 19}}
`;

test.each([
  [
    'suite: trixie',
    'suite: bookworm',
    'shim or false with bookworm, whose GRUB starts kernels only behind shim',
  ],
  ['amd64', 'armhf', 'false with armhf, for which Debian has no GRUB for Secure Boot'],
])('Secure Boot is refused where no GRUB can start it: not %s but %s', async (good, bad, why) => {
  const text = `${profileText.replace(good, bad)}boot: {secureBoot: true}\n`;
  expect(await problemsOf({ one: text })).toContain(
    `one.yaml:6:20: boot.secureBoot: found the boolean true; allowed: ${why}`,
  );
  const served = await load({ one: `${profileText}boot: {secureBoot: true}\n` });
  expect(served.boot.secureBoot).toBe(true);
});

test('behind shim there is Secure Boot for Debian 12, too', async () => {
  const text = profileText.replace('suite: trixie', 'suite: bookworm');
  const served = await load({ one: `${text}boot: {secureBoot: shim}\n` });
  expect(served.boot.secureBoot).toBe('shim');
  const weaker = await load({ one: `${text}boot: {secureBoot: debian, verify: none}\n` });
  expect(weaker.boot.secureBoot).toBe('debian');
  expect(await problemsOf({ one: `${text}boot: {secureBoot: debian}\n` })).toContain(
    'one.yaml:6:20: boot.secureBoot: found "debian"; allowed: "verify: none" beside "debian": Debian\'s GRUB checks nothing but the kernel',
  );
  expect(await problemsOf({ one: `${text}boot: {secureBoot: shim, verify: none}\n` })).toContain(
    'one.yaml:6:20: boot.secureBoot: found "shim"; allowed: false with this "verify": what firmware lets start must check the rest',
  );
});

describe('loadProfile', () => {
  test('gives defaults', async () => {
    const profile = await load({ one: profileText });
    expect(profile).toMatchObject({
      name: 'one',
      version: 1,
      suite: 'trixie',
      architecture: 'amd64',
      host: 'virtual-machine',
      bootstrap: 'mmdebstrap',
      packages: [],
      recommends: false,
      overlays: [],
      users: [],
      hostname: 'one',
      locale: 'C.UTF-8',
      timezone: 'Etc/UTC',
      services: { enable: [], disable: [], mask: [] },
      image: { compression: { algorithm: 'zstd', level: 9 } },
      boot: { parameters: [], verify: 'signature' },
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(profile.repositories.map(({ name }) => name)).toEqual(['debian']);
  });

  test('says which line asks for a package', async () => {
    const directory = siteOf({
      one: `extends: [base]\n${profileText}packages: [vim]\n`,
      base: 'version: 1\npackages: [nano]\n',
    });
    const { packages } = await loadProfile(await loadSite(directory), 'one');
    expect(packages).toEqual([
      { name: 'nano', at: { file: join(directory, 'profiles/base.yaml'), line: 2, column: 12 } },
      { name: 'vim', at: { file: join(directory, 'profiles/one.yaml'), line: 7, column: 12 } },
    ]);
  });

  test('names an unknown profile and the nearest one', async () => {
    const site = await loadSite(siteOf({ kiosk: profileText }));
    await expect(loadProfile(site, 'kisok')).rejects.toMatchObject({
      code: 'not-found',
      message: expect.stringContaining('did you mean kiosk?'),
    });
    for (const name of ['../relive', '', '/etc/passwd', 'a\nb', '.']) {
      await expect(loadProfile(site, name)).rejects.toMatchObject({ code: 'not-found' });
    }
  });

  test('the digest depends on the content, not on places, order of keys or ways to write it', async () => {
    const { digest } = await load({ one: profileText });
    const reordered = `\n# comment\n${profileText.trimEnd().split('\n').toReversed().join('\n')}\npackages: []\nboot: {verify: signature}\n`;
    expect((await load({ one: reordered })).digest).toBe(digest);
    expect((await load({ one: `${profileText}packages: [nano]\n` })).digest).not.toBe(digest);
    expect((await load({ one: profileText.replace('version: 1', 'version: 2') })).digest).not.toBe(digest);
  });

  describe('extends', () => {
    const child = `${profileText}extends: [base]\n`;
    const merged = async (more: string): Promise<Profile> => {
      const directory = siteWith({
        'profiles/base.yaml': base,
        'profiles/one.yaml': child + more,
        'overlays/files/etc/motd': '',
        'overlays/more/etc/motd': '',
      });
      return await loadProfile(await loadSite(directory), 'one');
    };

    test('inherits, but for version and description', async () => {
      const profile = await merged('');
      expect(profile).toMatchObject({
        version: 1,
        hostname: 'base',
        users: [{ name: 'admin', uid: 1000, groups: ['adm'] }, { name: 'guest' }],
        services: { enable: ['ssh.service'], disable: ['cron.service'], mask: [] },
        boot: { parameters: ['quiet', 'panic=10'], verify: 'signature' },
      });
      expect(profile.description).toBeUndefined();
    });

    test('joins lists, each item once, and merges maps', async () => {
      const profile = await merged(
        'packages: [less, vim]\noverlay: [more]\nboot: {parameters: [splash], verify: none}\nhostname: own\n',
      );
      expect(profile.packages.map(({ name }) => name)).toEqual(['nano', 'less', 'vim']);
      expect(profile.overlays.map((path) => path.split('/').at(-1))).toEqual(['files', 'more']);
      expect(profile.boot).toMatchObject({ parameters: ['quiet', 'panic=10', 'splash'], verify: 'none' });
      expect(profile.hostname).toBe('own');
    });

    test('merges users of one name', async () => {
      const { users } = await merged('users: [{name: admin, shell: /bin/sh, groups: [sudo]}, {name: new}]\n');
      expect(users).toEqual([
        { name: 'admin', uid: 1000, shell: '/bin/sh', groups: ['adm', 'sudo'] },
        { name: 'guest' },
        { name: 'new' },
      ]);
    });

    test('inherits compression as a whole', async () => {
      const { image } = await merged('image: {compression: {algorithm: xz}}\n');
      expect(image.compression).toEqual({ algorithm: 'xz' });
    });

    test('a unit that is put into one list leaves the others', async () => {
      const { services } = await merged('services: {mask: [ssh.service], enable: [cron]}\n');
      expect(services).toEqual({ enable: ['cron.service'], disable: [], mask: ['ssh.service'] });
    });

    test('exclude takes out of the lists above', async () => {
      const profile = await merged(
        'exclude: {packages: [nano], overlay: [files], users: [guest], services: {enable: [ssh]}, boot: {parameters: [quiet]}}\n',
      );
      expect(profile.packages.map(({ name }) => name)).toEqual(['less']);
      expect(profile.overlays).toEqual([]);
      expect(profile.users.map(({ name }) => name)).toEqual(['admin']);
      expect(profile.services.enable).toEqual([]);
      expect(profile.boot.parameters).toEqual(['panic=10']);
    });

    test('an ancestor on two ways counts once, before both', async () => {
      const { packages, hostname } = await load({
        root: 'version: 1\nhostname: root\npackages: [nano]\n',
        left: 'version: 1\nextends: [root]\nhostname: left\nexclude: {packages: [nano]}\n',
        right: 'version: 1\nextends: [root]\npackages: [vim]\n',
        one: `${profileText}extends: [left, right]\n`,
      });
      expect(packages.map(({ name }) => name)).toEqual(['vim']);
      expect(hostname).toBe('left');
    });

    test('refuses circles, missing profiles and exclusions of nothing', async () => {
      expect(await problemsOf({ one: `${profileText}extends: [one]\n` })).toEqual([
        'one.yaml:6:11: extends[0]: found a circle: one -> one; allowed: a profile that does not extend this one',
      ]);
      expect(
        await problemsOf({
          one: `${profileText}extends: [two]\n`,
          two: 'version: 1\nextends: [three]\n',
          three: 'version: 1\nextends: [two]\n',
        }),
      ).toEqual([
        'three.yaml:2:11: extends[0]: found a circle: two -> three -> two; allowed: a profile that does not extend this one',
      ]);
      expect(await problemsOf({ one: `${profileText}extends: [bsae]\n`, base: 'version: 1\n' })).toEqual([
        'one.yaml:6:11: extends[0]: found "bsae", which is no profile of this site; allowed: base; did you mean base?',
      ]);
      expect(
        await problemsOf({
          one: `${profileText}extends: [base]\nexclude: {packages: [nanno]}\n`,
          base: 'version: 1\npackages: [nano]\n',
        }),
      ).toEqual([
        'one.yaml:7:22: exclude.packages: found "nanno", which no profile above this one has; allowed: what is inherited; did you mean nano?',
      ]);
    });

    test('names the problems of the profiles above with their files, once', async () => {
      expect(
        await problemsOf({
          one: `${profileText}extends: [base]\n`,
          base: 'version: 1\ntimezone: Europe/Berln\n',
        }),
      ).toEqual([
        'base.yaml:2:11: timezone: found "Europe/Berln"; allowed: a time zone of the tz database: Etc/UTC, Europe/Berlin; did you mean Europe/Berlin?',
      ]);
    });
  });

  test('names all problems at once', async () => {
    const text = `version: "3"
suite: trixi
architecture: amd64
host: virtual-machine
repositories: [debain]
pakages: [nano]
packages: [nano, 7, "a b", -x]
recommends: yes
overlay: missing
users:
  - {name: root, uid: 1000}
  - {name: a, password: secret}
  - {name: a}
services: {enable: [ssh], mask: [ssh.service]}
image: {compression: {algorithm: xz, level: 3, blockSize: 5000}}
boot: {parameters: ["a b"], verify: signatur}
`;
    expect(await problemsOf({ one: text })).toEqual([
      'one.yaml:1:10: version: found "3"; allowed: a number; did you mean 3 without quotes?',
      'one.yaml:2:8: suite: found "trixi"; allowed: trixie, bookworm; did you mean trixie?',
      'one.yaml:5:16: repositories[0]: found "debain", which relive.yaml does not have; allowed: debian; did you mean debian?',
      expect.stringMatching(
        /^one\.yaml:6:1: pakages: found an unknown key; allowed: .*; did you mean packages\?$/,
      ),
      'one.yaml:7:18: packages[1]: found the number 7; allowed: a text; did you mean "7" in quotes?',
      expect.stringMatching(/^one\.yaml:7:21: packages\[2\]: found "a b"; allowed: a package name/),
      expect.stringMatching(/^one\.yaml:7:28: packages\[3\]: found "-x"; allowed: a package name/),
      'one.yaml:8:13: recommends: found "yes"; allowed: true or false; did you mean true?',
      'one.yaml:9:10: overlay[0]: found "missing", but overlays/missing is no directory; allowed: none, there are none',
      'one.yaml:11:23: users[0].uid: found the number 1000; allowed: none for root, who is 0',
      expect.stringMatching(
        /^one\.yaml:12:25: users\[1\]\.password: found something else; allowed: the hash/,
      ),
      'one.yaml:13:12: users[2].name: found "a"; allowed: each once',
      expect.stringMatching(/^one\.yaml:14:34: services\.mask\[0\]: .*this one is in enable too$/),
      'one.yaml:15:45: image.compression.level: found the number 3; allowed: no level with xz',
      'one.yaml:15:59: image.compression.blockSize: found the number 5000; allowed: a power of two from 4096 to 1048576 (bytes)',
      expect.stringMatching(
        /^one\.yaml:16:21: boot\.parameters\[0\]: found "a b"; allowed: a kernel parameter/,
      ),
      'one.yaml:16:37: boot.verify: found "signatur"; allowed: signature, checksum, none; did you mean signature?',
    ]);
  });

  test.each([
    ['users: [{name: a}, {name: a}]', '6:27: users[1].name: found "a"; allowed: each once'],
    [
      'users: [{name: a, uid: 1000}, {name: b, uid: 1000}]',
      '6:46: users[1].uid: found the number 1000; allowed: each once',
    ],
    [
      'users: [{name: root, uid: 1000}]',
      '6:27: users[0].uid: found the number 1000; allowed: none for root, who is 0',
    ],
    [
      'users: [{name: a, uid: 0}]',
      '6:24: users[0].uid: found the number 0; allowed: a whole number from 1000 to 59999 (Debian Policy 9.2.2)',
    ],
    [
      'image: {compression: {algorithm: xz, level: 3}}',
      '6:45: image.compression.level: found the number 3; allowed: no level with xz',
    ],
    [
      'image: {compression: {algorithm: zstd, level: 23}}',
      '6:47: image.compression.level: found the number 23; allowed: a whole number from 1 to 22 with zstd',
    ],
    [
      'image: {compression: {level: 3}}',
      '6:22: image.compression.algorithm: is missing; allowed: gzip, lzma, lzo, lz4, xz, zstd',
    ],
    [
      'boot: {secureBoot: true, verify: none}',
      '6:20: boot.secureBoot: found the boolean true; allowed: false with this "verify": what firmware lets start must check the rest',
    ],
    ['boot: {health: {timeout: 5}}', '6:16: boot.health: found a map; allowed: units, script or url'],
    [
      'boot: {health: {script: check.sh}}',
      '6:25: boot.health.script: found "check.sh"; allowed: the absolute path of a program in the system: letters, digits, ".", "_", "@", "+", "-"',
    ],
    [
      'boot: {health: {url: "http://me:secret@localhost/"}}',
      '6:22: boot.health.url: found "http://***@localhost/"; allowed: an http or https address without user, password and fragment: http://localhost:8080/status',
    ],
    [
      'boot: {health: {units: [ssh], timeout: 0}}',
      '6:40: boot.health.timeout: found the number 0; allowed: a number of seconds from 1 to 3600',
    ],
    ['boot: {checksum: sha1}', '6:18: boot.checksum: found "sha1"; allowed: sha256, sha512'],
    ['packages:', '6:10: packages: found nothing; allowed: a list'],
    ['overlay: 3', '6:10: overlay: found the number 3; allowed: a text or a list of texts'],
    ['overlay: [3]', '6:11: overlay[0]: found the number 3; allowed: a text; did you mean "3" in quotes?'],
    ['persist: [x]', '6:11: persist[0]: found "x"; allowed: a map'],
    ['retention: []', '6:12: retention: found a list; allowed: a map'],
    ['retention: {keep: 0}', '6:19: retention.keep: found the number 0; allowed: a whole number from 1'],
  ])('refuses %s', async (line, problem) => {
    const problems = await problemsOf({ one: `${profileText}${line}\n` });
    expect(problems.map((text) => text.replace(/^one\.yaml:/, ''))).toEqual([problem]);
  });

  test('a profile lacks what a build needs: all of it is named', async () => {
    expect(await problemsOf({ one: 'version: 1\n' })).toEqual([
      'one.yaml:1:1: suite: is missing; allowed: trixie, bookworm',
      'one.yaml:1:1: architecture: is missing; allowed: amd64, arm64, armhf, i386',
      'one.yaml:1:1: host: is missing; allowed: bare-metal, virtual-machine, container',
      'one.yaml:1:1: repositories: is missing; allowed: a list',
    ]);
  });

  test('the suite must come from the repositories, and the keyring must be there', async () => {
    const directory = siteWith({
      'relive.yaml': siteText
        .replace('trixie, trixie-updates, bookworm', 'bookworm')
        .replace('archive.gpg', 'gone.gpg'),
      'profiles/one.yaml': profileText,
    });
    const error: unknown = await loadProfile(await loadSite(directory), 'one').catch(
      (thrown: unknown) => thrown,
    );
    if (!isReliveError(error, 'configuration')) throw error;
    expect(error.message).toContain(
      'suite: found "trixie", which none of the repositories of this profile has: debian (bookworm)',
    );
    expect(error.message).toContain(
      'repositories[0]: found "debian", which has only suites of other releases than trixie',
    );
    expect(error.message).toContain('relive.yaml:8:15: repositories.debian.signedBy: found');
  });

  test('throws nothing but ReliveError, whatever the text', async () => {
    const directory = siteOf({ one: profileText, base });
    const site = await loadSite(directory);
    const text = `${profileText}extends: [base]\nexclude: {packages: [nano]}\n${base.split('\n').slice(2).join('\n')}`;
    const part = fc.constantFrom(
      ...text.split(/(?<=\W)|(?=\W)/),
      '[',
      '{',
      '\n',
      '- ',
      '&a',
      '*a',
      '"',
      '~',
      '\u0000',
      '9',
    );
    const mutated = fc
      .tuple(fc.nat(text.length), fc.nat(12), fc.array(part, { maxLength: 4 }))
      .map(([at, gone, parts]) => text.slice(0, at) + parts.join('') + text.slice(at + gone));
    await fc.assert(
      fc.asyncProperty(mutated, fc.boolean(), async (content, parent) => {
        writeFileSync(
          join(directory, 'profiles/one.yaml'),
          parent ? `${profileText}extends: [base]\n` : content,
        );
        writeFileSync(join(directory, 'profiles/base.yaml'), parent ? content : base);
        expect(await endsWell(loadProfile(site, 'one'))).toBe(true);
        expect(await listProfiles(site)).toHaveLength(2);
      }),
      { numRuns: 120 },
    );
  });
});

describe('showProfile', () => {
  const packages = fc.array(fc.stringMatching(/^[a-z0-9][a-z0-9+.-]{0,8}[a-z0-9+.]$/), { maxLength: 4 });
  const file = fc.record(
    {
      packages,
      recommends: fc.boolean(),
      hostname: fc.stringMatching(/^[a-z0-9]{1,8}$/),
      timezone: fc.constantFrom('Etc/UTC', 'Europe/Berlin'),
      users: fc.uniqueArray(
        fc.record({
          name: fc.stringMatching(/^[a-z]{2,5}$/),
          comment: fc.constantFrom('no', '1', 'ü #x', ''),
        }),
        {
          selector: ({ name }) => name,
          maxLength: 3,
        },
      ),
      services: fc.record(
        { enable: fc.subarray(['ssh', 'cron', 'a.timer']), mask: fc.subarray(['x', 'y.socket']) },
        { requiredKeys: [] },
      ),
      image: fc.record(
        {
          compression: fc.record({ algorithm: fc.constantFrom('xz', 'zstd'), blockSize: fc.constant(4096) }),
        },
        { requiredKeys: [] },
      ),
      boot: fc.record(
        {
          parameters: fc.subarray(['quiet', 'a=1', 'no', '0x10']),
          verify: fc.constantFrom('none', 'signature'),
        },
        { requiredKeys: [] },
      ),
      description: fc.constantFrom('a: b', '# no comment', "it's", 'x '.repeat(90).trim()),
    },
    { requiredKeys: [] },
  );

  test('what is shown is a profile again, with the same digest', async () => {
    const directory = siteOf({ one: profileText });
    const site = await loadSite(directory);
    const write = (name: string, content: string) =>
      writeFileSync(join(directory, 'profiles', name), content);
    await fc.assert(
      fc.asyncProperty(file, file, async (parent, own) => {
        write('base.yaml', stringify({ version: 1, ...parent }));
        write(
          'one.yaml',
          `${profileText}extends: [base]\n${Object.keys(own).length === 0 ? '' : stringify(own)}`,
        );
        const resolved = await resolveProfile(site, 'one');
        write('one.yaml', showProfile(resolved).yaml);
        expect((await loadProfile(site, 'one')).digest).toBe(resolved.profile.digest);
      }),
      { numRuns: 60 },
    );
  });

  test('each value says where it comes from', async () => {
    const directory = siteOf({
      one: `${profileText}extends: [base]\npackages: [vim]\n`,
      base: 'version: 1\npackages: [nano]\nlocale: C\n',
    });
    const { yaml, origins } = showProfile(await resolveProfile(await loadSite(directory), 'one'));
    expect(origins).toMatchObject({
      'packages[0]': `${directory}/profiles/base.yaml:2`,
      'packages[1]': `${directory}/profiles/one.yaml:7`,
      locale: `${directory}/profiles/base.yaml:3`,
      timezone: 'default',
      hostname: 'default',
      'boot.verify': 'default',
    });
    expect(yaml).toContain(`- vim # ${directory}/profiles/one.yaml:7\n`);
    expect(yaml).toContain('timezone: Etc/UTC # default\n');
  });
});

describe('listProfiles and checkProfiles', () => {
  test('list every profile, usable or not', async () => {
    const directory = siteOf({
      one: `${profileText}extends: [base]\n`,
      base: 'version: 2\ndescription: parts\n',
      bad: 'x',
    });
    const list = await listProfiles(await loadSite(directory));
    expect(
      list.map(({ name, version, suite, complete, problems }) => [
        name,
        version,
        suite,
        complete,
        problems.length,
      ]),
    ).toEqual([
      ['bad', undefined, undefined, false, 1],
      ['base', 2, undefined, false, 0],
      ['one', 1, 'trixie', true, 0],
    ]);
  });

  test('a profile that others extend need not be complete', async () => {
    const directory = siteOf({ one: `${profileText}extends: [base]\n`, base: 'version: 2\n' });
    const site = await loadSite(directory);
    const { good, ...rest } = await checkProfiles(site, []);
    expect(rest).toEqual({ checked: ['base', 'one'], problems: [] });
    expect(good.map(({ profile }) => profile.name)).toEqual(['one']);
    writeFileSync(join(directory, 'profiles/one.yaml'), profileText);
    expect((await checkProfiles(site, [])).problems).toHaveLength(4);
    expect(await checkProfiles(site, ['one'])).toMatchObject({ checked: ['one'], problems: [] });
    await expect(checkProfiles(site, ['on'])).rejects.toMatchObject({ code: 'not-found' });
  });

  test('a problem of a parent is found once; files that are no profiles by their names are found', async () => {
    const directory = siteOf({
      one: `${profileText}extends: [base]\n`,
      two: `${profileText}extends: [base]\n`,
      base: 'version: 0\n',
    });
    for (const name of ['Big.yaml', 'x.yml', '.hidden.yaml'])
      writeFileSync(join(directory, 'profiles', name), '');
    const { problems } = await checkProfiles(await loadSite(directory), []);
    expect(
      problems.map((problem) => formatProblem(problem).replace(`${directory}/profiles/`, '').slice(0, 20)),
    ).toEqual(['Big.yaml:1:1: found ', 'base.yaml:1:10: vers', 'x.yml:1:1: found a f']);
  });

  test('a site without profiles has none', async () => {
    const site = await loadSite(siteWith({}));
    expect(await listProfiles(site)).toEqual([]);
    mkdirSync(join(site.directory, 'profiles'));
    expect(await checkProfiles(site, [])).toEqual({ checked: [], problems: [], good: [] });
  });
});

const withScripts = (text: string): Record<string, string> => ({
  'profiles/base.yaml': `version: 1\nscripts:\n  - {name: paint, after: files}\n  - {name: more/sign, after: live}\n`,
  'profiles/one.yaml': `${profileText}extends: [base]\n${text}`,
  'scripts/paint': '#!/bin/sh\n',
  'scripts/more/sign': '#!/bin/sh\n',
  'scripts/third': '#!/bin/sh\n',
});

async function loadWith(text: string, executable = true): Promise<Profile> {
  const files = withScripts(text);
  const directory = siteWith(files);
  for (const file of Object.keys(files).filter((name) => name.startsWith('scripts/'))) {
    chmodSync(join(directory, file), executable ? 0o755 : 0o644);
  }
  return await loadProfile(await loadSite(directory), 'one');
}

describe('scripts', () => {
  test('are joined, those of one name merged, with defaults and the lines that ask for them', async () => {
    const { scripts } = await loadWith(
      'scripts:\n  - {name: third, after: configure, where: host}\n  - {name: paint, after: packages, timeout: 5}\n',
    );
    expect(scripts).toMatchObject([
      { name: 'paint', after: 'packages', where: 'system', timeoutSeconds: 5 },
      { name: 'more/sign', after: 'live', timeoutSeconds: 600, at: { line: 4, column: 12 } },
      { name: 'third', after: 'configure', where: 'host', timeoutSeconds: 600, at: { line: 8, column: 12 } },
    ]);
    expect(scripts[1]?.at.file).toMatch(/base\.yaml$/);
  });

  test('can be excluded by name', async () => {
    const { scripts } = await loadWith('exclude: {scripts: [paint]}\n');
    expect(scripts.map(({ name }) => name)).toEqual(['more/sign']);
  });

  test.each([
    [
      '{name: thrid, after: files}',
      'but scripts/thrid is no file; allowed: more, paint, third; did you mean third?',
    ],
    ['{name: more, after: files}', 'but scripts/more is no file'],
    ['{name: ../paint, after: files}', 'a file below scripts/'],
    ['{name: third, after: boot}', 'allowed: bootstrap, packages, files, configure, live'],
    ['{name: third}', 'after: is missing'],
    ['{name: third, after: files, timeout: 0}', 'a number of seconds from 1 to 86400'],
    ['{name: third, after: files, where: guest}', 'allowed: system, host'],
  ])('%s is refused', async (item, says) => {
    await expect(loadWith(`scripts:\n  - ${item}\n`)).rejects.toMatchObject({
      code: 'configuration',
      message: expect.stringContaining(says),
    });
  });

  test('must be executable', async () => {
    await expect(loadWith('', false)).rejects.toMatchObject({
      message: expect.stringMatching(/nobody may execute scripts\/paint: chmod \+x \//),
    });
  });
});

describe('keyboard', () => {
  test('is inherited as a whole: a variant belongs to its layout', async () => {
    const { keyboard } = await load({
      base: 'version: 1\nkeyboard: {layout: de, variant: nodeadkeys, options: [compose:menu]}\n',
      one: `${profileText}extends: [base]\nkeyboard: {layout: "us,ru"}\n`,
    });
    expect(keyboard).toEqual({ layout: 'us,ru' });
  });

  test.each(['{layout: "de; reboot"}', '{layout: ""}', '{variant: x}', '{layout: de, options: ["$(x):y"]}'])(
    '%s is refused',
    async (text) => {
      expect(await problemsOf({ one: `${profileText}keyboard: ${text}\n` })).toEqual([
        expect.stringMatching(/^one\.yaml:6:\d+: keyboard/),
      ]);
    },
  );
});

/** The packages that a profile's system consists of. */
async function packagesOf(one: string): Promise<string[]> {
  return wantedPackages(await load({ one })).map(({ name }) => name);
}

describe('luks', () => {
  test('cryptsetup is in images whose profile has a locked volume, and in no others', async () => {
    const text = `${profileText}persist: [{path: /srv, volume: DATA}]\n`;
    expect(await packagesOf(`${text}luks: [{volume: DATA, passphrase: true}]\n`)).toContain('cryptsetup-bin');
    expect((await packagesOf(text)).filter((name) => name.includes('crypt'))).toEqual([]);
  });

  const kept = 'persist: [{path: /srv, volume: DATA}, {path: /home, volume: KEYS}]\n';
  test('volumes are joined by their names', async () => {
    const { luks } = await load({
      base: 'version: 1\nluks: [{volume: DATA, passphrase: true}, {volume: OLD, passphrase: true}]\n',
      one: `${profileText}extends: [base]\nexclude: {luks: [OLD]}\n${kept}luks: [{volume: DATA, key: {volume: KEYS, file: /a.key}, timeout: 20}]\n`,
    });
    expect(luks).toEqual([
      { volume: 'DATA', passphrase: true, timeout: 20, key: { volume: 'KEYS', file: '/a.key' } },
    ]);
  });

  test.each([
    ['[{volume: DATA}]', '7:8: luks[0]: found a map; allowed: a key file, "passphrase: true", or both'],
    [
      '[{volume: DATA, key: {volume: DATA, file: /k}}]',
      '7:37: luks[0].key.volume: found "DATA"; allowed: another volume: this one is locked',
    ],
    [
      '[{volume: DATA, key: {volume: KEYS, file: /a/../k}}]',
      '7:49: luks[0].key.file: found "/a/../k"; allowed: a path without "." and ".."',
    ],
    [
      '[{volume: OTHER, passphrase: true}]',
      '7:17: luks[0].volume: found "OTHER"; allowed: a volume of persist, as it is named there; nothing is kept on OTHER',
    ],
    [
      '[{volume: DATA, key: {volume: KEYS, file: /k}}, {volume: KEYS, passphrase: true}]',
      '7:37: luks[0].key.volume: found "KEYS"; allowed: a volume that is not locked itself',
    ],
    [
      '[{volume: DATA, passphrase: true, timeout: 1}]',
      '7:50: luks[0].timeout: found the number 1; allowed: a number of seconds from 5 to 3600',
    ],
    [
      '[{volume: DATA, passphrase: true}, {volume: DATA, passphrase: true}]',
      '7:51: luks[1].volume: found "DATA"; allowed: each volume once',
    ],
  ])('%s is refused', async (list, problem) => {
    const problems = await problemsOf({ one: `${profileText}${kept}luks: ${list}\n` });
    expect(problems.map((line) => line.replace('one.yaml:', ''))).toEqual([problem]);
  });

  test('the identity of the machine is read before anything could be unlocked', async () => {
    const text = `${profileText}${kept}identity: {volume: DATA}\nluks: [{volume: DATA, passphrase: true}]\n`;
    expect(await problemsOf({ one: text })).toEqual([
      'one.yaml:7:20: identity.volume: found "DATA"; allowed: a volume that is not locked: it is read before anything could be unlocked',
    ]);
  });
});

describe('pull', () => {
  test('is for systems that have what fetches', async () => {
    const text = `${profileText}pull: {from: "http://server:3143/store", channel: stable}\n`;
    expect(await problemsOf({ one: text })).toEqual([
      'one.yaml:6:7: pull: found a map; allowed: only with "live: true", which brings the program that fetches',
    ]);
    expect((await load({ one: `${text}live: true\n` })).pull).toEqual({
      from: 'http://server:3143/store',
      channel: 'stable',
    });
  });

  test.each(['http://a:b@server/store', 'ftp://server/store', 'http://server/store/', 'server'])(
    'is from no %s',
    async (from) => {
      const [problem] = await problemsOf({ one: `${profileText}live: true\npull: {from: "${from}"}\n` });
      expect(problem).toContain('one.yaml:7:14: pull.from: ');
    },
  );
});

describe('persist', () => {
  test('is joined, what is kept of one path merged, with defaults', async () => {
    const { persist } = await load({
      base: 'version: 1\npersist:\n  - {path: /srv, volume: DATA, how: bind}\n  - {path: /home, volume: HOME}\n',
      one: `${profileText}extends: [base]\nexclude: {persist: [/home]}\npersist: [{path: /srv, volume: DATA, required: true}]\n`,
    });
    expect(persist).toEqual([
      { path: '/srv', volume: 'DATA', how: 'bind', seed: true, required: true, grow: false },
    ]);
  });

  test.each([
    ['/usr/share', 'a path that the system does not need to boot'],
    ['/etc', 'a path that the system does not need to boot'],
    ['/etc/systemd/system', 'a path that the system does not need to boot'],
    ['/var', 'a path that the system does not need to boot'],
    ['/run/x', 'a path that the system does not need to boot'],
    ['/', 'an absolute path'],
    ['srv', 'an absolute path'],
    ['/srv/', 'an absolute path'],
    ['/srv/../usr', 'a path without "." and ".."'],
    ['"/srv/a b"', 'an absolute path'],
  ])('%s is refused', async (path, says) => {
    expect(await problemsOf({ one: `${profileText}persist: [{path: ${path}, volume: DATA}]\n` })).toEqual([
      expect.stringContaining(says),
    ]);
  });

  test.each([
    [
      '[{path: /srv, volume: DATA}, {path: /srv/www, volume: DATA}]',
      'no path inside another one; /srv is kept already',
    ],
    ['[{path: /srv, volume: "a/b"}]', 'the label of a file system'],
    ['[{path: /srv, volume: A, mode: "0999"}]', 'a mode of three or four octal digits'],
    ['[{path: /srv, volume: A, owner: "x; reboot"}]', 'the name of a user'],
  ])('%s is refused', async (list, says) => {
    expect(await problemsOf({ one: `${profileText}persist: ${list}\n` })).toEqual([
      expect.stringContaining(says),
    ]);
  });

  test.each(['/usr/local/share', '/etc/ssh', '/var/lib/postgresql', '/home', '/root/.ssh', '/srv'])(
    '%s can be kept',
    async (path) => {
      expect(await problemsOf({ one: `${profileText}persist: [{path: ${path}, volume: DATA}]\n` })).toEqual(
        [],
      );
    },
  );
});

describe('host', () => {
  test('bare metal takes firmware from a component that a repository must have', async () => {
    const bare = profileText.replace('virtual-machine', 'bare-metal');
    expect(await problemsOf({ one: bare })).toEqual([
      expect.stringMatching(/^one\.yaml:4:7: host: .* non-free-firmware; .* "components" in relive\.yaml$/),
    ]);
    const directory = siteWith({
      'relive.yaml': siteText.replace('[main]', '[main, non-free-firmware]'),
      'profiles/one.yaml': bare,
    });
    expect((await loadProfile(await loadSite(directory), 'one')).host).toBe('bare-metal');
  });

  test('a container has no boot and no console', async () => {
    const box = profileText.replace('virtual-machine', 'container');
    expect(await problemsOf({ one: box })).toEqual([]);
    expect(
      await problemsOf({
        one: `${box}boot: {parameters: [quiet]}\nkeyboard: {layout: de}\npersist: [{path: /srv, volume: DATA}]\n`,
      }),
    ).toEqual([
      expect.stringMatching(/^one\.yaml:6:7: boot: /),
      expect.stringMatching(/^one\.yaml:7:11: keyboard: /),
      expect.stringMatching(/^one\.yaml:8:10: persist: /),
    ]);
  });

  test('i386 ended with bookworm', async () => {
    const trixie = profileText.replace('amd64', 'i386');
    expect(await problemsOf({ one: trixie })).toEqual([
      expect.stringMatching(/^one\.yaml:3:15: architecture: found "i386", .*bookworm"$/),
      expect.stringContaining('which has no i386 in relive.yaml'),
    ]);
    const directory = siteWith({
      'relive.yaml': siteText.replace('[amd64]', '[i386]'),
      'profiles/one.yaml': trixie.replace('trixie', 'bookworm'),
    });
    expect((await loadProfile(await loadSite(directory), 'one')).architecture).toBe('i386');
  });
});
