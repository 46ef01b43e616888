import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loadSite } from '../../../src/site/site.ts';

const cli = join(import.meta.dirname, '../../../dist/cli.cjs');
let directory = '';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'relive-init-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Runs `relive init` where `path` of the host is hidden, in a mount namespace of its own. */
function initWithout(path: string, hide: string): { status: number | null; stderr: string } {
  const script = `mount --bind ${hide} "$1" && shift && exec "$@"`;
  return spawnSync(
    'unshare',
    ['--mount', '--', 'sh', '-c', script, 'sh', path, process.execPath, cli, 'init', join(directory, 'site')],
    { encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } },
  );
}

describe('relive init on this host', () => {
  test("takes the address that the host's own apt uses", async () => {
    execFileSync(process.execPath, [cli, 'init', join(directory, 'site')], { stdio: 'pipe' });
    const { repositories } = await loadSite(join(directory, 'site'));
    const known = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI)'], { encoding: 'utf8' });
    expect(known.split('\n')).toContain(`${repositories['debian']?.url[0] ?? ''}/`);
  });

  test('without apt demands --archive', () => {
    const { status, stderr } = initWithout('/usr/bin/apt-get', '/dev/null');
    expect(status).toBe(2);
    expect(stderr).toContain('relive init --archive');
    expect(readdirSync(directory)).toEqual([]);
  });

  test("without Debian's keys names the package that brings them", () => {
    const { status, stderr } = initWithout('/usr/share/keyrings', directory);
    expect(status).toBe(2);
    expect(stderr).toContain('apt-get install debian-archive-keyring');
    expect(readdirSync(directory)).toEqual([]);
  });
});
