import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkProfiles, loadProfile } from '../../../src/site/profile.ts';
import { loadSite } from '../../../src/site/site.ts';
import { repository } from '../../support.ts';
import { relive, siteText, siteWith, temporary } from './support.ts';

const names = readdirSync(join(repository, 'profiles')).toSorted();
/** A site with what `relive init` gives one. */
const withSecurity = `${siteText.replace('[main]', '[main, non-free-firmware]')}  debian-security:
    url: [http://ftp.debian.org/debian-security/]
    suites: [trixie-security]
    components: [main]
    architectures: [amd64]
    signedBy: keys/archive.gpg
`;

test('these ship', () => {
  expect(names).toEqual(['demo', 'desktop', 'factory', 'kiosk', 'minimal', 'rescue', 'server']);
});

test.each(names)('%s can be extended from a site that does not have it', async (name) => {
  const directory = siteWith({
    'relive.yaml': withSecurity,
    'profiles/mine.yaml': `version: 1\nextends: [${name}]\npackages: [hello]\n`,
  });
  const site = await loadSite(directory);
  expect((await checkProfiles(site, [])).problems).toEqual([]);
  const profile = await loadProfile(site, 'mine');
  expect(profile.packages.map((each) => each.name)).toContain('hello');
  expect(profile.overlays).toContain(join(repository, 'profiles', name, 'overlay'));
});

test('what the site has of that name comes first', async () => {
  const directory = siteWith({
    'relive.yaml': withSecurity,
    'profiles/minimal.yaml': 'version: 1\nhostname: ours\noverlay: minimal\n',
    'overlays/minimal/file': '',
    'profiles/mine.yaml': 'version: 1\nextends: [server]\n',
  });
  const site = await loadSite(directory);
  await expect(loadProfile(site, 'mine')).resolves.toMatchObject({
    hostname: 'ours',
    overlays: [join(directory, 'overlays/minimal'), join(repository, 'profiles/server/overlay')],
  });
});

test('a shipped profile is no profile of the site', async () => {
  const site = await loadSite(siteWith({ 'relive.yaml': withSecurity }));
  await expect(loadProfile(site, 'server')).rejects.toMatchObject({ code: 'not-found' });
});

test.each(names)('relive init --profile %s makes a site that passes its check', async (name) => {
  const cwd = temporary();
  const made = await relive(
    ['init', 'site', '--profile', name, '--archive', 'http://ftp.debian.org/debian'],
    { cwd },
  );
  expect(made.status).toBe(0);
  // All that it builds on is in the site: nothing changes there with another relive.
  const directory = join(cwd, 'site');
  const profiles = readdirSync(join(directory, 'profiles')).map((file) => file.replace('.yaml', ''));
  const extended = ['demo', 'minimal'].includes(name) ? [name] : ['minimal', name];
  expect(profiles.toSorted()).toEqual(extended.toSorted());
  for (const each of extended) {
    const overlay = join(repository, 'profiles', each, 'overlay');
    for (const path of readdirSync(overlay, { recursive: true, encoding: 'utf8', withFileTypes: true })) {
      if (!path.isFile()) continue;
      const file = join(path.parentPath, path.name);
      const copy = join(directory, 'overlays', each, file.slice(overlay.length));
      expect(readFileSync(copy).equals(readFileSync(file))).toBe(true);
    }
  }
  expect((await relive(['profile', 'check', name, '--site', directory], { cwd })).status).toBe(0);
});
