import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';

/** A keyring that exists is all that loading needs; its content is the mirror's business. */
const keyring = 'keys/archive.gpg';

export const siteText = `version: 1
repositories:
  debian:
    url: [http://ftp.debian.org/debian/]
    suites: [trixie, trixie-updates, bookworm]
    components: [main]
    architectures: [amd64]
    signedBy: ${keyring}
`;

export const profileText = `version: 1
suite: trixie
architecture: amd64
host: virtual-machine
repositories: [debian]
`;

export function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), 'relive-site-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A site with these files besides a good relive.yaml; removed when the test has ended. */
export function siteWith(files: Readonly<Record<string, string | Uint8Array>>): string {
  const directory = temporary();
  for (const [path, content] of Object.entries({ 'relive.yaml': siteText, [keyring]: 'key', ...files })) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
}

/** Runs the compiled command line to its end. */
export async function relive(
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
  const cli = join(import.meta.dirname, '../../../dist/cli.cjs');
  return await new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [cli, ...args],
      { cwd: options.cwd, env: { ...process.env, NO_COLOR: '1', ...options.env } },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number') reject(error);
        else resolve({ status: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
      },
    );
  });
}

/** The objects of `--json`, one a line. */
export function jsonLines(output: string): Record<string, unknown>[] {
  return output
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Whether work ends with a value or with a ReliveError for wrong configuration; anything else that it throws is thrown. */
export async function endsWell(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (isReliveError(error, 'configuration')) return true;
    throw error;
  }
}
