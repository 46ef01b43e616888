import { chownSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CommandEnd, runCommand } from '../fixtures/command.ts';
import { throughNobody } from '../fixtures/nobody.ts';
import { freshSite, removeSite, type TestSite } from '../fixtures/site.ts';

let site: TestSite;
let home: string;

beforeAll(async () => {
  site = await freshSite({ store: true });
  home = join(site.directory, 'home');
  mkdirSync(home);
  const top = dirname(site.directory);
  chownSync(top, 65_534, 65_534);
  for (const name of readdirSync(top, { recursive: true, encoding: 'utf8' })) {
    const path = join(top, name);
    chownSync(path, 65_534, 65_534);
  }
});
afterAll(() => removeSite(site));

const asNobody = async (...args: readonly string[]): Promise<CommandEnd> =>
  await runCommand(args, {
    site: site.directory,
    cwd: site.directory,
    through: throughNobody,
    env: { HOME: home },
  });

describe('without root', () => {
  // SECURITY.md lists these.
  test.each([
    'profile list',
    'profile check',
    'profile show demo',
    'keys create --replace',
    'keys create --secure-boot',
    'keys enroll enrol',
    'keys list',
    'keys export',
    'image list',
    'image show demo',
    'image verify',
    'image sbom demo --output sbom.json',
    'image pin demo',
    'image unpin demo',
    'image export demo --iso',
    'image export demo --bundle demo.bundle',
    'image import demo.bundle --plan',
    'image prune --plan',
    'channel set stable demo',
    'channel list',
    'mirror list',
    'medium create lab.img --size 2G --yes',
    'medium sync lab.img',
    'medium menu store',
  ])('relive %s', async (line) => {
    expect(await asNobody(...line.split(' '))).toMatchObject({ status: 0 });
  });

  test.each([
    'build demo',
    'update demo',
    'update demo --plan',
    'image diff demo',
    'image flatten demo',
    'image export demo --tar demo.tar',
    'image export demo --oci demo.oci',
    'refresh',
    'live status',
    'live apply',
  ])('relive %s is refused before anything is done', async (line) => {
    expect(await asNobody(...line.split(' '))).toMatchObject({ status: 2, last: { code: 'not-root' } });
  });
});
