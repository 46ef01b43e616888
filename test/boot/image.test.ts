import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../fixtures/command.ts';
import { type BuiltSite, builtSite } from '../fixtures/site.ts';
import { temporaryDirectory } from '../support.ts';

let site: BuiltSite;
let scratch: string;
let iso: string;

beforeAll(async () => {
  site = await builtSite();
  scratch = mkdtempSync(join(tmpdir(), 'relive-test-'));
  iso = join(scratch, 'demo.iso');
  const { status, last } = await runCommand(['image', 'export', 'demo', '--iso', iso], {
    site: site.directory,
  });
  if (status !== 0) throw new Error(`image export ended with status ${status}: ${JSON.stringify(last)}`);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('the ISO of the demo', () => {
  test('is one for xorriso: bootable by BIOS and UEFI, from a disc and a stick', () => {
    const report = execFileSync(
      'xorriso',
      ['-indev', iso, '-report_el_torito', 'plain', '-report_system_area', 'plain'],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    expect(report).toMatch(/El Torito boot img :\s+1\s+BIOS/);
    expect(report).toMatch(/El Torito boot img :\s+2\s+UEFI/);
    expect(report).toContain('GPT');
  });

  test('made twice it has the same bytes', async () => {
    const other = join(temporaryDirectory(), 'another.iso');
    await runCommand(['image', 'export', 'demo', '--iso', other], { site: site.directory });
    expect(execFileSync('cmp', [iso, other], { encoding: 'utf8' })).toBe('');
    rmSync(other);
  });

  test.each(['bios', 'uefi'])('boots by %s to the line that says it is healthy', async (firmware) => {
    const directory = temporaryDirectory();
    const log = join(directory, 'console.log');
    const picture = join(directory, 'screen.png');
    const { status, last } = await runCommand(
      [
        ...['vm', iso, '--accel', 'tcg', '--firmware', firmware, '--timeout', '600'],
        ...['--log', log, '--screenshot', picture],
      ],
      { site: site.directory },
    );
    expect(last).toMatchObject({ event: 'result', ok: true, image: site.image });
    expect(status).toBe(0);
    const console = readFileSync(log, 'utf8');
    expect(console).toContain(`relive: healthy ${site.image}`);
    expect(console).toContain('demo login:');
    expect(readFileSync(picture).subarray(1, 4).toString()).toBe('PNG');
  });
});
