import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import { bootConfiguration, kernelCommandLine } from '../../../src/image/boot-entry.ts';
import { type BootManifest, formatManifest } from '../../../src/image/manifest.ts';
import { temporaryDirectory } from '../../support.ts';
import { exampleManifest } from './example.ts';

function withParameters(...parameters: readonly string[]): BootManifest {
  return { ...exampleManifest, boot: { ...exampleManifest.boot, parameters: [...parameters] } };
}

const configurationOf = (manifest: BootManifest): string =>
  bootConfiguration(manifest, formatManifest(manifest));

/** The arguments that a shell gives to `relive_boot`: its single quotes are GRUB's, and nothing else is special in them. */
function wordsOfEntry(configuration: string): string[] {
  const line = configuration.split('\n').find((each) => each.startsWith('  relive_boot ')) ?? '';
  const script = `relive_boot() { printf '%s\\n' "$@"; }\n${line}\n`;
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\n').slice(1, -1);
}

/** The last words of the kernel line, or that there is none. */
function wordsOrRefusal(manifest: BootManifest, count: number): string[] | 'refused' {
  try {
    return wordsOfEntry(configurationOf(manifest)).slice(-count);
  } catch (error) {
    if (isReliveError(error, 'configuration')) return 'refused';
    throw error;
  }
}

describe('the command line', () => {
  test('names image and manifest, so that the signature of boot.cfg carries both', () => {
    const text = formatManifest(exampleManifest);
    const digest = createHash('sha256').update(text).digest('hex');
    expect(kernelCommandLine(exampleManifest, text)).toEqual([
      'boot=live',
      'module=demo-20261122.01',
      'relive.image=demo-20261122.01',
      `relive.manifest=sha256:${digest}`,
      'console=tty0',
      'console=ttyS0,115200n8',
      'quiet',
    ]);
  });

  test("the profile's consoles take the place of the usual ones", () => {
    const line = kernelCommandLine(withParameters('console=tty1'), '');
    expect(line.filter((word) => word.startsWith('console='))).toEqual(['console=tty1']);
  });
});

describe('boot.cfg', () => {
  test('is a menu entry for the medium, and one for RAM', () => {
    const lines = configurationOf(exampleManifest).split('\n');
    expect(lines[0]).toBe(
      `menuentry 'demo-20261122.01 (trixie amd64, full)' --unrestricted --id 'demo-20261122.01' "$relive_root" "$relive_dir" {`,
    );
    expect(lines[1]).toMatch(/^ {2}relive_boot "\$2" "\$3" 'boot=live' /);
    expect(lines[1]).not.toContain('relive.ram');
    expect(lines[3]).toBe(
      `menuentry 'demo-20261122.01, copied to RAM' --unrestricted --id 'demo-20261122.01-ram' "$relive_root" "$relive_dir" {`,
    );
    expect(lines[4]).toBe(
      lines[1]?.replace(/( 'relive.manifest=\S+)/, "$1 'relive.ram=layers'") ?? 'no first entry',
    );
    expect(lines.slice(5)).toEqual(['}', '']);
  });

  test('is one entry where the profile has the image run from RAM', () => {
    const boot = { ...exampleManifest.boot, ram: 'unpacked' } as const;
    const lines = configurationOf({ ...exampleManifest, boot }).split('\n');
    expect(lines[1]).toContain(" 'relive.ram=unpacked' ");
    expect(lines.slice(2)).toEqual(['}', '']);
  });

  test.each(['a"b', 'a$b', '$(reboot)', '`reboot`', 'a;b', 'a\\', '}', '{', '#x', '*', 'a b', '||'])(
    '%j reaches the kernel as it is',
    (parameter) => {
      expect(wordsOfEntry(configurationOf(withParameters(parameter))).at(-1)).toBe(parameter);
    },
  );

  test.each(["a'b", "'; reboot; '", 'a\nb', 'a\rb'])('%j is refused', (parameter) => {
    expect(() => configurationOf(withParameters(parameter))).toThrow(
      expect.objectContaining({
        code: 'configuration',
        message: expect.stringContaining(JSON.stringify(parameter)),
      }),
    );
  });

  test('whatever a parameter is, it is one word of the kernel line, or refused', () => {
    const word = fc.string({ minLength: 1, unit: 'grapheme-ascii' });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 3 }), (parameters) => {
        expect(wordsOrRefusal(withParameters(...parameters), parameters.length)).toEqual(
          parameters.join('').includes("'") ? 'refused' : parameters,
        );
      }),
      { numRuns: 40 },
    );
  });

  test('GRUB itself finds no fault in it', () => {
    const file = join(temporaryDirectory(), 'boot.cfg');
    writeFileSync(file, configurationOf(withParameters('$(x)', 'a;b', '"', '}', 'root=/dev/x')));
    expect(execFileSync('grub-script-check', [file], { encoding: 'utf8' })).toBe('');
  });
});
