import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { siteYaml } from '../../src/site/init.ts';

const archives = {
  debian: 'http://ftp.debian.org/debian',
  security: 'http://security.debian.org/debian-security',
};

/**
 * A site and a profile to show, as `relive init` makes them of the profile demo.
 * @param root the checkout
 * @returns the texts of relive.yaml and of profiles/demo.yaml
 */
export async function exampleFiles(
  root: string,
): Promise<{ readonly site: string; readonly profile: string }> {
  return {
    site: siteYaml('trixie', 'amd64', archives),
    profile: await readFile(join(root, 'profiles/demo/profile.yaml'), 'utf8'),
  };
}
