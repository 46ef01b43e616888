import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import { loadSite, suitesFor } from '../../../src/site/site.ts';
import { endsWell, siteText, siteWith, temporary } from './support.ts';

async function messageFor(text: string): Promise<string> {
  const directory = siteWith({ 'relive.yaml': text });
  try {
    await loadSite(directory);
    return '';
  } catch (error) {
    if (!isReliveError(error, 'configuration')) throw error;
    return error.message.replaceAll(`${directory}/`, '');
  }
}

describe('loadSite', () => {
  test('gives absolute paths and repositories', async () => {
    const directory = siteWith({});
    const site = await loadSite(directory);
    expect(site).toMatchObject({
      directory,
      store: join(directory, 'store'),
      mirror: join(directory, 'mirror'),
      cache: join(directory, '.relive/cache'),
      keys: join(directory, 'keys'),
    });
    expect(site.repositories['debian']).toEqual({
      name: 'debian',
      url: ['http://ftp.debian.org/debian'],
      suites: ['trixie', 'trixie-updates', 'bookworm'],
      components: ['main'],
      architectures: ['amd64'],
      signedBy: join(directory, 'keys/archive.gpg'),
      signedByAt: { file: join(directory, 'relive.yaml'), line: 8, column: 15 },
    });
  });

  test('takes paths elsewhere', async () => {
    const directory = siteWith({ 'relive.yaml': `store: /srv/store\nmirror: ../mirror\n${siteText}` });
    const site = await loadSite(directory);
    expect([site.store, site.mirror]).toEqual(['/srv/store', join(directory, '../mirror')]);
  });

  test('takes media by label, UUID and path, and a program for reports', async () => {
    expect((await loadSite(siteWith({}))).refresh).toEqual({ media: [], report: undefined });
    const refresh = `refresh:
  media: [KIOSK, UUID=1111-2222, ./lab.img, {medium: /dev/disk/by-id/usb-0:0, images: [kiosk]}]
  report: [scripts/mail, --to, "a b"]
`;
    const directory = siteWith({ 'relive.yaml': `${siteText}${refresh}` });
    expect((await loadSite(directory)).refresh).toEqual({
      media: [
        { medium: 'KIOSK', images: [] },
        { medium: 'UUID=1111-2222', images: [] },
        { medium: join(directory, 'lab.img'), images: [] },
        { medium: '/dev/disk/by-id/usb-0:0', images: ['kiosk'] },
      ],
      report: [join(directory, 'scripts/mail'), '--to', 'a b'],
    });
    const refused = await messageFor(`${siteText}refresh: {media: [a b], report: []}\n`);
    expect(refused).toContain('a program, and its arguments');
    expect(refused).toMatch(/^relive\.yaml:\d+:19: refresh\.media\[0\]: found "a b"/m);
  });

  test('takes what the menu is like', async () => {
    expect((await loadSite(siteWith({}))).menu).toEqual({ timeoutSeconds: 3, keyboard: undefined });
    const menu = 'menu: {timeout: 0, keyboard: {layout: de, variant: nodeadkeys}}\n';
    expect((await loadSite(siteWith({ 'relive.yaml': siteText + menu }))).menu).toEqual({
      timeoutSeconds: 0,
      keyboard: { layout: 'de', variant: 'nodeadkeys' },
    });
    const refused = await messageFor(`${siteText}menu: {timeout: 9999, keyboard: {layout: "de -x"}}\n`);
    expect(refused).toMatch(/menu\.timeout: found the number 9999; allowed: a number of seconds/);
    expect(refused).toMatch(/menu\.keyboard\.layout: found "de -x"; allowed: a name of XKB/);
  });

  test('says what a directory without relive.yaml lacks', async () => {
    await expect(loadSite(temporary())).rejects.toMatchObject({
      code: 'configuration',
      message: expect.stringContaining('is not a site'),
      hint: expect.stringContaining('relive init'),
    });
    await expect(loadSite('/nowhere/at/all')).rejects.toMatchObject({ code: 'configuration' });
  });

  test.skipIf(process.geteuid?.() === 0)('says that a file may not be read', async () => {
    const directory = siteWith({});
    chmodSync(join(directory, 'relive.yaml'), 0);
    await expect(loadSite(directory)).rejects.toThrow('cannot be read (EACCES)');
  });

  test('names all problems at once, each with its place and what is allowed', async () => {
    const text = siteText
      .replace('version: 1', 'version: "1"\nstroe: x')
      .replace('[main]', 'main')
      .replace('signedBy', 'signedby')
      .replace('http://ftp', 'htp://ftp');
    expect((await messageFor(text)).split('\n')).toEqual([
      'relive.yaml:1:10: version: found "1"; allowed: 1; did you mean 1 without quotes?',
      'relive.yaml:2:1: stroe: found an unknown key; allowed: version, store, mirror, cache, keys, repositories, refresh, menu; did you mean store?',
      'relive.yaml:5:5: repositories.debian.signedBy: is missing; allowed: a text',
      'relive.yaml:5:11: repositories.debian.url[0]: found "htp://ftp.debian.org/debian/"; allowed: the http, https, rsync or file address of an archive, without user, password, query and fragment',
      'relive.yaml:7:17: repositories.debian.components: found "main"; allowed: a list',
      'relive.yaml:9:5: repositories.debian.signedby: found an unknown key; allowed: url, suites, components, architectures, signedBy, fingerprints, override, select, filters, kinds, optional, languages, compressions, missing, engine, transport, keep; did you mean signedBy?',
    ]);
  });

  test.each([
    ['version: 2\nrepositories: {}\n', '1:10: version: found the number 2; allowed: 1'],
    ['- a\n', '1:1: found a list; allowed: a map'],
    [
      'version: 1\nrepositories: {Debian: {}}\n',
      '2:16: repositories.Debian: found "Debian"; allowed: a name',
    ],
    ['version: 1\nrepositories:\n', '2:14: repositories: found nothing; allowed: a map'],
    ['version: 1\nrepositories: {}\nstore: mirror/x\n', '3:8: store: '],
    ['version: 1\nrepositories: {}\nstore: mirror\n', '3:8: '],
    ['version: 1\nrepositories: {}\nstore: "a\\nb"\n', '3:8: store: found "a\\nb"; allowed: a path without'],
    ['version: 1\nrepositories: {}\nselect: closure\n', '3:1: select: found an unknown key'],
  ])('refuses %j', async (text, problem) => {
    expect(await messageFor(text)).toMatch(
      new RegExp(`^relive\\.yaml:${problem.replaceAll(/[\\[\](){}"]/g, '\\$&')}`),
    );
  });

  test('throws nothing but ReliveError, whatever the text', async () => {
    const directory = siteWith({});
    const part = fc.constantFrom(
      ...siteText.split(/(?<=\W)|(?=\W)/),
      '[',
      '{',
      '\n',
      '- ',
      '&a',
      '*a',
      '"',
      '\u0000',
    );
    const mutated = fc
      .tuple(fc.nat(siteText.length), fc.nat(20), fc.array(part, { maxLength: 6 }))
      .map(([at, gone, parts]) => siteText.slice(0, at) + parts.join('') + siteText.slice(at + gone));
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, fc.string()), async (text) => {
        writeFileSync(join(directory, 'relive.yaml'), text);
        expect(await endsWell(loadSite(directory))).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});

test('suitesFor leaves out other releases of Debian', async () => {
  const { repositories } = await loadSite(siteWith({}));
  const debian = repositories['debian'];
  if (debian === undefined) throw new Error('no repository');
  expect(suitesFor(debian, 'trixie')).toEqual(['trixie', 'trixie-updates']);
  expect(suitesFor(debian, 'bookworm')).toEqual(['bookworm']);
  expect(suitesFor({ ...debian, suites: ['stable', 'nodistro', 'sid'] }, 'trixie')).toEqual([
    'stable',
    'nodistro',
  ]);
});
