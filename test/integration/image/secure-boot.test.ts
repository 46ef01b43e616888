import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand, succeed } from '../../fixtures/command.ts';
import { freshSite, removeSite, type TestSite } from '../../fixtures/site.ts';

let site: TestSite;
beforeAll(async () => {
  site = await freshSite({ cache: true });
  appendFileSync(join(site.directory, 'profiles/demo.yaml'), '  secureBoot: true\n');
});
afterAll(() => removeSite(site));

test('the kernel of an image for Secure Boot is signed with db, and another db makes another image', async () => {
  const here = { site: site.directory };
  const early = await runCommand(['build', 'demo', '--offline'], here);
  expect(early).toMatchObject({ status: 2, last: { code: 'not-found' } });
  expect(early.last?.['hint']).toContain('relive keys create --secure-boot');

  const built = async (): Promise<string> => {
    await succeed(['build', 'demo', '--offline'], here);
    const { last } = await succeed(['image', 'show', 'demo'], here);
    expect(last).toMatchObject({ manifest: { boot: { secureBoot: true } } });
    const { directory } = last as unknown as { directory: string };
    // Its db, and nobody else, has signed it besides Debian.
    const db = join(site.keys, 'secure-boot/db.crt');
    execFileSync('sbverify', ['--cert', db, join(directory, 'vmlinuz')], { stdio: 'pipe' });
    return directory;
  };
  await succeed(['keys', 'create', '--secure-boot'], here);
  const first = await built();
  expect(await built()).toBe(first);
  await succeed(['keys', 'create', '--secure-boot', '--replace'], here);
  expect(await built()).not.toBe(first);
  await succeed(['image', 'verify'], here);
});
