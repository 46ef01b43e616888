import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isReliveError } from '../../../src/core/error.ts';
import {
  bootChecksums,
  bootConfiguration,
  bootSumsFile,
  kernelCommandLine,
  loopbackConfiguration,
} from '../../../src/image/boot-entry.ts';
import { type BootManifest, formatManifest } from '../../../src/image/manifest.ts';
import { temporaryDirectory } from '../../support.ts';
import { exampleManifest } from './example.ts';

function withParameters(...parameters: readonly string[]): BootManifest {
  return { ...exampleManifest, boot: { ...exampleManifest.boot, parameters: [...parameters] } };
}

const configurationOf = (manifest: BootManifest): string =>
  bootConfiguration(manifest, formatManifest(manifest));

/** The arguments that a shell gives to `relive_image`: its single quotes are GRUB's, and nothing else is special in them. */
function wordsOfEntry(configuration: string): string[] {
  const script = `relive_image() { printf '%s\\n' "$@"; }\n${configuration}`;
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\n').slice(0, -1);
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
  test('says what the image is, where it runs from, and the command line', () => {
    const text = formatManifest(exampleManifest);
    expect(wordsOfEntry(bootConfiguration(exampleManifest, text))).toEqual([
      'demo-20261122.01',
      '2026-11-22, full, 103 MB, trixie amd64',
      'none',
      ...kernelCommandLine(exampleManifest, text),
    ]);
    const boot = { ...exampleManifest.boot, ram: 'unpacked' } as const;
    expect(wordsOfEntry(configurationOf({ ...exampleManifest, boot }))[2]).toBe('unpacked');
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

const digestOf = (content: string, algorithm = 'sha256'): string =>
  createHash(algorithm).update(content).digest('hex');

test.each([undefined, 'sha512'] as const)('the list of checksums is what %ssum checks', (checksum) => {
  const directory = temporaryDirectory();
  const boot = { ...exampleManifest.boot, ...(checksum === undefined ? {} : { checksum }) };
  const digests = (content: string) => ({
    digest: digestOf(content),
    ...(checksum === undefined ? {} : { sha512: digestOf(content, checksum) }),
  });
  const text = formatManifest(exampleManifest);
  const files = {
    'boot.cfg': bootConfiguration(exampleManifest, text),
    'manifest.json': text,
    vmlinuz: 'a kernel',
    'initrd.img': 'an initrd',
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  const sums = bootChecksums(
    {
      ...exampleManifest,
      boot,
      kernel: { ...exampleManifest.kernel, ...digests(files.vmlinuz) },
      initrd: { ...exampleManifest.initrd, ...digests(files['initrd.img']) },
    },
    text,
  );
  const output = execFileSync(`${checksum ?? 'sha256'}sum`, ['--check', '--strict'], {
    cwd: directory,
    input: sums,
    encoding: 'utf8',
  });
  expect(bootSumsFile(boot)).toBe(`boot.${checksum ?? 'sha256'}`);
  expect(output).toBe('boot.cfg: OK\nmanifest.json: OK\nvmlinuz: OK\ninitrd.img: OK\n');
});

describe('loopback.cfg', () => {
  const directory = '/images/demo/20261122.01';
  const textOf = (manifest: BootManifest): string =>
    loopbackConfiguration(manifest, formatManifest(manifest), directory);

  test('is for any GRUB: no function of ours, and the ISO is named to the system', () => {
    const lines = textOf(exampleManifest).split('\n');
    expect(lines.filter((line) => line.startsWith('menuentry'))).toHaveLength(2);
    const kernels = lines.filter((line) => line.startsWith('  linux '));
    expect(kernels).toHaveLength(2);
    for (const line of kernels) {
      expect(line).toMatch(
        /^ {2}linux '\/images\/demo\/20261122.01\/vmlinuz' 'boot=live' .* findiso="\$iso_path"$/,
      );
    }
    expect(kernels[0]).not.toContain('relive.ram');
    expect(kernels[1]).toContain(" 'relive.ram=layers' ");
    expect(lines.join('\n')).not.toMatch(/relive_/);
  });

  test('has one entry where the profile has the image run from RAM', () => {
    const boot = { ...exampleManifest.boot, ram: 'unpacked' } as const;
    expect(textOf({ ...exampleManifest, boot }).match(/^menuentry/gm)).toHaveLength(1);
    expect(textOf({ ...exampleManifest, boot })).toContain(" 'relive.ram=unpacked' ");
  });

  test('GRUB itself finds no fault in it', () => {
    const file = join(temporaryDirectory(), 'loopback.cfg');
    writeFileSync(file, textOf(withParameters('$(x)', 'a;b', '"', '}')));
    expect(execFileSync('grub-script-check', [file], { encoding: 'utf8' })).toBe('');
  });
});
